"""Logits and log-likelihoods of a given text.

A completion is encoded by itself, as it would be inside a text, and its ids follow the prompt's: the prompt's tokens do
not depend on the completion, and no token spans the seam. After a conversation the completion is the content of the
assistant's turn, in the chat template. Text never becomes a control token.

Shapes: T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import compress

import torch

from parakit.data.conversations.conversation import Message
from parakit.inference.batching import evaluation_mode, require_finite
from parakit.inference.capabilities import require_capability
from parakit.inference.engine.scoring import score_continuations
from parakit.inference.generation.completion import check_ids, check_prompt
from parakit.inference.generation.text import Prompt, context_ids, prompt_ids
from parakit.inference.prediction.batches import encode_texts
from parakit.model.heads import LanguageModel, MaskedLanguageModel
from parakit.model.precision import at_least_float32
from parakit.tokens.chat.template import compile_chat
from parakit.tokens.tokenizer.tokenizer import Tokenizer


@torch.inference_mode()
def logits_of(model: LanguageModel | MaskedLanguageModel, token_ids: Sequence[int]) -> torch.Tensor:
    """Logits (T, V) of one sequence, in float32 or better, on the model's device.

    Row t of a decoder predicts token t + 1, row t of an encoder token t. Raises `UserError` for no tokens, more than
    `max_seq_len`, ids outside the vocabulary, and a model without such logits.
    """
    require_capability(model, "logits")
    check_prompt(len(token_ids), model.config.max_seq_len)
    check_ids(token_ids, model.config.vocab_size)
    with evaluation_mode(model):
        logits = model(torch.tensor([token_ids], device=next(model.parameters()).device))[0]
    return require_finite(at_least_float32(logits), "logits")


def input_ids_of(model: LanguageModel | MaskedLanguageModel, tokenizer: Tokenizer, text: str) -> list[int]:
    """A text as the model's input: its tokens with what the tokenizer adds to a text for models of this family."""
    if isinstance(model, MaskedLanguageModel):
        return encode_texts(tokenizer, [text], model.config)[0].token_ids
    return prompt_ids(tokenizer, text)


def log_likelihoods(
    model: LanguageModel, tokenizer: Tokenizer, pairs: Sequence[tuple[Prompt, str]]
) -> list[float]:
    """The log-probability, in nats, of each (prompt, completion)'s completion: the sum over its tokens.

    What ends a text or turn is not part of the sum. Raises `UserError` for an empty prompt or completion, and where both
    together exceed `max_seq_len`.
    """
    require_capability(model, "log_likelihood")
    continuations: list[tuple[list[int], list[int]]] = []
    counted: list[list[bool]] = []
    for prompt, completion in pairs:
        ids, counts = encode_pair(tokenizer, prompt, completion)
        check_prompt(len(ids), model.config.max_seq_len)
        first = counts.index(True) if any(counts) else 0
        continuations.append((ids[:first], ids[first:]))
        counted.append(counts[first:])
    scores = score_continuations(model, continuations)
    return [math.fsum(compress(score.log_probs, of)) for score, of in zip(scores, counted, strict=True)]


def encode_pair(tokenizer: Tokenizer, prompt: Prompt, completion: str) -> tuple[list[int], list[bool]]:
    """The ids of prompt and completion, and which of them are the completion's."""
    if isinstance(prompt, str):
        before = context_ids(tokenizer, prompt)
        ids = (tokenizer.continuation_encoder or tokenizer).encode(completion)
        return [*before, *ids], [False] * len(before) + [True] * len(ids)
    before = prompt_ids(tokenizer, prompt)
    chat = compile_chat(tokenizer, [*prompt, Message("assistant", completion)])
    counted = [
        counts and i >= len(before) and token_id not in tokenizer.control_ids
        for i, (token_id, counts) in enumerate(zip(chat.token_ids, chat.loss_mask, strict=True))
    ]
    return chat.token_ids, counted
