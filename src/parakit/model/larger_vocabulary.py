"""Rows for new tokens: each begins as the mean of the rows of the tokens that it replaces.

That holds for the token embedding, an untied output matrix and its bias; all other weights stay bit for bit. Published
embeddings often have more rows than their tokenizer has tokens; those are used before new ones are added. The starts
that were compared are in docs/decisions/0020-rows-of-new-tokens.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from parakit.common.errors import UserError
from parakit.model.config import DecoderConfig, EncoderConfig, EncoderDecoderConfig, ModelConfig
from parakit.model.heads import TokenPredictor, TransformerModel
from parakit.model.quantized.swapping import is_quantized


@torch.no_grad()
def add_token_rows(model: TransformerModel, pieces: Mapping[int, Sequence[int]]) -> int:
    """Give `model` a row for each id of `pieces`: new id -> the old ids it replaces. Returns the rows that were added.

    The vocabulary grows to the largest new id, or stays where the embedding has those rows already.
    """
    if is_quantized(model):
        raise UserError(
            "the model's weights are quantized, and its vocabulary cannot grow",
            "extend the model that it was quantized from, and quantize that",
        )
    n_before = model.config.vocab_size
    n_rows = max(n_before, max(pieces, default=-1) + 1)
    embedding = model.trunk.token_embedding
    tied = isinstance(model, TokenPredictor) and model.lm_head.weight is embedding.weight
    embedding.weight = _extended(embedding.weight, n_rows, pieces)
    embedding.num_embeddings = n_rows
    if isinstance(model, TokenPredictor):
        head = model.lm_head
        head.weight = embedding.weight if tied else _extended(head.weight, n_rows, pieces)
        head.out_features = n_rows
        if head.bias is not None:
            head.bias = _extended(head.bias, n_rows, pieces)
    holder: Any
    for holder in model.modules():
        config = getattr(holder, "config", None)
        if isinstance(config, DecoderConfig | EncoderConfig | EncoderDecoderConfig):
            holder.config = with_vocab_size(config, n_rows)
    return n_rows - n_before


def with_vocab_size(config: ModelConfig, vocab_size: int) -> ModelConfig:
    """`config` with another size of the vocabulary, on both sides of an encoder-decoder."""
    if isinstance(config, EncoderDecoderConfig):
        encoder, decoder = (
            stack.replace(vocab_size=vocab_size) for stack in (config.encoder, config.decoder)
        )
        return config.replace(encoder=encoder, decoder=decoder)
    return config.replace(vocab_size=vocab_size)


def _extended(rows: Tensor, n_rows: int, pieces: Mapping[int, Sequence[int]]) -> nn.Parameter:
    """Rows (V, ...) as (n_rows, ...). Those between the old ones and the new tokens, which no token has, are the mean of all.
    The means are summed in float64, so that they are the nearest numbers of their type.
    """
    extended = rows.new_empty(n_rows, *rows.shape[1:])
    extended[: len(rows)] = rows
    if n_rows > len(rows):
        extended[len(rows) :] = rows.double().mean(0)
    for token_id, parts in pieces.items():
        extended[token_id] = rows[list(parts)].double().mean(0)
    return nn.Parameter(extended, requires_grad=rows.requires_grad)
