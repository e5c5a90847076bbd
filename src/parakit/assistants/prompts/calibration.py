"""Prompts with a list of choices: the likeliest is the answer; calibrated, its advantage without any input is taken out.

Contextual calibration (Zhao et al. 2021, "Calibrate before use", section 4): the probabilities of the choices are divided by
those of the same prompt with content-free inputs (their mean over "N/A", "[MASK]" and an empty text), and normalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from parakit.assistants.prompts.prompt import PromptTemplate
from parakit.assistants.prompts.replies import PromptAnswer, PromptRequest
from parakit.common.errors import UserError
from parakit.common.settings import canonical_json
from parakit.data.conversations.messages import Message

if TYPE_CHECKING:
    from parakit.inference.chat_models.chat_model import ChatModel

CONTENT_FREE = ("N/A", "[MASK]", "")


def choose_answers(
    model: ChatModel, prompt: PromptTemplate, requests: Sequence[PromptRequest], *, calibrate: bool
) -> list[PromptAnswer]:
    """The likeliest choice for each request; None where the conversation is too long or the model wrote no choice."""
    conversations = [request.messages(prompt) for request in requests]
    scores = model.score_choices(conversations, prompt.answer_choices)
    prior = np.ones(len(prompt.answer_choices))
    n_extra = 0
    if calibrate:
        shown = list({canonical_json(request.examples): request.examples for request in requests}.values())
        if len(shown) > 1:
            raise UserError(
                f"{prompt.name}: items have different examples, and each would have its own calibration",
                "choose examples at random, or leave the calibration out",
            )
        blank = [prompt.messages(dict.fromkeys(prompt.required, text), shown[0]) for text in CONTENT_FREE]
        found = [one for one in model.score_choices(blank, prompt.answer_choices) if one is not None]
        if not found:
            raise UserError(
                f"{prompt.name}: the model gave no choice to an empty input", "leave the calibration out"
            )
        prior = np.mean(found, axis=0)
        n_extra = sum(count_tokens(model, one) for one in blank)
    answers = []
    for messages, row in zip(conversations, scores, strict=True):
        answer = None if row is None else prompt.answer_choices[int(np.argmax(calibrated(row, prior)))]
        n_tokens = count_tokens(model, messages) + round(n_extra / len(requests))
        answers.append(PromptAnswer(answer, answer, "", n_tokens, 0, False))
    return answers


def calibrated(probabilities: Sequence[float], prior: np.ndarray) -> np.ndarray:
    """Probabilities (C,) divided by those of content-free inputs (C,), normalised."""
    found = np.asarray(probabilities, float) / np.maximum(prior, 1e-12)
    return np.asarray(found / found.sum())


def count_tokens(model: ChatModel, messages: Sequence[Message]) -> int:
    """The tokens of a conversation; of an endpoint an estimate."""
    from parakit.assistants.retrieval.asking import token_counter

    count, _ = token_counter(model)
    return count(messages)
