"""Qwen2 and Qwen2.5 (Yang et al. 2024): Llama with biases on queries, keys and values, and an optional sliding
window in the upper layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from parakit.checkpoints.architectures import rotary_decoders as shared
from parakit.checkpoints.hf_config import HFConfig
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.checkpoints.rope_config import WINDOW, read_local_layers, write_local_layers
from parakit.common.files import JsonObject
from parakit.model.config import DecoderConfig

MODEL_TYPE = "qwen2"
CLASSES = shared.classes("Qwen2")
PREFIX, RENAMED, TIED_COPIES = shared.PREFIX, shared.RENAMED, shared.TIED_COPIES
is_ignorable = shared.is_ignorable
read_classifier, write_classifier = shared.read_classifier, shared.write_classifier


def read_settings(hf_config: HFConfig, where: str | Path) -> DecoderConfig:
    """Settings, with the biases that this architecture always has."""
    settings = shared.read_shared(
        hf_config, where, MODEL_TYPE, ignored=("attention_bias", "qkv_bias"), handled=WINDOW
    )
    settings |= {"attention_bias": True, "query_key_norm": False}
    settings |= read_local_layers(hf_config, settings["n_layers"], where)
    return shared.finish(settings, where)


def write_settings(config: DecoderConfig) -> JsonObject:
    """The settings as this architecture's keys."""
    written = {"model_type": MODEL_TYPE, **shared.write_shared(config), **write_local_layers(config)}
    if config.head_dim * config.n_heads == config.d_model:
        del written["head_dim"]  # implied, and older engines do not know the key
    return written


def hf_tensors(config: DecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor of the family's layout."""
    return shared.decoder_tensors(config, head)
