"""Memory of the KV cache during generation. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from parakit.model.config import EncoderDecoderConfig, ModelConfig
from parakit.model.transformer_config import TransformerConfig


@dataclass(frozen=True)
class CacheBytes:
    """Bytes of one sequence's KV cache: per generated token, per source token, and of the longest sequence (source and
    target).
    """

    per_token: int
    per_source_token: int
    whole: int


def cache_bytes(config: ModelConfig, value_bytes: int) -> CacheBytes | None:
    """The size of the cache with `value_bytes` bytes per number; None for an encoder, which has none.

    A layer with a sliding window caches at most `sliding_window` tokens; linear attention caches sums instead of tokens.
    """
    if config.family == "encoder":
        return None
    stack = config.decoder if isinstance(config, EncoderDecoderConfig) else config
    assert isinstance(stack, TransformerConfig)
    layer = 2 * stack.n_kv_heads * stack.head_dim * value_bytes
    n_caching_layers = stack.n_layers if stack.attention == "softmax" else 0
    n_cached = 0
    for number in range(n_caching_layers):
        window = stack.sliding_window if stack.is_local(number) else None
        n_cached += min(stack.max_seq_len, window or stack.max_seq_len)
    source = layer * stack.n_layers if isinstance(config, EncoderDecoderConfig) else 0
    read = source * config.encoder.max_seq_len if isinstance(config, EncoderDecoderConfig) else 0
    return CacheBytes(layer * n_caching_layers, source, layer * n_cached + read)
