"""The decoders of `test_checkpoints_decoder_family.py`: transformers' class, its heads, and what varies between published
checkpoints, each shrunk to a tiny model. The first variant of each is tested by `make test`, the others by
`make test-long`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

SIZES = {
    **{"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 128},
    **{"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2},
}
ALL_HEADS = {
    "language_model": "ForCausalLM",
    "classifier": "ForSequenceClassification",
    "token_classifier": "ForTokenClassification",
    "embedder": "Model",
}


def sizes_without(*keys: str, **changes: Any) -> dict[str, Any]:
    """`SIZES` without `keys`, which an architecture does not have, and with others."""
    return {key: value for key, value in SIZES.items() if key not in keys} | changes


@dataclass(frozen=True)
class DecoderCase:
    """An architecture's prefix in transformers, and its variants: published name -> what differs from `sizes`."""

    prefix: str
    variants: Mapping[str, Mapping[str, Any]]
    sizes: Mapping[str, Any] = field(default_factory=lambda: SIZES)
    heads: tuple[str, ...] = tuple(ALL_HEADS)
    config: str | None = None  # transformers' class of settings; None: the prefix's
    classifier: str | None = None  # transformers' class that classifies texts; None: the prefix's
    spread: float = 0.2  # of what is added to fresh weights
    eager: bool = False  # transformers' other kernels leave out the bound of the scores
    written_as: Mapping[str, str] = field(default_factory=dict)  # variant -> the class that it is saved as


