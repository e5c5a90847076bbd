"""Vectors of texts: from an `Embedder`, or from the trunk of a model that was trained to predict tokens.

Shapes: N texts, B of them in a batch, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from parakit.inference.batching import MICRO_BATCH_SIZE, evaluation_mode
from parakit.inference.capabilities import require_capability
from parakit.inference.prediction.batches import Text, TooLong, batches, encode_texts
from parakit.model.heads import Embedder, LanguageModel, MaskedLanguageModel, SequenceToSequence, pool
from parakit.tokens.tokenizer.tokenizer import Tokenizer

Pooling = Literal["mean", "cls", "last"]


@torch.inference_mode()
def embed(
    model: Embedder | MaskedLanguageModel | LanguageModel | SequenceToSequence,
    tokenizer: Tokenizer,
    texts: Sequence[Text],
    *,
    pooling: Pooling | None = None,
    normalize: bool | None = None,
    too_long: TooLong = "refuse",
    micro_batch_size: int = MICRO_BATCH_SIZE,
) -> np.ndarray:
    """One vector a text, (N, D) float32: of an encoder-decoder, what its encoder makes.

    `pooling` and `normalize` (length 1) are the embedder's own where they are None, else the mean, and yes. Special
    tokens take part in the mean. A model without vectors to give is a `UserError`, and so is a text over its
    `max_seq_len` unless `too_long` says to cut it.
    """
    require_capability(model, "embed")
    if isinstance(model, Embedder):
        pooling, normalize = pooling or model.pooling.pooling, _or(normalize, model.pooling.normalize)
    pooling, normalize = pooling or "mean", _or(normalize, True)
    readings = encode_texts(tokenizer, texts, model.config, too_long)
    trunk: Any = model.trunk.encoder if isinstance(model, SequenceToSequence) else model.trunk
    vectors = np.zeros((len(texts), model.config.d_model), np.float32)
    with evaluation_mode(model):
        for one in batches(model, readings, trunk.config.n_token_types, micro_batch_size):
            hidden = trunk(one.input_ids, attention_mask=one.attention_mask, **one.context)  # (B, T, D)
            pooled = pool(hidden, one.attention_mask, pooling).float()
            pooled = nn.functional.normalize(pooled, dim=-1) if normalize else pooled
            vectors[one.rows] = pooled.cpu().numpy()
    return vectors


def _or(value: bool | None, default: bool) -> bool:
    return default if value is None else value
