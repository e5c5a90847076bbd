"""gpt-oss (OpenAI 2025): experts in every layer, with biases and clamped gates; a sink for each head; a sliding window in
every other layer. The published experts are in MXFP4 (`mxfp4.py`), and are saved in the dtype of the other weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from parakit.checkpoints.architectures import rotary_decoders as shared
from parakit.checkpoints.architectures.layer_tensors import linear, tensor
from parakit.checkpoints.hf_config import HFConfig
from parakit.checkpoints.layered_rope import read_layer_types, write_layer_types
from parakit.checkpoints.mapping import Head, HFTensor, TensorSlice
from parakit.checkpoints.mxfp4 import require_mxfp4
from parakit.common.files import JsonObject
from parakit.model.config import DecoderConfig

MODEL_TYPE = "gpt_oss"
CLASSES = shared.classes("GptOss")
PREFIX, RENAMED, TIED_COPIES = shared.PREFIX, shared.RENAMED, shared.TIED_COPIES
is_ignorable = shared.is_ignorable
read_classifier, write_classifier = shared.read_classifier, shared.write_classifier
SETTINGS = {
    "attention_bias": "attention_bias",
    "n_experts": "num_local_experts",
    "n_active_experts": "num_experts_per_tok",
    "glu_limit": "swiglu_limit",
    "glu_alpha": "swiglu_alpha",
    "balance_coef": "router_aux_loss_coef",
}
YARN = {
    **{"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False},
    "original_max_position_embeddings": 4096,
}
DEFAULTS: dict[str, Any] = {
    **{"attention_bias": True, "head_dim": 64, "rms_norm_eps": 1e-5, "rope_theta": 150_000.0},
    **{"swiglu_limit": 7.0, "swiglu_alpha": 1.702, "router_aux_loss_coef": 0.001},
}
WINDOW = 128
SHAPE = {
    **{"query_key_norm": False, "attention_sinks": True, "expert_bias": True},
    **{"normalize_expert_weights": True, "activation": "silu"},
}


def read_settings(hf_config: HFConfig, where: str | Path) -> DecoderConfig:
    """Without `layer_types` every other layer is local, beginning with the first. The softmax is over the chosen experts,
    which is the same as a softmax over all, divided by the sum of the chosen.
    """
    require_mxfp4(hf_config, where)
    if not hf_config.get("rope_parameters") and not hf_config.get("rope_scaling"):
        hf_config = {**hf_config, "rope_scaling": YARN}
    settings = shared.read_shared(
        hf_config,
        where,
        MODEL_TYPE,
        extra=SETTINGS,
        ignored=("quantization_config", "experts_per_token", "initial_context_length"),
        handled=("sliding_window", "layer_types"),
        defaults=DEFAULTS,
    )
    settings["attention_output_bias"] = settings["attention_bias"]
    settings |= SHAPE
    settings |= read_layer_types(hf_config, settings["n_layers"], where, WINDOW, lambda layer: layer % 2 == 0)
    return shared.finish(settings, where, SETTINGS)


def write_settings(config: DecoderConfig) -> JsonObject:
    """The settings as this architecture's keys."""
    return {
        "model_type": MODEL_TYPE,
        **shared.write_shared(config),
        "intermediate_size": config.d_expert or config.d_ff,
        **{hf_name: getattr(config, name) for name, hf_name in SETTINGS.items()},
        **write_layer_types(config),
        "output_router_logits": False,
    }


def hf_tensors(config: DecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor, layer by layer."""
    prefix = "" if head.kind == "embedder" else PREFIX
    d, bias = config.d_model, config.attention_bias
    queries, keys = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    yield tensor("trunk.token_embedding.weight", f"{prefix}embed_tokens.weight", config.vocab_size, d)
    for layer in range(config.n_layers):
        name, hf_name = f"trunk.blocks.{layer}", f"{prefix}layers.{layer}"
        for part, hf_part in shared.NORMS.items():
            yield tensor(f"{name}.{part}.weight", f"{hf_name}.{hf_part}.weight", d)
        attention, hf_attention = f"{name}.attention", f"{hf_name}.self_attn"
        yield tensor(f"{attention}.sinks", f"{hf_attention}.sinks", config.n_heads)
        for part, letter, rows in (("query", "q", queries), ("key", "k", keys), ("value", "v", keys)):
            yield from linear(f"{attention}.{part}", f"{hf_attention}.{letter}_proj", rows, d, bias)
        yield from linear(f"{attention}.output", f"{hf_attention}.o_proj", d, queries, bias)
        yield from linear(f"{name}.feed_forward.router", f"{hf_name}.mlp.router", config.n_experts, d)
        yield from _experts(config, f"{name}.feed_forward", f"{hf_name}.mlp.experts")
    yield tensor("trunk.final_norm.weight", f"{prefix}norm.weight", d)
    yield from shared.head_tensors(config, head)


def _experts(config: DecoderConfig, name: str, hf_name: str) -> Iterator[HFTensor]:
    """All experts in one tensor each, matrices as (inputs, outputs); rows of gate and up alternate."""
    n, d, width = config.n_experts, config.d_model, config.d_expert or config.d_ff
    for kind in ("", "_bias"):
        slices = tuple(
            TensorSlice(
                f"{name}.{part}{kind}",
                rows,
                groups=width,
                transposed=not kind,
                stacked=True,
            )
            for part, rows in (("gate", (0, 1)), ("up", (1, 2)))
        )
        shape = (n, 2 * width) if kind else (n, d, 2 * width)
        yield HFTensor(f"{hf_name}.gate_up_proj{kind}", shape, slices)
    down = TensorSlice(f"{name}.down", transposed=True, stacked=True)
    yield HFTensor(f"{hf_name}.down_proj", (n, width, d), (down,))
    yield tensor(f"{name}.down_bias", f"{hf_name}.down_proj_bias", n, d)
