"""Granite 3 (IBM 2024): Llama with a factor on embeddings, scores, residual sums and logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parakit.checkpoints.architectures import rotary_decoders as shared
from parakit.checkpoints.hf_config import HFConfig, read_value
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.model.config import DecoderConfig

MODEL_TYPE = "granite"
CLASSES: Mapping[str, str] = {"language_model": "GraniteForCausalLM", "embedder": "GraniteModel"}
PREFIX, RENAMED, TIED_COPIES = shared.PREFIX, shared.RENAMED, shared.TIED_COPIES
is_ignorable = shared.is_ignorable
read_classifier, write_classifier = shared.read_classifier, shared.write_classifier
SETTINGS = {
    "attention_bias": "attention_bias",
    "feed_forward_bias": "mlp_bias",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "attention_scale": "attention_multiplier",
}
DIVISOR = "logits_scaling"
DEFAULTS: dict[str, Any] = {
    **{"attention_bias": False, "mlp_bias": False},
    **{"embedding_multiplier": 1.0, "residual_multiplier": 1.0, "attention_multiplier": 1.0, DIVISOR: 1.0},
}


def read_settings(hf_config: HFConfig, where: str | Path) -> DecoderConfig:
    """`logits_scaling` divides the logits."""
    hf_config = {"num_key_value_heads": None, **hf_config}
    settings = shared.read_shared(
        hf_config, where, MODEL_TYPE, extra=SETTINGS, handled=(DIVISOR,), defaults=DEFAULTS
    )
    divisor = read_value(hf_config, DIVISOR, where, DEFAULTS)
    if type(divisor) not in (int, float) or not divisor > 0:
        raise UserError(f"{where}: `{DIVISOR}` is {divisor!r}", "it is a number above 0")
    settings |= {"attention_output_bias": settings["attention_bias"], "logit_scale": 1 / divisor}
    return shared.finish(settings | {"query_key_norm": False}, where, SETTINGS)


def write_settings(config: DecoderConfig) -> JsonObject:
    """The settings as this architecture's keys."""
    divisor = 1 / config.logit_scale
    rounded = float(f"{divisor:.12g}")  # 1 / (1 / 49) is not 49
    written = {
        "model_type": MODEL_TYPE,
        **shared.write_shared(config),
        **{hf_name: getattr(config, name) for name, hf_name in SETTINGS.items()},
        "attention_multiplier": config.attention_scale or config.head_dim**-0.5,
        DIVISOR: rounded if 1 / rounded == config.logit_scale else divisor,
    }
    if config.head_dim * config.n_heads == config.d_model:
        del written["head_dim"]  # implied, and older engines do not know the key
    return written


def hf_tensors(config: DecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor of the family's layout."""
    return shared.decoder_tensors(config, head)
