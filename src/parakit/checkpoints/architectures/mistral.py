"""Mistral (Jiang et al. 2023): Llama with a sliding window in every layer, or in none since version 0.2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from parakit.checkpoints.architectures import rotary_decoders as shared
from parakit.checkpoints.hf_config import HFConfig
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.common.files import JsonObject
from parakit.model.config import DecoderConfig

MODEL_TYPE = "mistral"
CLASSES = shared.classes("Mistral")
PREFIX, RENAMED, TIED_COPIES = shared.PREFIX, shared.RENAMED, shared.TIED_COPIES
is_ignorable = shared.is_ignorable
read_classifier, write_classifier = shared.read_classifier, shared.write_classifier


def read_settings(hf_config: HFConfig, where: str | Path) -> DecoderConfig:
    """Absent, `sliding_window` is 4096; null, there is none."""
    settings = shared.read_shared(hf_config, where, MODEL_TYPE, handled=("sliding_window",))
    settings |= {"sliding_window": hf_config.get("sliding_window", 4096), "query_key_norm": False}
    return shared.finish(settings, where)


def write_settings(config: DecoderConfig) -> JsonObject:
    """The settings as this architecture's keys."""
    return {
        "model_type": MODEL_TYPE,
        **shared.write_shared(config),
        "sliding_window": config.sliding_window,
    }


def hf_tensors(config: DecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor of the family's layout."""
    return shared.decoder_tensors(config, head)
