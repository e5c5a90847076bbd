"""The configs of published models, by name, and the settings of their architectures. Imports no torch.

Dropout is left at zero: it belongs to a training run, not to a model. GPT-3's alternating sparse attention was never
specified, so it has full attention here. BART's and Marian's bias of the logits, which their files store as a constant,
counts as a parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from parakit.common.errors import UserError
from parakit.common.settings import closest_match
from parakit.model.config import DecoderConfig, EncoderConfig, EncoderDecoderConfig, ModelConfig

BIASES: dict[str, Any] = {
    "attention_bias": True,
    "attention_output_bias": True,
    "norm": "layer",
    "norm_bias": True,
    "norm_eps": 1e-5,
    "gated": False,
    "feed_forward_bias": True,
}
GPT2 = BIASES | {"positions": "learned", "activation": "gelu_tanh", "query_key_norm": False}
GPT = GPT2 | {"post_norm": True, "final_norm": False}
LLAMA: dict[str, Any] = {"query_key_norm": False, "norm_eps": 1e-5, "tie_embeddings": False}
BERT = BIASES | {
    "positions": "learned",
    "post_norm": True,
    "final_norm": False,
    "norm_eps": 1e-12,
    "n_token_types": 2,
}
MODERNBERT_WINDOW = 128
T5: dict[str, Any] = {
    "positions": "relative",
    "norm": "rms",
    "norm_eps": 1e-6,
    "attention_scale": 1.0,
    "embedding_norm": False,
}
BART = BIASES | {
    "positions": "learned",
    "position_offset": 2,
    "post_norm": True,
    "embedding_norm": True,
    "final_norm": False,
    "activation": "gelu",
    "lm_head_bias": True,
}
VASWANI = BART | {
    "positions": "sinusoidal",
    "position_offset": 0,
    "embedding_norm": False,
    "activation": "relu",
}
PLAIN_DECODER: dict[str, Any] = {"query_key_norm": False}
PLAIN_ENCODER: dict[str, Any] = {"head_transform": False, "lm_head_bias": False}


def dims(
    vocab_size: int,
    d_model: int,
    n_layers: int,
    n_heads: int,
    d_ff: int,
    max_seq_len: int,
    n_kv_heads: int | None = None,
    head_dim: int | None = None,
) -> dict[str, Any]:
    """The dimensions of a config; by default as many key-value heads as heads, and heads that divide the width."""
    return {
        "vocab_size": vocab_size,
        "d_model": d_model,
        "n_layers": n_layers,
        "n_heads": n_heads,
        "n_kv_heads": n_kv_heads or n_heads,
        "head_dim": head_dim or d_model // n_heads,
        "d_ff": d_ff,
        "max_seq_len": max_seq_len,
    }


def modernbert_windows(n_layers: int, max_seq_len: int) -> dict[str, Any]:
    """ModernBERT's local layers, two after every global one; none where the context is no longer than their window."""
    if max_seq_len <= MODERNBERT_WINDOW:
        return {}
    return {
        "rope_theta": 160_000.0,
        "local_rope_theta": 10_000.0,
        "sliding_window": MODERNBERT_WINDOW,
        "local_layers": tuple(layer for layer in range(n_layers) if layer % 3),
    }


def t5(dimensions: Mapping[str, Any], tied: bool, **settings: Any) -> EncoderDecoderConfig:
    """T5 with as many layers on either side. Tied, its logits are scaled down (v1.0); untied, not (v1.1)."""
    both = {**T5, **dimensions, **settings, "tie_embeddings": tied}
    scale = dimensions["d_model"] ** -0.5 if tied else 1.0
    return EncoderDecoderConfig(
        encoder=EncoderConfig(**both | PLAIN_ENCODER),
        decoder=DecoderConfig(**both | PLAIN_DECODER | {"logit_scale": scale}),
    )


def bart(dimensions: Mapping[str, Any], settings: Mapping[str, Any] = BART) -> EncoderDecoderConfig:
    """BART, or an encoder-decoder with other `settings`, with as many layers on either side."""
    both = {**settings, **dimensions}
    return EncoderDecoderConfig(
        encoder=EncoderConfig(**both | PLAIN_ENCODER), decoder=DecoderConfig(**both | PLAIN_DECODER)
    )


def vaswani(dimensions: Mapping[str, Any]) -> EncoderDecoderConfig:
    """The Transformer of Vaswani et al. (2017), with Marian's biases."""
    return bart(dimensions, VASWANI | {"embedding_scale": dimensions["d_model"] ** 0.5})


