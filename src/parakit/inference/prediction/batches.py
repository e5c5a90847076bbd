"""Texts to batches: with the special tokens of the model's family, sorted by length, padded and masked.

All prediction goes through `batches`, so a text's result does not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from parakit.common.errors import UserError
from parakit.inference.batching import MICRO_BATCH_SIZE, pad_rows, rows_by_length
from parakit.model.config import EncoderDecoderConfig, ModelConfig
from parakit.tokens.config import TooLong
from parakit.tokens.tokenizer.special_tokens_template import special_tokens_template, truncate_pair
from parakit.tokens.tokenizer.tokenizer import Tokenizer

Text = str | tuple[str, str]


@dataclass(frozen=True)
class EncodedInput:
    """One text, or a pair, as ids with special tokens."""

    token_ids: list[int]
    token_type_ids: list[int]
    truncated: bool = False


@dataclass(frozen=True)
class EncodedBatch:
    """One batch: the indices of its texts, and the model's inputs."""

    rows: list[int]
    input_ids: torch.Tensor  # (B, T) int64
    attention_mask: torch.Tensor | None  # (B, T) bool, True = a real token; None: all are
    context: dict[str, Any]
    """Further arguments of the trunk: `token_type_ids`, where the model has token types."""


def encode_texts(
    tokenizer: Tokenizer,
    texts: Sequence[Text],
    config: ModelConfig,
    too_long: TooLong = "refuse",
    max_seq_len: int | None = None,
) -> list[EncodedInput]:
    """Texts, or pairs of texts, with the special tokens that a model of this family expects.

    A text over `max_seq_len` (None: the model's) is truncated inside its special tokens, at the end that the tokenizer's
    publisher chose, or is a `UserError` with its number; so is a text without tokens.
    """
    firsts = tokenizer.encode_bulk([text if isinstance(text, str) else text[0] for text in texts])
    seconds = iter(tokenizer.encode_bulk([text[1] for text in texts if not isinstance(text, str)]))
    templates = {
        n: special_tokens_template(tokenizer, config.family, n)
        for n in {1 if isinstance(t, str) else 2 for t in texts}
    }
    limit = context_window(config) if max_seq_len is None else max_seq_len
    from_left = tokenizer.truncation_side == "left"
    inputs = []
    for number, (text, first) in enumerate(zip(texts, firsts, strict=True), 1):
        pieces = [first] if isinstance(text, str) else [first, next(seconds)]
        template, lengths = templates[len(pieces)], [len(piece) for piece in pieces]
        n_kept = truncate_pair(lengths, limit - template.n_tokens) if too_long == "truncate" else lengths
        kept = [
            piece[len(piece) - n :] if from_left else piece[:n]
            for piece, n in zip(pieces, n_kept, strict=True)
        ]
        token_ids = template.apply(*kept)
        check_length(len(token_ids), limit, number, len(texts))
        inputs.append(EncodedInput(token_ids.tolist(), template.types(*n_kept).tolist(), n_kept != lengths))
    return inputs


def context_window(config: ModelConfig) -> int:
    """The longest text, in tokens."""
    return (config.encoder if isinstance(config, EncoderDecoderConfig) else config).max_seq_len


def check_length(n_tokens: int, limit: int, number: int, n_texts: int) -> None:
    """Raise `UserError` for a text that is longer than the context window, or that has no tokens."""
    which = "the text" if n_texts == 1 else f"text {number} of {n_texts}"
    if n_tokens > limit:
        raise UserError(
            f"{which} has {n_tokens} tokens, and the model's context window holds {limit}",
            "shorten it, or use a model with a larger max_seq_len",
        )
    if n_tokens == 0:
        raise UserError(f"{which} has no tokens", "give a text with at least one token")


def batches(
    model: nn.Module,
    inputs: Sequence[EncodedInput],
    n_token_types: int,
    micro_batch_size: int = MICRO_BATCH_SIZE,
) -> Iterator[EncodedBatch]:
    """The batches of all texts, the shortest first; `n_token_types` is the trunk's."""
    device = next(model.parameters()).device
    for rows in rows_by_length([encoded.token_ids for encoded in inputs], micro_batch_size):
        input_ids, attention_mask = pad_rows([inputs[row].token_ids for row in rows], device)
        context = {}
        if n_token_types:
            context["token_type_ids"] = pad_rows([inputs[row].token_type_ids for row in rows], device)[0]
        yield EncodedBatch(rows, input_ids, attention_mask, context)
