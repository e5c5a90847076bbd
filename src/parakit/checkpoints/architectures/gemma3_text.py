"""Gemma 3's language models (Gemma team 2025): Gemma 2 with norms of queries and keys instead of bounds, and with rotary
positions of their own in local layers. With attention in both directions it is an encoder: EmbeddingGemma's trunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parakit.checkpoints.architectures import rotary_decoders as shared
from parakit.checkpoints.architectures.gemma2 import (
    ACTIVATION,
    NORMS,
    SETTINGS,
    WINDOW,
    gemma_shape,
    write_gemma,
)
from parakit.checkpoints.architectures.gemma2 import DEFAULTS as GEMMA2_DEFAULTS
from parakit.checkpoints.hf_config import HFConfig, check_lengths, parse_config
from parakit.checkpoints.layered_rope import (
    read_layer_types,
    read_layered_rope,
    write_layer_types,
    write_layered_rope,
)
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.model.config import DecoderConfig, EncoderConfig

MODEL_TYPE = "gemma3_text"
CLASSES: Mapping[str, str] = {
    "language_model": "Gemma3ForCausalLM",
    "classifier": "Gemma3TextForSequenceClassification",
    "reward_model": "Gemma3TextForSequenceClassification",
    "embedder": "Gemma3TextModel",
}
PREFIX, RENAMED, TIED_COPIES = shared.PREFIX, shared.RENAMED, shared.TIED_COPIES
is_ignorable = shared.is_ignorable
read_classifier, write_classifier = shared.read_classifier, shared.write_classifier
DEFAULTS = GEMMA2_DEFAULTS
THETA_KEYS, THETAS = ("rope_theta", "rope_local_base_freq"), (1_000_000.0, 10_000.0)
# what an encoder has by default, and Gemma has not
ENCODER_SHAPE = {"embedding_norm": False, "head_transform": False, "lm_head_bias": False, "norm": "rms"}


def read_settings(hf_config: HFConfig, where: str | Path) -> DecoderConfig | EncoderConfig:
    """Without `layer_types` every sixth layer is full. `sliding_window` of a model that attends in both directions is
    the whole window, before and behind a token.
    """
    pattern = hf_config.get("sliding_window_pattern", hf_config.get("_sliding_window_pattern", 6))
    if type(pattern) is not int or pattern < 1:
        raise UserError(f"{where}: `sliding_window_pattern` is {pattern!r}", "it is a count of layers")
    rope = read_layered_rope(hf_config, where, THETA_KEYS, THETAS)
    settings = shared.read_shared(
        {key: value for key, value in hf_config.items() if key not in ("rope_parameters", "rope_scaling")},
        where,
        MODEL_TYPE,
        extra=SETTINGS,
        ignored=("hidden_act", "cache_implementation", "rope_local_base_freq", "sliding_window_pattern"),
        handled=("sliding_window", "layer_types", "query_pre_attn_scalar", "use_bidirectional_attention"),
        defaults=DEFAULTS,
        activation=ACTIVATION,
    )
    settings |= gemma_shape(settings, hf_config) | rope | {"query_key_norm": True}
    settings |= read_layer_types(
        hf_config, settings["n_layers"], where, WINDOW, lambda layer: (layer + 1) % pattern != 0
    )
    if settings.get("sliding_window") is None:
        settings["local_rope_theta"] = None
    if not hf_config.get("use_bidirectional_attention"):
        return shared.finish(settings, where, SETTINGS)
    if hf_config.get("architectures") == [CLASSES["language_model"]]:
        raise UserError(
            f"{where}: `use_bidirectional_attention` is true, and the folder predicts next tokens",
            "a model that attends in both directions is loaded as an embedder or a classifier",
        )
    config = parse_config(EncoderConfig, settings | ENCODER_SHAPE, {**shared.SETTINGS, **SETTINGS}, where)
    check_lengths(config, where)
    return config


def write_settings(config: Any) -> JsonObject:
    """The settings as this architecture's keys."""
    rope = write_layered_rope(config, THETA_KEYS)
    written = {key: value for key, value in write_gemma(config).items() if key != "rope_scaling"}
    return {
        "model_type": MODEL_TYPE,
        **written,
        **{key: rope[key] for key in ("rope_parameters", *THETA_KEYS)},
        **write_layer_types(config),
        "use_bidirectional_attention": config.family == "encoder",
    }


def hf_tensors(config: Any, head: Head) -> Iterator[HFTensor]:
    """Every tensor of the family's layout."""
    return shared.decoder_tensors(config, head, norms=NORMS)