def _decoder(settings: Mapping[str, Any], *dimensions: int, **changes: Any) -> Callable[[], ModelConfig]:
    return lambda: DecoderConfig(**{**settings, **dims(*dimensions), **changes})


def _encoder(settings: Mapping[str, Any], *dimensions: int) -> Callable[[], ModelConfig]:
    return lambda: EncoderConfig(**{**settings, **dims(*dimensions)})


def _t5(*dimensions: int, tied: bool, **settings: Any) -> Callable[[], ModelConfig]:
    return lambda: t5(dims(*dimensions), tied, **settings)


_V1_0: dict[str, Any] = {"tied": True, "activation": "relu", "gated": False}
_V1_1: dict[str, Any] = {"tied": False, "activation": "gelu_tanh"}
_QWEN: dict[str, Any] = {"rope_theta": 1e6, "norm_eps": 1e-6}  # of Qwen2 and Qwen3
_MIXTRAL = LLAMA | {"rope_theta": 1e6, "n_experts": 8, "n_active_experts": 2}
_QWEN2 = LLAMA | _QWEN | {"attention_bias": True, "tie_embeddings": True}
_QWEN3_MOE = _QWEN | {
    "tie_embeddings": False, "n_experts": 128, "n_active_experts": 8, "d_expert": 768,
}  # fmt: skip

# name: vocab_size, d_model, n_layers (of each side), n_heads, d_ff, max_seq_len, n_kv_heads, head_dim
PRESETS: Mapping[str, Callable[[], ModelConfig]] = {
    "transformer-base": lambda: vaswani(dims(37_000, 512, 6, 8, 2048, 512)),
    "transformer-big": lambda: vaswani(dims(37_000, 1024, 6, 16, 4096, 512)),
    "gpt": _decoder(GPT, 40_478, 768, 12, 12, 3072, 512),
    "gpt2": _decoder(GPT2, 50_257, 768, 12, 12, 3072, 1024),
    "gpt2-medium": _decoder(GPT2, 50_257, 1024, 24, 16, 4096, 1024),
    "gpt2-large": _decoder(GPT2, 50_257, 1280, 36, 20, 5120, 1024),
    "gpt2-xl": _decoder(GPT2, 50_257, 1600, 48, 25, 6400, 1024),
    "gpt-3": _decoder(GPT2, 50_257, 12_288, 96, 96, 49_152, 2048),
    "bert-base": _encoder(BERT, 30_522, 768, 12, 12, 3072, 512),
    "bert-large": _encoder(BERT, 30_522, 1024, 24, 16, 4096, 512),
    "modernbert-base": _encoder(modernbert_windows(22, 8192), 50_368, 768, 22, 12, 1152, 8192),
    "t5-small": _t5(32_128, 512, 6, 8, 2048, 512, **_V1_0),
    "t5-base": _t5(32_128, 768, 12, 12, 3072, 512, **_V1_0),
    "t5-v1_1-base": _t5(32_128, 768, 12, 12, 2048, 512, **_V1_1),
    "bart-base": lambda: bart(dims(50_265, 768, 6, 12, 3072, 1024)),
    "llama-2-7b": _decoder(LLAMA, 32_000, 4096, 32, 32, 11_008, 4096),
    "llama-2-13b": _decoder(LLAMA, 32_000, 5120, 40, 40, 13_824, 4096),
    "llama-2-70b": _decoder(LLAMA, 32_000, 8192, 80, 64, 28_672, 4096, 8),
    "llama-3-8b": _decoder(LLAMA, 128_256, 4096, 32, 32, 14_336, 8192, 8, rope_theta=500_000.0),
    "mistral-7b": _decoder(LLAMA, 32_000, 4096, 32, 32, 14_336, 32_768, 8, sliding_window=4096),
    "mixtral-8x7b": _decoder(_MIXTRAL, 32_000, 4096, 32, 32, 14_336, 32_768, 8),
    "qwen2-0.5b": _decoder(_QWEN2, 151_936, 896, 24, 14, 4864, 131_072, 2),
    "qwen3-0.6b": _decoder(_QWEN, 151_936, 1024, 28, 16, 3072, 40_960, 8, 128),
    "qwen3-30b-a3b": _decoder(_QWEN3_MOE, 151_936, 2048, 48, 32, 6144, 40_960, 4, 128),
}


def preset(name: str) -> ModelConfig:
    """The config of the published model `name`, one of `PRESETS`."""
    if name not in PRESETS:
        close = closest_match(name.lower(), PRESETS)
        raise UserError(
            f"no preset {name!r}", f"did you mean {close!r}?" if close else f"one of: {', '.join(PRESETS)}"
        )
    return PRESETS[name]()
