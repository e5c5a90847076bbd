"""mBART and mBART-50 (Liu et al. 2020; Tang et al. 2020): BART with norms before the layers and behind the last one, for
many languages.

The decoder of mBART-50 starts with EOS and writes the target's language first. That of mBART starts with the language, for
which there is no default; like transformers, `read_settings` then takes BOS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from parakit.checkpoints.architectures import bart
from parakit.checkpoints.hf_config import HFConfig, RequiredValues
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.common.files import JsonObject
from parakit.model.config import EncoderDecoderConfig

MODEL_TYPE = "mbart"
CLASSES: Mapping[str, str] = {"sequence_to_sequence": "MBartForConditionalGeneration"}
ALIASES: Mapping[str, str] = {"MBartModel": "sequence_to_sequence"}
PREFIX, RENAMED, TIED_COPIES = bart.PREFIX, bart.RENAMED, bart.TIED_COPIES
read_classifier, write_classifier = bart.read_classifier, bart.write_classifier
finalize, is_ignorable = bart.finalize, bart.is_ignorable
REQUIRED_VALUES: RequiredValues = {
    **bart.REQUIRED_VALUES,
    **bart.PRE_NORM_REQUIRED,
}


def read_settings(hf_config: HFConfig, where: str | Path) -> EncoderDecoderConfig:
    """Whether the logits have a bias depends on the stored tensors."""
    if hf_config.get("decoder_start_token_id") is None:
        hf_config = {**hf_config, "decoder_start_token_id": hf_config.get("bos_token_id") or 0}
    return bart.read_pair(
        hf_config,
        where,
        model_type=MODEL_TYPE,
        shape=bart.SHAPE | bart.PRE_NORM,
        required=REQUIRED_VALUES,
        defaults=bart.DEFAULTS,
    )


def write_settings(config: EncoderDecoderConfig) -> JsonObject:
    """The settings as mBART's keys."""
    return bart.write_pair(config, MODEL_TYPE) | {"normalize_embedding": True}


def hf_tensors(config: EncoderDecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor, layer by layer."""
    yield from bart.learned_positions(config)
    yield from bart.pair_tensors(config)
