"""Vectors of texts: from an `Embedder`, or from the trunk of a model that predicts tokens.

Shapes: N texts, B of them in a batch, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from parakit.inference.batching import MICRO_BATCH_SIZE, evaluation_mode
from parakit.inference.capabilities import require_capability
from parakit.inference.prediction.batches import Text, batches, encode_texts
from parakit.model.config import EmbedderConfig, Pooling
from parakit.model.heads import Embedder, LanguageModel, MaskedLanguageModel, SequenceToSequence, pool
from parakit.tokens.config import TooLong
from parakit.tokens.tokenizer.tokenizer import Tokenizer


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
    """One vector per text, (N, D) float32; of an encoder-decoder, its encoder's.

    `pooling` and `normalize` (to length 1) default to the embedder's own, else to the mean and True. Special tokens are
    part of the mean. Raises `UserError` for a model without vectors, and for a text over its `max_seq_len` unless
    `too_long="truncate"`.
    """
    require_capability(model, "embed")
    own = model.pooling if isinstance(model, Embedder) else EmbedderConfig()
    pooling = own.pooling if pooling is None else pooling
    normalize = own.normalize if normalize is None else normalize
    inputs = encode_texts(tokenizer, texts, model.config, too_long)
    trunk: Any = model.trunk.encoder if isinstance(model, SequenceToSequence) else model.trunk
    vectors = np.zeros((len(texts), model.config.d_output), np.float32)
    with evaluation_mode(model):
        for batch in batches(model, inputs, trunk.config.n_token_types, micro_batch_size):
            hidden = trunk(batch.input_ids, attention_mask=batch.attention_mask, **batch.context)  # (B, T, D)
            pooled = pool(hidden, batch.attention_mask, pooling).float()
            pooled = nn.functional.normalize(pooled, dim=-1) if normalize else pooled
            vectors[batch.rows] = pooled.cpu().numpy()
    return vectors
