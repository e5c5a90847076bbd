"""No false alarm: healthy runs of every task pass every check, whatever the shape of the model, even without training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from parakit.model.config import ClassifierConfig
from parakit.model.heads import Classifier, SequenceToSequence
from parakit.model.presets import ARCHITECTURES, config_for_size
from parakit.stages.config import FinetuneConfig
from parakit.stages.finetune_methods import setup_method
from parakit.training.objectives import sequence_to_sequence
from tests.contracts.task_cases import CASE_TASKS, LABEL_TASKS, LABELS
from tests.contracts.test_contracts_task_models import encoder_of, set_causal
from tests.contracts.training_cases import TrainingCase
from tests.short_suite import crossed

ALL = pytest.mark.parametrize("task", CASE_TASKS)
SHAPES: dict[str, dict[str, Any]] = {
    "BERT": {
        "positions": "learned", "post_norm": True, "norm": "layer", "norm_bias": True, "attention_bias": True,
        "attention_output_bias": True, "feed_forward_bias": True, "gated": False, "activation": "gelu",
        "n_token_types": 2, "dropout": 0.1, "final_norm": False,
    },
    "2017": {
        "positions": "sinusoidal", "post_norm": True, "norm": "layer", "norm_bias": True, "gated": False,
        "activation": "relu", "embedding_scale": 4.0, "dropout": 0.1, "final_norm": False,
    },
    "ModernBERT": {
        "n_layers": 2, "sliding_window": 8, "local_layers": (1,), "local_rope_theta": 100.0,
        "tie_embeddings": False,
    },
    "experts": {"n_experts": 4, "n_active_experts": 1, "d_expert": 12, "n_shared_experts": 1},
    "linear": {"attention": "linear", "positions": "rotary"},
}  # fmt: skip


@ALL
def test_a_healthy_run_passes_every_check(task: str, healthy_task: Callable[..., TrainingCase]) -> None:
    assert healthy_task(task, n_layers=2).failures() == []


@crossed("task, name", ["prefix", "masked", "span_corruption", "tag", "embed"], list(SHAPES))
def test_the_shape_of_the_model_does_not_matter(
    task: str, name: str, healthy_task: Callable[..., TrainingCase]
) -> None:
    assert healthy_task(task, **SHAPES[name]).failures() == []


@pytest.mark.parametrize("task", [*LABEL_TASKS, "embed"])
def test_a_decoder_that_labels_or_embeds_is_healthy(
    task: str, healthy_task: Callable[..., TrainingCase]
) -> None:
    assert healthy_task(task, decoder_trunk=True).failures() == []


@ALL
def test_a_model_that_was_trained_before_is_healthy(
    task: str, healthy_task: Callable[..., TrainingCase]
) -> None:
    case = healthy_task(task)
    with torch.no_grad():
        for parameter in case.model.parameters():
            parameter.normal_(std=0.3)
    assert case.failures() == []


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.5])
def test_smoothed_labels_are_healthy(
    label_smoothing: float, healthy_task: Callable[..., TrainingCase]
) -> None:
    case = healthy_task("span_corruption").replace(objective=sequence_to_sequence(label_smoothing))
    with torch.no_grad():
        for parameter in case.model.parameters():
            parameter.normal_(std=0.3)
    assert case.failures() == []


@ALL
def test_the_checks_leave_no_trace(task: str, healthy_task: Callable[..., TrainingCase]) -> None:
    case = healthy_task(task, dropout=0.1)
    model = case.model.train()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    random, modes = torch.get_rng_state(), [module.training for module in model.modules()]
    assert case.failures() == []
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("task", ["masked", "translate", "embed"])
def test_half_precision_is_healthy(task: str, healthy_task: Callable[..., TrainingCase]) -> None:
    case = healthy_task(task)
    assert case.replace(plan=case.plan.replace(precision="bfloat16")).failures() == []


# ---- encoders that are untrained or barely trained

ENCODERS = {name: family for name, (family, _) in ARCHITECTURES.items() if family != "decoder"}
METHODS: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "lora": {"method": "lora", "rank": 2},
    "lora-alpha": {"method": "lora", "rank": 1, "alpha": 256},
    "dora": {"method": "lora", "rank": 2, "dora": True},
    "pissa": {"method": "lora", "rank": 2, "lora_init": "pissa"},
}


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


STARTS = [
    *((method, 0.0) for method in METHODS if method != "dora"),  # the magnitude of a row of zeros is zero
    *((method, 1e-5) for method in METHODS),
]


@crossed("architecture, start", list(ENCODERS), STARTS)
def test_an_encoder_without_training_raises_no_alarm(
    architecture: str, start: tuple[str, float], healthy_task: Callable[..., TrainingCase]
) -> None:
    method, std = start
    assert encoder_case(architecture, method, std, healthy_task).failures() == []


@pytest.mark.catches("attention-direction")
@crossed("architecture, method, std", list(ENCODERS), list(METHODS), [0.0, 0.3])
def test_an_encoder_that_looks_back_only_is_caught(
    architecture: str, method: str, std: float, healthy_task: Callable[..., TrainingCase]
) -> None:
    case = encoder_case(architecture, method, std, healthy_task)
    set_causal(encoder_of(case.model), causal=True)
    assert "attention-direction" in case.failures()
