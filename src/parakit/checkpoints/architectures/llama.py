"""Llama 1, 2 and 3 (Touvron et al. 2023): rotary positions, scaled since 3.1, RMSNorm, a gated feed-forward."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from parakit.checkpoints.architectures import rotary_decoders as shared
from parakit.checkpoints.hf_config import HFConfig
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.common.files import JsonObject
from parakit.model.config import DecoderConfig

MODEL_TYPE = "llama"
CLASSES = shared.classes("Llama")
PREFIX, RENAMED, TIED_COPIES = shared.PREFIX, shared.RENAMED, shared.TIED_COPIES
is_ignorable = shared.is_ignorable
read_classifier, write_classifier = shared.read_classifier, shared.write_classifier
BIASES = {"attention_bias": "attention_bias", "feed_forward_bias": "mlp_bias"}
DEFAULTS = {"attention_bias": False, "mlp_bias": False}


def read_settings(hf_config: HFConfig, where: str | Path) -> DecoderConfig:
    """Llama's `attention_bias` means all four matrices of the attention."""
    hf_config = {"num_key_value_heads": None, **hf_config}
    settings = shared.read_shared(hf_config, where, MODEL_TYPE, extra=BIASES, defaults=DEFAULTS)
    settings |= {"attention_output_bias": settings["attention_bias"], "query_key_norm": False}
    return shared.finish(settings, where)


def write_settings(config: DecoderConfig) -> JsonObject:
    """The settings as this architecture's keys."""
    return {
        "model_type": MODEL_TYPE,
        **shared.write_shared(config),
        "attention_bias": config.attention_bias,
        "mlp_bias": config.feed_forward_bias,
    }


def hf_tensors(config: DecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor of the family's layout."""
    return shared.decoder_tensors(config, head)
