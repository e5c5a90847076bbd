"""Ministral (Mistral AI 2024): Mistral with a sliding window in some layers and full attention in the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from parakit.checkpoints.architectures import rotary_decoders as shared
from parakit.checkpoints.hf_config import HFConfig
from parakit.checkpoints.layered_rope import read_layer_types, write_layer_types
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.common.files import JsonObject
from parakit.model.config import DecoderConfig

MODEL_TYPE = "ministral"
CLASSES = shared.classes("Ministral")
PREFIX, RENAMED, TIED_COPIES = shared.PREFIX, shared.RENAMED, shared.TIED_COPIES
is_ignorable = shared.is_ignorable
read_classifier, write_classifier = shared.read_classifier, shared.write_classifier
WINDOW = 4096


def read_settings(hf_config: HFConfig, where: str | Path) -> DecoderConfig:
    """Without `layer_types` all layers are local, if there is a window."""
    settings = shared.read_shared(hf_config, where, MODEL_TYPE, handled=("sliding_window", "layer_types"))
    settings |= {"query_key_norm": False}
    settings |= read_layer_types(hf_config, settings["n_layers"], where, WINDOW, lambda layer: True)
    return shared.finish(settings, where)


def write_settings(config: DecoderConfig) -> JsonObject:
    """The settings as this architecture's keys."""
    return {"model_type": MODEL_TYPE, **shared.write_shared(config), **write_layer_types(config)}


def hf_tensors(config: DecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor of the family's layout."""
    return shared.decoder_tensors(config, head)
