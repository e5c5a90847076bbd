"""Marian (Junczys-Dowmunt et al. 2018), which is the 2017 Transformer (Vaswani et al.): sinusoidal positions, a norm
behind every sum, ReLU or SiLU, and usually an embedding scaled by the root of its width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parakit.checkpoints.architectures import bart
from parakit.checkpoints.hf_config import Fixed
from parakit.checkpoints.mapping import Head, NamedTensor
from parakit.model.config import EncoderDecoderConfig

MODEL_TYPE = "marian"
CLASSES: Mapping[str, str] = {"sequence_to_sequence": "MarianMTModel"}
ALIASES: Mapping[str, str] = {"MarianModel": "sequence_to_sequence"}
PREFIX, RENAMED, TIED_COPIES = bart.PREFIX, bart.RENAMED, bart.TIED_COPIES
settled = bart.settled
read_classifier, write_classifier = bart.read_classifier, bart.write_classifier
SHAPE = {"positions": "sinusoidal", "embedding_norm": False}


def read_settings(foreign: Mapping[str, Any], where: str | Path) -> EncoderDecoderConfig:
    """One vocabulary for both sides; whether anything is added to the logits, only the tensors tell."""
    fixed: Fixed = {
        "share_encoder_decoder_embeddings": ((True, None), "an embedding for each side"),
        "decoder_vocab_size": ((foreign.get("vocab_size"), None), "a vocabulary for each side"),
        "normalize_embedding": ((False, None), "a norm on the embedding"),
        "static_position_embeddings": ((True, None), "learned positions"),
        "extra_pos_embeddings": ((foreign.get("extra_pos_embeddings"),), ""),  # said by all, used by none
    }
    return bart.read_pair(
        foreign, where, model_type=MODEL_TYPE, shape=SHAPE, fixed=fixed, defaults=bart.DEFAULTS
    )


def write_settings(config: EncoderDecoderConfig) -> dict[str, Any]:
    """Our settings in Marian's words."""
    return bart.write_pair(config, MODEL_TYPE) | {
        "decoder_vocab_size": config.vocab_size,
        "share_encoder_decoder_embeddings": True,
        "static_position_embeddings": True,
    }


def named_tensors(config: EncoderDecoderConfig, head: Head) -> Iterator[NamedTensor]:
    """Every tensor, layer by layer; positions are computed, not stored."""
    return bart.pair_tensors(config)


def is_ignorable(theirs: str) -> bool:
    """Tables of positions, which follow from the settings."""
    return theirs.endswith("embed_positions.weight")
