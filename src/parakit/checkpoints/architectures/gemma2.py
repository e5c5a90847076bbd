"""Gemma 2 (Riviere et al. 2024): four norms a block whose weights are centred at zero, bounded scores and logits, scaled
embeddings, and local layers between full ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from parakit.checkpoints.architectures import rotary_decoders as shared
from parakit.checkpoints.hf_config import HFConfig, RequiredValues
from parakit.checkpoints.layered_rope import read_layer_types, write_layer_types
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.common.files import JsonObject
from parakit.model.config import DecoderConfig

MODEL_TYPE = "gemma2"
CLASSES = shared.classes("Gemma2")
PREFIX, RENAMED, TIED_COPIES = shared.PREFIX, shared.RENAMED, shared.TIED_COPIES
is_ignorable = shared.is_ignorable
read_classifier, write_classifier = shared.read_classifier, shared.write_classifier
SETTINGS = {
    "attention_bias": "attention_bias",
    "logit_soft_cap": "final_logit_softcapping",
    "attention_soft_cap": "attn_logit_softcapping",
}
DEFAULTS: dict[str, Any] = {
    **{"attention_bias": False, "head_dim": 256, "tie_word_embeddings": True},
    **{"final_logit_softcapping": None, "attn_logit_softcapping": None},
}
CAPS = {"final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0}
CAUSAL: RequiredValues = {
    "use_bidirectional_attention": ((False, None), "attention in both directions"),
}
ACTIVATION = ("hidden_activation", "gelu_pytorch_tanh")
WINDOW, SCALAR = 4096, 256
NORMS = {**shared.NORMS, "feed_forward_norm": "pre_feedforward_layernorm", **shared.OUTPUT_NORMS}


def read_settings(hf_config: HFConfig, where: str | Path) -> DecoderConfig:
    """Without `layer_types` every other layer is local, the first one included."""
    settings = shared.read_shared(
        hf_config,
        where,
        MODEL_TYPE,
        extra=SETTINGS,
        required=CAUSAL,
        ignored=("hidden_act", "cache_implementation"),
        handled=("sliding_window", "layer_types", "query_pre_attn_scalar"),
        defaults=DEFAULTS,
        activation=ACTIVATION,
    )
    settings |= gemma_shape(settings, {**CAPS, **hf_config}) | {"query_key_norm": False}
    settings |= read_layer_types(hf_config, settings["n_layers"], where, WINDOW, lambda layer: layer % 2 == 0)
    return shared.finish(settings, where, SETTINGS)


def gemma_shape(settings: JsonObject, hf_config: HFConfig) -> JsonObject:
    """What Gemma 2 and 3 have in common."""
    scalar = hf_config.get("query_pre_attn_scalar", SCALAR)
    width = settings["d_model"]
    return {
        **{"zero_centered_norm": True, "sublayer_norm": "both"},
        "attention_output_bias": settings["attention_bias"],
        "attention_scale": scalar**-0.5 if type(scalar) in (int, float) and scalar > 0 else scalar,
        "embedding_scale": width**0.5 if type(width) is int and width > 0 else 1.0,
        "logit_soft_cap": hf_config.get("final_logit_softcapping"),
        "attention_soft_cap": hf_config.get("attn_logit_softcapping"),
    }


def write_settings(config: DecoderConfig) -> JsonObject:
    """The settings as this architecture's keys."""
    return {"model_type": MODEL_TYPE, **write_gemma(config), **write_layer_types(config)}


def write_gemma(config: Any) -> JsonObject:
    """The keys that Gemma 2 and 3 have in common."""
    written = shared.write_shared(config, activation=ACTIVATION[0])
    if config.activation == "gelu_tanh":
        written[ACTIVATION[0]] = ACTIVATION[1]
    scale = config.attention_scale or config.head_dim**-0.5
    return {
        **written,
        **{hf_name: getattr(config, name) for name, hf_name in SETTINGS.items()},
        "query_pre_attn_scalar": round(scale**-2),
    }


def hf_tensors(config: DecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor of the family's layout."""
    return shared.decoder_tensors(config, head, norms=NORMS)
