"""OLMo 3 (OLMo team 2025): OLMo 2 with a sliding window in three of four layers, whose rotary positions stay unscaled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from parakit.checkpoints.architectures import olmo2
from parakit.checkpoints.architectures import rotary_decoders as shared
from parakit.checkpoints.hf_config import HFConfig
from parakit.checkpoints.layered_rope import (
    read_layer_types,
    read_layered_rope,
    write_layer_types,
    write_layered_rope,
)
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.common.files import JsonObject
from parakit.model.config import DecoderConfig

MODEL_TYPE = "olmo3"
CLASSES: Mapping[str, str] = {
    head: name for head, name in shared.classes("Olmo3").items() if head != "token_classifier"
}
PREFIX, RENAMED, TIED_COPIES = shared.PREFIX, shared.RENAMED, shared.TIED_COPIES
is_ignorable = shared.is_ignorable
read_classifier, write_classifier = shared.read_classifier, shared.write_classifier
WINDOW, THETA, THETA_KEYS = 4096, 500_000.0, ("rope_theta", "rope_theta")


def read_settings(hf_config: HFConfig, where: str | Path) -> DecoderConfig:
    """Without `layer_types` every fourth layer is full."""
    rope = read_layered_rope(hf_config, where, THETA_KEYS, (THETA, THETA))
    flat = {key: value for key, value in hf_config.items() if key not in ("rope_parameters", "rope_scaling")}
    settings = shared.read_shared(
        {"num_key_value_heads": None, **flat},
        where,
        MODEL_TYPE,
        extra=olmo2.SETTINGS,
        handled=("sliding_window", "layer_types"),
        defaults=olmo2.DEFAULTS,
    )
    settings["attention_output_bias"] = settings["attention_bias"]
    settings |= olmo2.SHAPE | rope
    settings |= read_layer_types(
        hf_config, settings["n_layers"], where, WINDOW, lambda layer: (layer + 1) % 4 != 0
    )
    if settings.get("sliding_window") is None:
        settings["local_rope_theta"] = None
    return shared.finish(settings, where)


def write_settings(config: DecoderConfig) -> JsonObject:
    """The settings as this architecture's keys."""
    rope = write_layered_rope(config, THETA_KEYS)
    written = {key: value for key, value in olmo2.write_settings(config).items() if key != "rope_scaling"}
    if config.local_rope_theta not in (None, config.rope_theta):
        del written["rope_theta"]  # there is no one base
    return {
        **written,
        "model_type": MODEL_TYPE,
        "rope_parameters": rope["rope_parameters"],
        **write_layer_types(config),
    }


def hf_tensors(config: DecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor of the family's layout."""
    return olmo2.hf_tensors(config, head)
