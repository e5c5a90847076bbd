"""OLMo 2 (OLMo team 2024): Llama with norms of what the sublayers compute instead of what they read, and with norms of
queries and keys over all heads together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from parakit.checkpoints.architectures import rotary_decoders as shared
from parakit.checkpoints.hf_config import HFConfig
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.common.files import JsonObject
from parakit.model.config import DecoderConfig

MODEL_TYPE = "olmo2"
CLASSES: Mapping[str, str] = {
    head: name for head, name in shared.classes("Olmo2").items() if head != "token_classifier"
}
PREFIX, RENAMED, TIED_COPIES = shared.PREFIX, shared.RENAMED, shared.TIED_COPIES
is_ignorable = shared.is_ignorable
read_classifier, write_classifier = shared.read_classifier, shared.write_classifier
SETTINGS = {"attention_bias": "attention_bias"}
DEFAULTS = {"attention_bias": False, "rms_norm_eps": 1e-5}
SHAPE = {"query_key_norm": True, "query_key_norm_shape": "width", "sublayer_norm": "output"}


def read_settings(hf_config: HFConfig, where: str | Path) -> DecoderConfig:
    """`attention_bias` means all four matrices of the attention."""
    hf_config = {"num_key_value_heads": None, **hf_config}
    settings = shared.read_shared(hf_config, where, MODEL_TYPE, extra=SETTINGS, defaults=DEFAULTS)
    settings["attention_output_bias"] = settings["attention_bias"]
    return shared.finish(settings | SHAPE, where)


def write_settings(config: DecoderConfig) -> JsonObject:
    """The settings as this architecture's keys."""
    written = {
        "model_type": MODEL_TYPE,
        **shared.write_shared(config),
        "attention_bias": config.attention_bias,
        "pad_token_id": None,  # transformers' default may exceed a small vocabulary
    }
    if config.head_dim * config.n_heads == config.d_model:
        del written["head_dim"]  # implied, and older engines do not know the key
    return written


def hf_tensors(config: DecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor of the family's layout."""
    return shared.decoder_tensors(config, head, norms=shared.OUTPUT_NORMS)