_WITHOUT_TOKENS = ("language_model", "classifier", "embedder")
_NEOX_VARIANTS = {
    "pythia": {},
    "gpt-neox-20b": {"hidden_act": "gelu_fast"},
    "polyglot-ko": {"rotary_pct": 0.5},
    "open-calm": {"use_parallel_residual": False, "rotary_pct": 1.0},
    "redpajama-incite": {"rotary_pct": 1.0, "use_parallel_residual": False, "num_hidden_layers": 2},
    "stablelm-alpha": {"num_attention_heads": 2, "max_position_embeddings": 256},
    "japanese-gpt-neox": {"rotary_emb_base": 1e5, "rotary_pct": 1.0, "use_parallel_residual": False},
    "no biases": {"attention_bias": False},
    "tied": {"tie_word_embeddings": True},
    "linear rope": {
        "rope_parameters": {
            **{"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
            "partial_rotary_factor": 0.5,
        }
    },
}
_GALACTICA = {"activation_function": "gelu", "layer_norm_elementwise_affine": False}
_OPT_VARIANTS = {
    "opt-350m": {"do_layer_norm_before": False, "word_embed_proj_dim": 16},
    "opt-125m": {},
    "opt-1.3b": {"num_attention_heads": 2, "ffn_dim": 128},
    "opt-before-4.20": {"_remove_final_layer_norm": True},
    "opt-iml": {"ffn_dim": 64, "num_hidden_layers": 2},
    "galactica": _GALACTICA,
    "galactica without biases": _GALACTICA | {"enable_bias": False},
    "untied": {"tie_word_embeddings": False},
    "projected, untied": {"word_embed_proj_dim": 48, "tie_word_embeddings": False},
    "post-norm": {"do_layer_norm_before": False},
}
_LONGROPE = {"type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.5], "long_factor": [1.0, 2.0, 4.0, 7.0]}
_SHORT_CONTEXT = {"original_max_position_embeddings": 32}
_PHI3_VARIANTS = {
    "Phi-4-mini": {
        **{
            "partial_rotary_factor": 0.75,
            "tie_word_embeddings": True,
            "sliding_window": 12,
            **_SHORT_CONTEXT,
        },
        "rope_scaling": {
            **{"type": "longrope", "short_factor": [1.0, 1.0, 1.0], "long_factor": [1.0, 1.5, 4.0]},
        },
    },
    "Phi-3-mini-4k": {"sliding_window": 5, "num_key_value_heads": 4},
    "Phi-3-mini-128k": {"rope_scaling": _LONGROPE, "num_key_value_heads": 4, **_SHORT_CONTEXT},
    "Phi-3-medium-128k": {"rope_scaling": _LONGROPE, "rope_theta": 1e5, **_SHORT_CONTEXT},
    "Phi-3.5-mini": {"rope_scaling": _LONGROPE, "sliding_window": 200, **_SHORT_CONTEXT},
    "Phi-3-medium-4k": {"sliding_window": 9},
    "Phi-4": {"sliding_window": None, "rope_theta": 250000.0},
    "NuExtract": {"sliding_window": 6, "tie_word_embeddings": True},
    "stated attention factor": {"rope_scaling": _LONGROPE | {"attention_factor": 1.2}, **_SHORT_CONTEXT},
    "no longer than before": {"rope_scaling": _LONGROPE, "original_max_position_embeddings": 128},
}
_STABLELM_VARIANTS = {
    "stablelm-2-12b": {"use_parallel_residual": True, "qk_layernorm": True},
    "stablelm-3b-4e1t": {"num_key_value_heads": 4},
    "stablelm-2-1_6b": {"use_qkv_bias": True, "num_key_value_heads": 4},
    "stablelm-zephyr-3b": {"num_key_value_heads": 4, "rope_theta": 1e5},
    "stable-code-3b": {"num_key_value_heads": 4, "rope_theta": 1e6, "max_position_embeddings": 256},
    "stablelm-2-zephyr": {"use_qkv_bias": True, "layer_norm_eps": 1e-3},
    "japanese-stablelm-3b": {"tie_word_embeddings": True},
    "half of each head": {"partial_rotary_factor": 0.5},
    "whole heads": {"partial_rotary_factor": 1.0},
    "norms of heads, one after the other": {"qk_layernorm": True, "use_qkv_bias": True},
}
_OLMO2_VARIANTS = {
    "OLMo-2-1B": {"rms_norm_eps": 1e-6},
    "OLMo-2-7B": {"num_key_value_heads": 4},
    "OLMo-2-13B": {"num_key_value_heads": 4, "rope_theta": 5e5},
    "OLMo-2-32B": {"num_key_value_heads": 1, "rope_theta": 5e5},
    "OLMo-2-instruct": {"rope_theta": 5e5, "tie_word_embeddings": False},
    "tied": {"tie_word_embeddings": True},
    "biases": {"attention_bias": True},
    "GELU": {"hidden_act": "gelu"},
    "linear rope": {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
    "longer": {"max_position_embeddings": 256, "num_hidden_layers": 2},
}
_GEMMA2_VARIANTS = {
    "gemma-2-2b": {"query_pre_attn_scalar": 16, "sliding_window": 6},
    "gemma-2-9b": {"query_pre_attn_scalar": 8, "sliding_window": 16},
    "gemma-2-27b": {"query_pre_attn_scalar": 9, "head_dim": 6, "sliding_window": 7},
    "gemma-2-2b-jpn": {"hidden_act": "gelu_pytorch_tanh", "sliding_window": 5},
    "shieldgemma": {"num_key_value_heads": 4, "sliding_window": 9},
    "recent types": {
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
        "sliding_window": 6,
    },
    "no bounds": {"final_logit_softcapping": None, "attn_logit_softcapping": None, "sliding_window": 6},
    "tight bounds": {"final_logit_softcapping": 2.0, "attn_logit_softcapping": 1.5, "sliding_window": 6},
    "untied": {"tie_word_embeddings": False, "attention_bias": True, "sliding_window": 6},
    "wide window": {"num_key_value_heads": 1},
}
_SCALED = {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6}
_LOCAL = {"rope_type": "default", "rope_theta": 1e4}
_MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
_GEMMA3_VARIANTS = {
    "gemma-3-1b": {"query_pre_attn_scalar": 16, "sliding_window": 6, "sliding_window_pattern": 2},
    "gemma-3-270m": {"num_key_value_heads": 1, "layer_types": _MIXED, "sliding_window": 9},
    "gemma-3-4b's language model": {
        **{"sliding_window": 16, "layer_types": _MIXED, "query_pre_attn_scalar": 8},
        "rope_parameters": {"full_attention": _SCALED, "sliding_attention": _LOCAL},
    },
    "gemma-3-27b's language model": {"query_pre_attn_scalar": 11, "layer_types": _MIXED, "sliding_window": 7},
    "old keys": {
        **{"rope_theta": 5e4, "rope_local_base_freq": 2e4, "sliding_window_pattern": 3, "sliding_window": 5},
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "all local": {"num_hidden_layers": 2, "sliding_window": 6},
    "all full": {"layer_types": ["full_attention"] * 3},
    "bounded logits": {"final_logit_softcapping": 2.0, "layer_types": _MIXED, "sliding_window": 6},
    "untied": {
        "tie_word_embeddings": False,
        "attention_bias": True,
        "layer_types": _MIXED,
        "sliding_window": 6,
    },
    "wide heads": {"head_dim": 16, "num_key_value_heads": 4, "layer_types": _MIXED, "sliding_window": 6},
}
_FACTORS = {"embedding_multiplier": 12.0, "residual_multiplier": 0.22, "attention_multiplier": 0.1}
_GRANITE_VARIANTS = {
    "granite-3.1-2b": {**_FACTORS, "logits_scaling": 8.0, "tie_word_embeddings": True},
    "granite-3.1-8b": {**_FACTORS, "logits_scaling": 16.0, "rope_theta": 1e7},
    "granite-3.0-2b": {**_FACTORS, "logits_scaling": 8, "rope_theta": 1e4, "num_key_value_heads": 1},
    "granite-3.3-8b": {**_FACTORS, "logits_scaling": 16.0, "rms_norm_eps": 1e-5},
    "granite-4.0-micro": {**_FACTORS, "logits_scaling": 10.0, "num_key_value_heads": 4},
    "PowerLM-3b": {**_FACTORS, "logits_scaling": 9.0, "attention_multiplier": 0.015625},
    "granite-embedding": {**_FACTORS, "logits_scaling": 49.0, "num_hidden_layers": 2},
    "biases": {**_FACTORS, "attention_bias": True, "mlp_bias": True},
    "usual residual sums": {"embedding_multiplier": 3.0, "attention_multiplier": 0.5},
    "linear rope": {**_FACTORS, "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
}
_SMOLLM3_VARIANTS = {
    "SmolLM3-3B": {"no_rope_layer_interval": 2, "tie_word_embeddings": True},
    "SmolLM3-3B-Base": {"num_hidden_layers": 5},
    "checkpoints of its training": {"no_rope_layers": [1, 0, 1], "rope_theta": 5e4},
    "128k": {
        "rope_parameters": {
            **{"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0},
            "original_max_position_embeddings": 64,
        },
        "no_rope_layers": [1, 1, 0],
    },
    "untied": {"tie_word_embeddings": False, "no_rope_layers": [0, 1, 1]},
    "local layers": {"use_sliding_window": True, "sliding_window": 6, "no_rope_layers": [1, 0, 1]},
    "named local layers": {
        **{"use_sliding_window": True, "sliding_window": 6, "no_rope_layers": [1, 0, 1]},
        "layer_types": _MIXED,
    },
    "biases": {"attention_bias": True, "mlp_bias": True, "no_rope_layers": [1, 0, 0]},
    "no rotary positions": {"no_rope_layers": [0, 0, 0]},
    "one key-value head": {"num_key_value_heads": 1, "no_rope_layer_interval": 3},
}
_OLMO3_YARN = {
    **{"rope_type": "yarn", "rope_theta": 5e5, "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0},
    **{"original_max_position_embeddings": 32, "attention_factor": 1.2},
}
_OLMO3_VARIANTS = {
    "Olmo-3-7B": {
        **{"sliding_window": 6, "layer_types": _MIXED},
        "rope_parameters": {"full_attention": _OLMO3_YARN, "sliding_attention": _LOCAL | {"rope_theta": 5e5}},
    },
    "Olmo-3-32B": {
        **{"sliding_window": 9, "num_hidden_layers": 4, "num_key_value_heads": 1},
        "rope_scaling": {key: value for key, value in _OLMO3_YARN.items() if key != "rope_theta"},
    },
    "Olmo-3-1025-7B, stage 1": {"sliding_window": 6, "num_hidden_layers": 4},
    "all local": {"sliding_window": 5},
    "multi-head": {"num_key_value_heads": 4, "sliding_window": 7, "layer_types": _MIXED},
    "tied": {"tie_word_embeddings": True, "sliding_window": 6, "layer_types": _MIXED},
    "biases": {"attention_bias": True, "sliding_window": 6, "layer_types": _MIXED},
    "another base": {
        **{"sliding_window": 6, "layer_types": _MIXED},
        "rope_parameters": {"full_attention": _LOCAL, "sliding_attention": _LOCAL},
    },
    "two bases": {
        **{"sliding_window": 6, "layer_types": _MIXED},
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 1e6},
            "sliding_attention": _LOCAL,
        },
    },
    "GELU": {"hidden_act": "gelu", "sliding_window": 6, "layer_types": _MIXED},
}
_MINISTRAL_VARIANTS = {
    "Ministral-8B": {"sliding_window": 6, "layer_types": _MIXED, "rope_theta": 1e8},
    "full, then local": {
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
        "sliding_window": 9,
    },
    "two local": {
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "sliding_window": 5,
    },
    "wide heads": {"head_dim": 16, "sliding_window": 6, "layer_types": _MIXED},
    "tied": {"tie_word_embeddings": True, "sliding_window": 6, "layer_types": _MIXED},
    "one key-value head": {"num_key_value_heads": 1, "sliding_window": 6, "layer_types": _MIXED},
    "GELU": {"hidden_act": "gelu", "sliding_window": 6, "layer_types": _MIXED},
    "yarn": {
        "rope_parameters": {
            **{"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0},
            "original_max_position_embeddings": 64,
        },
        **{"sliding_window": 6, "layer_types": _MIXED},
    },
    "another eps": {"rms_norm_eps": 1e-5, "sliding_window": 6, "layer_types": _MIXED},
    "larger window": {"sliding_window": 40, "layer_types": _MIXED},
}
_GPT_OSS = {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 6}
_GPT_OSS_VARIANTS = {
    "gpt-oss-20b": {
        "rope_parameters": {
            **{"rope_type": "yarn", "rope_theta": 15e4, "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0},
            **{"truncate": False, "original_max_position_embeddings": 32},
        },
    },
    "gpt-oss-120b": {"num_local_experts": 8, "num_experts_per_tok": 4, "num_hidden_layers": 2},
    "gpt-oss-safeguard": {"num_key_value_heads": 4, "swiglu_limit": 7.0},
    "tight bounds": {"swiglu_limit": 0.5, "swiglu_alpha": 1.2},
    "one expert": {"num_experts_per_tok": 1},
    "no biases of attention": {"attention_bias": False, "num_hidden_layers": 2},
    "tied": {"tie_word_embeddings": True},
    "all full": {"layer_types": ["full_attention"] * 3},
    "all local": {"layer_types": ["sliding_attention"] * 3},
    "plain rope": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}, "sliding_window": 40},
}
_DELTA = {
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8},
    **{"linear_value_head_dim": 6, "head_dim": 16, "num_hidden_layers": 2, "full_attention_interval": 2},
}
_HYBRID = ["linear_attention", "full_attention", "linear_attention"]
_MROPE = {
    **{"rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.25},
    **{"mrope_section": [1, 1, 0], "mrope_interleaved": True},
}
_QWEN35_VARIANTS = {
    "Qwen3.5-27B": {"rope_parameters": _MROPE},
    "Qwen3.5-0.8B": {"linear_num_value_heads": 2, "tie_word_embeddings": True, "rope_parameters": _MROPE},
    "Qwen3.5-2B": {"tie_word_embeddings": True, "num_key_value_heads": 1},
    "Qwen3.5-9B": {"linear_value_head_dim": 8, "num_key_value_heads": 4},
    "Qwen3.6-27B": {"linear_num_value_heads": 6, "rope_parameters": _MROPE, "rms_norm_eps": 1e-5},
    "half of each head": {"rope_parameters": {**_MROPE, "partial_rotary_factor": 0.5}},
    "attention last": {"layer_types": ["full_attention", "linear_attention"], "num_hidden_layers": 2},
    "no attention before": {"layer_types": _HYBRID, "num_hidden_layers": 3, "linear_conv_kernel_dim": 3},
    "attention alone": {"layer_types": ["full_attention"] * 2, "num_hidden_layers": 2},
    "biases": {"attention_bias": True, "layer_types": _HYBRID, "num_hidden_layers": 3},
}
_QWEN35_MOE_VARIANTS = {
    "Qwen3.5-35B-A3B": {"rope_parameters": _MROPE},
    "Qwen3.5-122B-A10B": {"num_experts": 6, "num_experts_per_tok": 4},
    "Qwen3.5-397B-A17B": {"linear_num_value_heads": 6},
    "Qwen3.6-35B-A3B": {"rope_parameters": _MROPE, "num_key_value_heads": 1},
    "wider shared expert": {"shared_expert_intermediate_size": 48},
    "one expert": {"num_experts_per_tok": 1, "num_hidden_layers": 3, "layer_types": _HYBRID},
    "tied": {"tie_word_embeddings": True, "num_hidden_layers": 3, "layer_types": _HYBRID},
    "attention alone": {"layer_types": ["full_attention"] * 2, "num_hidden_layers": 2},
    "longer filters": {"linear_conv_kernel_dim": 6},
    "biases": {"attention_bias": True, "num_hidden_layers": 3, "layer_types": _HYBRID},
}
# EmbeddingGemma is an encoder: Gemma 3 that attends in both directions
EMBEDDING_GEMMA = {
    "embeddinggemma-300m": {"sliding_window": 8, "layer_types": _MIXED, "query_pre_attn_scalar": 16},
    "odd window": {"sliding_window": 7, "layer_types": _MIXED},
    "old keys": {
        "sliding_window": 6,
        "sliding_window_pattern": 2,
        "rope_theta": 5e4,
        "rope_local_base_freq": 2e4,
    },
    "all local": {"sliding_window": 10},
    "all full": {"layer_types": ["full_attention"] * 3},
    "one key-value head": {"sliding_window": 12, "layer_types": _MIXED, "num_key_value_heads": 1},
    "scaled": {
        **{"sliding_window": 8, "layer_types": _MIXED},
        "rope_parameters": {"full_attention": _SCALED, "sliding_attention": _LOCAL},
    },
    "biases": {"sliding_window": 8, "layer_types": _MIXED, "attention_bias": True},
    "wide heads": {"sliding_window": 8, "layer_types": _MIXED, "head_dim": 16},
    "window beyond the texts": {"sliding_window": 512, "layer_types": _MIXED},
}

DECODERS: dict[str, DecoderCase] = {
    "gpt_neox": DecoderCase("GPTNeoX", _NEOX_VARIANTS, sizes=sizes_without("num_key_value_heads")),
    "opt": DecoderCase(
        "OPT",
        _OPT_VARIANTS,
        sizes=sizes_without("num_key_value_heads", "intermediate_size", ffn_dim=48),
        heads=_WITHOUT_TOKENS,
    ),
    "phi3": DecoderCase("Phi3", _PHI3_VARIANTS),
    "stablelm": DecoderCase("StableLm", _STABLELM_VARIANTS),
    "olmo2": DecoderCase("Olmo2", _OLMO2_VARIANTS, heads=_WITHOUT_TOKENS),
    "gemma2": DecoderCase("Gemma2", _GEMMA2_VARIANTS, sizes=SIZES | {"head_dim": 8}, eager=True),
    "gemma3_text": DecoderCase(
        "Gemma3",
        _GEMMA3_VARIANTS,
        sizes=SIZES | {"head_dim": 8},
        heads=("language_model", "classifier"),
        config="Gemma3TextConfig",
        classifier="Gemma3TextForSequenceClassification",
    ),
    "granite": DecoderCase("Granite", _GRANITE_VARIANTS, heads=("language_model", "embedder")),
    "smollm3": DecoderCase("SmolLM3", _SMOLLM3_VARIANTS),
    "olmo3": DecoderCase("Olmo3", _OLMO3_VARIANTS, heads=_WITHOUT_TOKENS),
    "gpt_oss": DecoderCase("GptOss", _GPT_OSS_VARIANTS, sizes=SIZES | _GPT_OSS | {"head_dim": 8}, eager=True),
    "qwen3_5_text": DecoderCase(
        "Qwen3_5",
        _QWEN35_VARIANTS,
        sizes=SIZES | _DELTA,
        heads=("language_model", "classifier"),
        config="Qwen3_5TextConfig",
        spread=0.1,
        classifier="Qwen3_5TextForSequenceClassification",
    ),
    "qwen3_5_moe_text": DecoderCase(
        "Qwen3_5Moe",
        _QWEN35_MOE_VARIANTS,
        sizes=sizes_without("intermediate_size")
        | _DELTA
        | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
        | {"shared_expert_intermediate_size": 24},
        heads=("language_model",),
        config="Qwen3_5MoeTextConfig",
        spread=0.1,
    ),
    "ministral": DecoderCase("Ministral", _MINISTRAL_VARIANTS, sizes=SIZES | {"head_dim": 8}),
}


def cases() -> list[Any]:
    """(architecture, variant) as parameters."""
    return [
        pytest.param(name, variant, id=f"{name}-{variant}", marks=[pytest.mark.long] if number else [])
        for name, case in DECODERS.items()
        for number, variant in enumerate(case.variants)
    ]


def head_cases() -> list[Any]:
    """(architecture, head) as parameters, for all heads but the language model's."""
    return [(name, head) for name, case in DECODERS.items() for head in case.heads[1:]]
