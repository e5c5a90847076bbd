"""SmolLM3 (Bakouch et al. 2025): Llama without rotary positions in every fourth layer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from parakit.checkpoints.architectures import rotary_decoders as shared
from parakit.checkpoints.hf_config import HFConfig
from parakit.checkpoints.layered_rope import read_layer_types, write_layer_types
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.model.config import DecoderConfig

MODEL_TYPE = "smollm3"
CLASSES = shared.classes("SmolLM3")
PREFIX, RENAMED, TIED_COPIES = shared.PREFIX, shared.RENAMED, shared.TIED_COPIES
is_ignorable = shared.is_ignorable
read_classifier, write_classifier = shared.read_classifier, shared.write_classifier
BIASES = {"attention_bias": "attention_bias", "feed_forward_bias": "mlp_bias"}
DEFAULTS = {
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": True,
    "rope_theta": 2_000_000.0,
}


def read_settings(hf_config: HFConfig, where: str | Path) -> DecoderConfig:
    """In `no_rope_layers` a 1 means a layer with rotary positions. Of a model with a window, the layers without are local."""
    settings = shared.read_shared(
        {"num_key_value_heads": None, **hf_config},
        where,
        MODEL_TYPE,
        extra=BIASES,
        ignored=("max_window_layers",),
        handled=(
            *("no_rope_layers", "no_rope_layer_interval"),
            *("sliding_window", "use_sliding_window", "layer_types"),
        ),
        defaults=DEFAULTS,
    )
    settings |= {"attention_output_bias": settings["attention_bias"], "query_key_norm": False}
    n_layers, rotated = settings["n_layers"], hf_config.get("no_rope_layers")
    every = hf_config.get("no_rope_layer_interval", 4)
    if type(n_layers) is int and rotated is None and type(every) is int and every > 0:
        rotated = [int((layer + 1) % every != 0) for layer in range(n_layers)]
    if not isinstance(rotated, list) or len(rotated) != n_layers:
        raise UserError(
            f"{where}: `no_rope_layers` is {rotated!r}", f"it has 0 or 1 for each of the {n_layers} layers"
        )
    without = tuple(layer for layer, has_rope in enumerate(rotated) if not has_rope)
    window = hf_config.get("sliding_window") if hf_config.get("use_sliding_window") else None
    with_window = {**hf_config, "sliding_window": window}
    settings |= read_layer_types(with_window, n_layers, where, None, lambda layer: layer in without)
    return shared.finish(settings | {"no_rope_layers": without}, where, BIASES)


def write_settings(config: DecoderConfig) -> JsonObject:
    """The settings as this architecture's keys."""
    layers = write_layer_types(config)
    return {
        "model_type": MODEL_TYPE,
        **shared.write_shared(config),
        "attention_bias": config.attention_bias,
        "mlp_bias": config.feed_forward_bias,
        "no_rope_layers": [int(layer not in config.no_rope_layers) for layer in range(config.n_layers)],
        **layers,
        "use_sliding_window": layers["sliding_window"] is not None,
        "pad_token_id": None,  # transformers' default is 128004, beyond a small vocabulary
    }


def hf_tensors(config: DecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor of the family's layout."""
    return shared.decoder_tensors(config, head)
