"""Texts to batches: framed as the model's family reads them, neighbours in length together, padded and masked.

Every function of this room goes through `passes`, so a text gives the same whoever shares its batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from parakit.common.errors import UserError
from parakit.inference.batching import MICRO_BATCH_SIZE, pad_rows, rows_by_length
from parakit.model.config import ModelConfig
from parakit.tokens.tokenizer.special_tokens_template import cut_to_fit, frame_of
from parakit.tokens.tokenizer.tokenizer import Tokenizer

Text = str | tuple[str, str]
TooLong = Literal["refuse", "truncate"]


@dataclass(frozen=True)
class EncodedInput:
    """One text, or two, as the model reads it."""

    token_ids: list[int]
    token_type_ids: list[int]
    truncated: bool = False


@dataclass(frozen=True)
class EncodedBatch:
    """One batch: which texts it holds, and what the model is given."""

    rows: list[int]
    input_ids: torch.Tensor  # (B, T) int64
    attention_mask: torch.Tensor | None  # (B, T) bool, True = a real token; None: all are
    context: dict[str, Any]
    """Further arguments of the trunk: token types, where the model has them."""


def encode_texts(
    tokenizer: Tokenizer, texts: Sequence[Text], config: ModelConfig, too_long: TooLong = "refuse"
) -> list[EncodedInput]:
    """Texts, or pairs of texts, between the special tokens that a model of this family expects.

    One that is over the model's `max_seq_len` is cut inside its frame, as in training, or is a `UserError` naming
    its number; one that has no tokens always is.
    """
    firsts = tokenizer.encode_bulk([text if isinstance(text, str) else text[0] for text in texts])
    seconds = iter(tokenizer.encode_bulk([text[1] for text in texts if not isinstance(text, str)]))
    frames = {
        n: frame_of(tokenizer, config.family, n) for n in {1 if isinstance(t, str) else 2 for t in texts}
    }
    limit = window(config)
    readings = []
    for number, (text, first) in enumerate(zip(texts, firsts, strict=True), 1):
        pieces = [first] if isinstance(text, str) else [first, next(seconds)]
        frame, lengths = frames[len(pieces)], [len(piece) for piece in pieces]
        kept = cut_to_fit(lengths, limit - frame.n_ids) if too_long == "truncate" else lengths
        token_ids = frame.around(*(piece[:n] for piece, n in zip(pieces, kept, strict=True)))
        check_length(len(token_ids), limit, number, len(texts))
        readings.append(EncodedInput(token_ids.tolist(), frame.types(*kept).tolist(), kept != lengths))
    return readings


def window(config: ModelConfig) -> int:
    """How many tokens of a text such a model can read."""
    return config.encoder.max_seq_len if config.family == "encoder-decoder" else config.max_seq_len


def check_length(n_tokens: int, limit: int, number: int, n_texts: int) -> None:
    """Refuse a text that the model's window cannot hold, or that has no tokens at all."""
    which = "the text" if n_texts == 1 else f"text {number} of {n_texts}"
    if n_tokens > limit:
        raise UserError(
            f"{which} has {n_tokens} tokens, and the model's context window holds {limit}",
            "shorten it, or use a model with a larger max_seq_len",
        )
    if n_tokens == 0:
        raise UserError(f"{which} has no tokens", "give some text to read")


def batches(
    model: nn.Module,
    readings: Sequence[EncodedInput],
    n_token_types: int,
    micro_batch_size: int = MICRO_BATCH_SIZE,
) -> Iterator[EncodedBatch]:
    """The batches of all texts, the shortest first."""
    device = next(model.parameters()).device
    for rows in rows_by_length([one.token_ids for one in readings], micro_batch_size):
        input_ids, attention_mask = pad_rows([readings[row].token_ids for row in rows], device)
        context = {}
        if n_token_types:
            context["token_type_ids"] = pad_rows([readings[row].token_type_ids for row in rows], device)[0]
        yield EncodedBatch(rows, input_ids, attention_mask, context)
