"""Prompts with a list of choices: the likeliest is the answer; calibrated, its advantage without any input is taken out.

Contextual calibration (Zhao et al. 2021, "Calibrate before use", section 4): the probabilities of the choices are divided by
those of the same prompt with content-free inputs (their mean over "N/A", "[MASK]" and an empty text), and normalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class ContentFree:
    """What a prompt gives without any input: `probabilities` of its choices (C,), and `n_tokens` that were read for it."""

    probabilities: np.ndarray
    n_tokens: int


def content_free(model: ChatModel, prompt: PromptTemplate, requests: Sequence[PromptRequest]) -> ContentFree:
    """The mean over `CONTENT_FREE`. `UserError` where requests differ in their examples, and where no choice was given."""
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
    return ContentFree(np.mean(found, axis=0), sum(count_tokens(model, one) for one in blank))


def choose_answers(
    model: ChatModel,
    prompt: PromptTemplate,
    requests: Sequence[PromptRequest],
    prior: ContentFree | None = None,
    n_extra_tokens: int = 0,
) -> list[PromptAnswer]:
    """The likeliest choice for each request, calibrated where there is a `prior`; None where the conversation is too long
    or the model wrote no choice. `n_extra_tokens` are counted to every prompt.
    """
    conversations = [request.messages(prompt) for request in requests]
    scores = model.score_choices(conversations, prompt.answer_choices)
    weights = np.ones(len(prompt.answer_choices)) if prior is None else prior.probabilities
    answers = []
    for messages, row in zip(conversations, scores, strict=True):
        answer = None if row is None else prompt.answer_choices[int(np.argmax(calibrated(row, weights)))]
        n_tokens = count_tokens(model, messages) + n_extra_tokens
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
