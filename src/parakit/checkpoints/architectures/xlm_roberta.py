"""XLM-R (Conneau et al. 2020): RoBERTa's layers and tensors with a vocabulary of a hundred languages; multilingual-e5 and
bge-m3 are built on it. A model of this shape is saved as RoBERTa, which computes the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from parakit.checkpoints.architectures import roberta
from parakit.checkpoints.hf_config import HFConfig
from parakit.common.files import JsonObject
from parakit.model.config import EncoderConfig

MODEL_TYPE = "xlm-roberta"
CLASSES: Mapping[str, str] = {
    head: name.replace("Roberta", "XLMRoberta") for head, name in roberta.CLASSES.items()
}
PREFIX, RENAMED, TIED_COPIES = roberta.PREFIX, roberta.RENAMED, roberta.TIED_COPIES
read_classifier, write_classifier = roberta.read_classifier, roberta.write_classifier
hf_tensors, is_ignorable = roberta.hf_tensors, roberta.is_ignorable


def read_settings(hf_config: HFConfig, where: str | Path) -> EncoderConfig:
    """As for RoBERTa."""
    return roberta.read_settings(hf_config, where, MODEL_TYPE)


def write_settings(config: EncoderConfig) -> JsonObject:
    """As for RoBERTa."""
    return roberta.write_settings(config) | {"model_type": MODEL_TYPE}
