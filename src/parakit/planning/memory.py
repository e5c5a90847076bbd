"""Memory that a model takes while it generates. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from parakit.model.config import EncoderDecoderConfig, ModelConfig
from parakit.model.transformer_config import TransformerConfig


@dataclass(frozen=True)
class CacheBytes:
    """Bytes of one sequence's KV cache: for each token written, for each token of the source that is read, and for
    the longest sequence (source and target) that the model holds.
    """

    per_token: int
    per_source_token: int
    whole: int


def cache_bytes(config: ModelConfig, value_bytes: int) -> CacheBytes | None:
    """What keys and values take when each number has `value_bytes` bytes; None for an encoder, which keeps none.

    A layer with a sliding window keeps `sliding_window` tokens at most; linear attention keeps sums instead.
    """
    if config.family == "encoder":
        return None
    stack = config.decoder if isinstance(config, EncoderDecoderConfig) else config
    assert isinstance(stack, TransformerConfig)
    layer = 2 * stack.n_kv_heads * stack.head_dim * value_bytes
    n_keeping = stack.n_layers if stack.attention == "softmax" else 0
    n_cached = 0
    for number in range(n_keeping):
        window = stack.sliding_window if stack.is_local(number) else None
        n_cached += min(stack.max_seq_len, window or stack.max_seq_len)
    source = layer * stack.n_layers if isinstance(config, EncoderDecoderConfig) else 0
    read = source * config.encoder.max_seq_len if isinstance(config, EncoderDecoderConfig) else 0
    return CacheBytes(layer * n_keeping, source, layer * n_cached + read)
