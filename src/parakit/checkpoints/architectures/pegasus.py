"""Pegasus (Zhang et al. 2020): the 2017 Transformer with norms before the layers and behind the last one, for summaries.
Its positions are sines, which its files repeat.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from parakit.checkpoints.architectures import bart
from parakit.checkpoints.hf_config import HFConfig, RequiredValues
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.common.files import JsonObject
from parakit.model.config import EncoderDecoderConfig

MODEL_TYPE = "pegasus"
CLASSES: Mapping[str, str] = {"sequence_to_sequence": "PegasusForConditionalGeneration"}
ALIASES: Mapping[str, str] = {"PegasusModel": "sequence_to_sequence"}
PREFIX, RENAMED, TIED_COPIES = bart.PREFIX, bart.RENAMED, bart.TIED_COPIES
read_classifier, write_classifier = bart.read_classifier, bart.write_classifier
finalize = bart.finalize
SHAPE = {"positions": "sinusoidal", "embedding_norm": False, **bart.PRE_NORM}


def read_settings(hf_config: HFConfig, where: str | Path) -> EncoderDecoderConfig:
    """Whether the logits have a bias depends on the stored tensors."""
    required: RequiredValues = {
        **bart.PRE_NORM_REQUIRED,
        "normalize_embedding": ((False, None), "a norm on the embedding"),
        "static_position_embeddings": ((True, None), "learned positions"),
        # present in every file, used by no program
        "extra_pos_embeddings": ((hf_config.get("extra_pos_embeddings"),), ""),
    }
    return bart.read_pair(
        hf_config,
        where,
        model_type=MODEL_TYPE,
        shape=SHAPE,
        required=required,
        defaults=bart.DEFAULTS | {"decoder_start_token_id": 0},
    )


def write_settings(config: EncoderDecoderConfig) -> JsonObject:
    """The settings as Pegasus' keys."""
    return bart.write_pair(config, MODEL_TYPE) | {"static_position_embeddings": True}


def hf_tensors(config: EncoderDecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor, layer by layer; positions are computed."""
    return bart.pair_tensors(config)


def is_ignorable(hf_name: str) -> bool:
    """Position tables, which follow from the settings."""
    return hf_name.endswith("embed_positions.weight")
