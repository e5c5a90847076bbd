"""mT5 (Xue et al. 2021): T5 1.1 for 101 languages, with a vocabulary of its own and an output matrix next to the embedding.

The logits are never scaled: transformers 4 scaled those of a tied matrix, which no published model has.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from parakit.checkpoints.architectures import t5
from parakit.checkpoints.hf_config import HFConfig
from parakit.common.files import JsonObject
from parakit.model.config import EncoderConfig, EncoderDecoderConfig

MODEL_TYPE = "mt5"
CLASSES: Mapping[str, str] = {
    "sequence_to_sequence": "MT5ForConditionalGeneration",
    "embedder": "MT5EncoderModel",
}
PREFIX, RENAMED, TIED_COPIES = t5.PREFIX, t5.RENAMED, t5.TIED_COPIES
finalize, hf_tensors, is_ignorable = t5.finalize, t5.hf_tensors, t5.is_ignorable
read_classifier, write_classifier = t5.read_classifier, t5.write_classifier


def read_settings(hf_config: HFConfig, where: str | Path) -> EncoderDecoderConfig | EncoderConfig:
    """Whether there is a separate output matrix depends on the stored tensors: see `t5.finalize`."""
    return t5.read_stacks(hf_config, where, MODEL_TYPE, CLASSES, scaled=False, projection="gated-gelu")


def write_settings(config: EncoderDecoderConfig | EncoderConfig) -> JsonObject:
    """The settings as T5's keys."""
    return t5.write_stacks(config, MODEL_TYPE)
