"""Qwen3 (Yang et al. 2025), Parakit's own decoder: Llama with a norm on queries and keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from parakit.checkpoints.architectures import rotary_decoders as shared
from parakit.checkpoints.hf_config import HFConfig
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.checkpoints.rope_config import WINDOW, read_local_layers, write_local_layers
from parakit.common.files import JsonObject
from parakit.model.config import DecoderConfig

MODEL_TYPE = "qwen3"
CLASSES = shared.classes("Qwen3")
PREFIX, RENAMED, TIED_COPIES = shared.PREFIX, shared.RENAMED, shared.TIED_COPIES
is_ignorable = shared.is_ignorable
read_classifier, write_classifier = shared.read_classifier, shared.write_classifier
DEFAULTS = {"attention_bias": False, "head_dim": 128}


def read_settings(hf_config: HFConfig, where: str | Path) -> DecoderConfig:
    """`attention_bias` means all four matrices of the attention."""
    extra = {"attention_bias": "attention_bias"}
    settings = shared.read_shared(
        hf_config,
        where,
        MODEL_TYPE,
        extra=extra,
        required=shared.HAS_QK_NORM,
        handled=WINDOW,
        defaults=DEFAULTS,
    )
    settings |= {"attention_output_bias": settings["attention_bias"], "query_key_norm": True}
    settings |= read_local_layers(hf_config, settings["n_layers"], where)
    return shared.finish(settings, where)


def write_settings(config: DecoderConfig) -> JsonObject:
    """The settings as this architecture's keys."""
    return {
        "model_type": MODEL_TYPE,
        **shared.write_shared(config),
        "attention_bias": config.attention_bias,
        **write_local_layers(config),
    }


def hf_tensors(config: DecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor of the family's layout."""
    return shared.decoder_tensors(config, head)
