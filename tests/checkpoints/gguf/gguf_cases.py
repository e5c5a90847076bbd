"""Tiny models of transformers for every architecture that is converted, and how llama.cpp's converter writes each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from gguf import MODEL_ARCH, GGUFWriter, RopeScalingType

from parakit.checkpoints.gguf.rope import llama3_factors
from tests.checkpoints.conformance import reference_model, saved
from tests.checkpoints.gguf.gguf_files import llama_cpp_tensors, rotary_fields

transformers = pytest.importorskip("transformers")

WIDTHS = {"vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
LLAMA3 = {
    **{"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0},
    **{"high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
}
GEMMA3_ROPE = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32}


def yarn_fields(writer: GGUFWriter, config) -> None:
    rotary_fields(writer, config)
    writer.add_rope_scaling_type(RopeScalingType.YARN)
    writer.add_rope_scaling_factor(4.0)
    writer.add_rope_scaling_orig_ctx_len(32)


def linear_fields(writer: GGUFWriter, config) -> None:
    rotary_fields(writer, config)
    writer.add_rope_scaling_type(RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(2.0)


def window_fields(writer: GGUFWriter, config) -> None:
    rotary_fields(writer, config)
    writer.add_sliding_window(config.sliding_window)


def granite_fields(writer: GGUFWriter, config) -> None:
    rotary_fields(writer, config)
    writer.add_attention_scale(config.attention_multiplier)
    writer.add_embedding_scale(config.embedding_multiplier)
    writer.add_residual_scale(config.residual_multiplier)
    writer.add_logit_scale(config.logits_scaling)


def gemma2_fields(writer: GGUFWriter, config) -> None:
    window_fields(writer, config)
    writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    writer.add_final_logit_softcapping(config.final_logit_softcapping)


def gemma3_fields(writer: GGUFWriter, config) -> None:
    window_fields(writer, config)
    writer.add_rope_scaling_type(RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(8.0)


def phi3_fields(writer: GGUFWriter, config) -> None:
    window_fields(writer, config)
    writer.add_rope_scaling_orig_ctx_len(64)
    writer.add_rope_dimension_count(16)


def gpt2_fields(writer: GGUFWriter, config) -> None:
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)


# name -> llama.cpp's architecture, transformers' model, its config, what writes the metadata
CASES: dict[str, tuple[MODEL_ARCH, str, dict, Callable]] = {
    "llama": (MODEL_ARCH.LLAMA, "Llama", {"tie_word_embeddings": True}, rotary_fields),
    "llama with biases": (
        MODEL_ARCH.LLAMA,
        "Llama",
        {"attention_bias": True, "mlp_bias": True},
        rotary_fields,
    ),
    "llama 3": (MODEL_ARCH.LLAMA, "Llama", {"rope_parameters": LLAMA3, "head_dim": 32}, rotary_fields),
    "linear scaling": (
        MODEL_ARCH.LLAMA,
        "Llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
        linear_fields,
    ),
    "mistral": (MODEL_ARCH.LLAMA, "Mistral", {"sliding_window": 5}, window_fields),
    "mixtral": (
        MODEL_ARCH.LLAMA,
        "Mixtral",
        {"num_local_experts": 4, "num_experts_per_tok": 2},
        rotary_fields,
    ),
    "qwen2": (MODEL_ARCH.QWEN2, "Qwen2", {"tie_word_embeddings": True}, rotary_fields),
    "yarn": (MODEL_ARCH.QWEN2, "Qwen2", {"rope_parameters": YARN}, yarn_fields),
    "qwen3": (MODEL_ARCH.QWEN3, "Qwen3", {"head_dim": 32}, rotary_fields),
    "qwen3 with experts": (
        MODEL_ARCH.QWEN3MOE,
        "Qwen3Moe",
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "head_dim": 16}
        | {"norm_topk_prob": True, "mlp_only_layers": []},
        rotary_fields,
    ),
    "gemma 2": (
        MODEL_ARCH.GEMMA2,
        "Gemma2",
        {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 5},
        gemma2_fields,
    ),
    "gemma 3": (
        MODEL_ARCH.GEMMA3,
        "Gemma3",
        {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 5, "num_hidden_layers": 7}
        | {"rope_parameters": GEMMA3_ROPE},
        gemma3_fields,
    ),
    "olmo 2": (MODEL_ARCH.OLMO2, "Olmo2", {}, rotary_fields),
    "granite": (
        MODEL_ARCH.GRANITE,
        "Granite",
        {
            "attention_multiplier": 0.2,
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.5,
            "logits_scaling": 4.0,
        },
        granite_fields,
    ),
    "smollm 3": (MODEL_ARCH.SMOLLM3, "SmolLM3", {"num_hidden_layers": 5, "pad_token_id": 0}, rotary_fields),
    "phi 3": (
        MODEL_ARCH.PHI3,
        "Phi3",
        {"sliding_window": 9, "original_max_position_embeddings": 64, "pad_token_id": 0},
        phi3_fields,
    ),
    "gpt2": (MODEL_ARCH.GPT2, "GPT2", {"n_positions": 64}, gpt2_fields),
}


def make_case(name: str, folder: Path):
    """The transformers model of a case, its folder, and its tensors as llama.cpp has them."""
    architecture, hf_name, settings, _ = CASES[name]
    suffix = "TextConfig" if hf_name == "Gemma3" else "Config"
    config_class = getattr(transformers, f"{hf_name}{suffix}")
    if hf_name == "GPT2":
        config = config_class(vocab_size=320, n_embd=64, n_layer=2, n_head=4, **settings)
        model_class = transformers.GPT2LMHeadModel
    else:
        config = config_class(**WIDTHS | HEADS | settings)
        model_class = getattr(transformers, f"{hf_name}ForCausalLM")
    config._attn_implementation = "eager"
    reference = reference_model(model_class, config)
    saved(reference, folder)
    tensors = llama_cpp_tensors(folder, config, architecture)
    if name == "llama 3":
        tensors["rope_freqs.weight"] = llama3_factors(500_000.0, 32, 8.0, 8192)
    return reference, tensors
