"""The direction of attention: no false alarm in a model that is untrained or barely trained, and no missed mistake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from parakit.model.config import ClassifierConfig
from parakit.model.heads import Classifier, SequenceToSequence
from parakit.model.presets import ARCHITECTURES, config_for_size
from parakit.stages.config import FinetuneConfig
from parakit.stages.finetune_methods import setup_method
from tests.contracts.task_cases import LABELS
from tests.contracts.test_contracts_task_models import encoder_of, set_causal
from tests.contracts.training_cases import TrainingCase

ENCODERS = {name: family for name, (family, _) in ARCHITECTURES.items() if family != "decoder"}
METHODS: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "lora": {"method": "lora", "rank": 2},
    "lora-alpha": {"method": "lora", "rank": 1, "alpha": 256},
    "dora": {"method": "lora", "rank": 2, "dora": True},
    "pissa": {"method": "lora", "rank": 2, "lora_init": "pissa"},
}
EVERY_ENCODER = pytest.mark.parametrize("architecture", list(ENCODERS))


def encoder_case(
    architecture: str, method: str, std: float, healthy_task: Callable[..., TrainingCase]
) -> Any:
    """A run whose model has made no step (`std` 0: its output matrices are zero), or hardly any."""
    family = ENCODERS[architecture]
    case = healthy_task("classify" if family == "encoder" else "translate")
    config: Any = config_for_size("60k", case.tokenizer.vocab_size, 128, family, architecture).config
    model: Any
    if family == "encoder":
        head = "tanh" if architecture == "bert" else "transform"
        model = Classifier(config, ClassifierConfig(labels=LABELS, pooling="cls", head=head))
    else:
        model = SequenceToSequence(config)
    model.reset()
    for parameter in model.parameters():
        if std and parameter.ndim > 1 and not parameter.any():
            nn.init.normal_(parameter, std=std)
    setup = setup_method(model, FinetuneConfig.parse(METHODS[method], "finetune"), case.tokenizer)
    return case.replace(model=model, frozen=setup.frozen)


@EVERY_ENCODER
@pytest.mark.parametrize(
    ("method", "std"),
    [
        *((method, 0.0) for method in METHODS if method != "dora"),  # the magnitude of a row of zeros is zero
        *((method, 1e-5) for method in METHODS),
    ],
)
def test_an_encoder_without_training_raises_no_alarm(
    architecture: str, method: str, std: float, healthy_task: Callable[..., TrainingCase]
) -> None:
    assert encoder_case(architecture, method, std, healthy_task).failures() == []


@pytest.mark.catches("attention-direction")
@EVERY_ENCODER
@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("std", [0.0, 0.3], ids=["untrained", "trained"])
def test_an_encoder_that_looks_back_only_is_caught(
    architecture: str, method: str, std: float, healthy_task: Callable[..., TrainingCase]
) -> None:
    case = encoder_case(architecture, method, std, healthy_task)
    set_causal(encoder_of(case.model), causal=True)
    assert "attention-direction" in case.failures()
