"""Models that no published architecture computes: every setting and every parameter under Parakit's own names.

A folder of this kind is loaded by Parakit only. It is what an experiment with a new combination of choices is saved as
(positions without rotation in a Qwen3, say); a model that a published architecture computes is never saved so.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from parakit.checkpoints.hf_config import MAX_SEQ_LEN, HFConfig
from parakit.checkpoints.mapping import Head, HFTensor, TensorSlice
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.model.config import ClassifierConfig, EncoderDecoderConfig, ModelConfig, model_config

MODEL_TYPE = "parakit"
CLASSES = {
    "language_model": "ParakitLanguageModel",
    "masked_language_model": "ParakitMaskedLanguageModel",
    "sequence_to_sequence": "ParakitSequenceToSequence",
}
PREFIX = ""
RENAMED: dict[str, str] = {}
TIED_COPIES: dict[str, str] = {}
MOST_LAYERS = 1000  # a file may say anything, and every layer is built to learn its parameters' names


def read_settings(hf_config: HFConfig, where: str | Path) -> ModelConfig:
    """The settings under `settings`, of the family under `family`."""
    settings, family = hf_config.get("settings"), hf_config.get("family")
    if not isinstance(settings, dict) or not isinstance(family, str):
        raise UserError(f"{where}: has no `family` and `settings`", "the folder is damaged: build it again")
    config = model_config(family, settings, str(where))
    stacks = [config.encoder, config.decoder] if isinstance(config, EncoderDecoderConfig) else [config]
    if config.n_layers > MOST_LAYERS or max(stack.max_seq_len for stack in stacks) > MAX_SEQ_LEN:
        raise UserError(f"{where}: names {config.n_layers:,} layers", "the folder is damaged: build it again")
    return config


def write_settings(config: ModelConfig) -> JsonObject:
    """Every setting, under its own name."""
    return {
        "model_type": MODEL_TYPE,
        "family": config.family,
        "settings": config.model_dump(mode="json"),
        "vocab_size": config.vocab_size,
    }


def read_classifier(hf_config: HFConfig, level: str) -> JsonObject:
    """A folder of this kind has no labels."""
    raise UserError("a model in Parakit's own layout has no classifier", "tune a published architecture")


def write_classifier(classes: ClassifierConfig) -> JsonObject:
    """A folder of this kind has no labels."""
    return {}


def hf_tensors(config: Any, head: Head) -> Iterator[HFTensor]:
    """A tensor for each parameter, under its name; a tied matrix once. Imports torch, which knows the shapes."""
    for name, shape in _parameters(config, head.kind):
        yield HFTensor(name, shape, (TensorSlice(name),))


def is_ignorable(hf_name: str) -> bool:
    """Nothing is left out."""
    return False


@functools.lru_cache(maxsize=8)
def _parameters(config: ModelConfig, kind: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    import torch

    from parakit.checkpoints.weights import empty_model

    model = empty_model(config, Head(kind), torch.device("meta"), torch.float32)  # type: ignore[arg-type]
    return tuple((name, tuple(parameter.shape)) for name, parameter in model.named_parameters())
