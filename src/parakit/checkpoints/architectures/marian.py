"""Marian (Junczys-Dowmunt et al. 2018), which is the 2017 Transformer (Vaswani et al.): sinusoidal positions, a norm
after every sum, ReLU or SiLU, and usually an embedding scaled by the root of its width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from parakit.checkpoints.architectures import bart
from parakit.checkpoints.hf_config import HFConfig, RequiredValues
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.common.files import JsonObject
from parakit.model.config import EncoderDecoderConfig

MODEL_TYPE = "marian"
CLASSES: Mapping[str, str] = {"sequence_to_sequence": "MarianMTModel"}
ALIASES: Mapping[str, str] = {"MarianModel": "sequence_to_sequence"}
PREFIX, RENAMED, TIED_COPIES = bart.PREFIX, bart.RENAMED, bart.TIED_COPIES
finalize = bart.finalize
read_classifier, write_classifier = bart.read_classifier, bart.write_classifier
SHAPE = {"positions": "sinusoidal", "embedding_norm": False}


def read_settings(hf_config: HFConfig, where: str | Path) -> EncoderDecoderConfig:
    """One vocabulary for both sides; whether the logits have a bias depends on the stored tensors."""
    required: RequiredValues = {
        "share_encoder_decoder_embeddings": ((True, None), "an embedding for each side"),
        "decoder_vocab_size": ((hf_config.get("vocab_size"), None), "a vocabulary for each side"),
        "normalize_embedding": ((False, None), "a norm on the embedding"),
        "static_position_embeddings": ((True, None), "learned positions"),
        "extra_pos_embeddings": (
            (hf_config.get("extra_pos_embeddings"),),
            "",
        ),  # present everywhere, used nowhere
    }
    return bart.read_pair(
        hf_config, where, model_type=MODEL_TYPE, shape=SHAPE, required=required, defaults=bart.DEFAULTS
    )


def write_settings(config: EncoderDecoderConfig) -> JsonObject:
    """The settings as Marian's keys."""
    return bart.write_pair(config, MODEL_TYPE) | {
        "decoder_vocab_size": config.vocab_size,
        "share_encoder_decoder_embeddings": True,
        "static_position_embeddings": True,
    }


def hf_tensors(config: EncoderDecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor, layer by layer; positions are computed, not stored."""
    return bart.pair_tensors(config)


def is_ignorable(hf_name: str) -> bool:
    """Position tables, which follow from the settings."""
    return hf_name.endswith("embed_positions.weight")
