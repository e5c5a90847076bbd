"""No false alarm: healthy runs of every kind pass every check, whatever the shape of the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from parakit.training.doctor.tasks.lists import BEHAVIOUR_CHECKS, ROW_CHECKS
from parakit.training.objectives import sequence_to_sequence
from tests.contracts.patients import Patient
from tests.contracts.task_patients import LABEL_KINDS, TASK_KINDS

ALL = pytest.mark.parametrize("kind", TASK_KINDS)
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
def test_a_healthy_run_passes_every_check(kind: str, healthy_task: Callable[..., Patient]) -> None:
    assert healthy_task(kind, n_layers=2).faults() == []


@pytest.mark.parametrize("kind", ["prefix", "masked", "span_corruption", "tag", "embed"])
@pytest.mark.parametrize("name", list(SHAPES))
def test_the_shape_of_the_model_does_not_matter(
    kind: str, name: str, healthy_task: Callable[..., Patient]
) -> None:
    assert healthy_task(kind, **SHAPES[name]).faults() == []


@pytest.mark.parametrize("kind", [*LABEL_KINDS, "embed"])
def test_a_decoder_that_labels_or_embeds_is_healthy(kind: str, healthy_task: Callable[..., Patient]) -> None:
    assert healthy_task(kind, decoder_trunk=True).faults() == []


@ALL
def test_a_model_that_was_trained_before_is_healthy(kind: str, healthy_task: Callable[..., Patient]) -> None:
    patient = healthy_task(kind)
    with torch.no_grad():
        for parameter in patient.model.parameters():
            parameter.normal_(std=0.3)
    assert patient.faults() == []


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.5])
def test_smoothed_labels_are_healthy(label_smoothing: float, healthy_task: Callable[..., Patient]) -> None:
    patient = healthy_task("span_corruption").but(objective=sequence_to_sequence(label_smoothing))
    with torch.no_grad():
        for parameter in patient.model.parameters():
            parameter.normal_(std=0.3)
    assert patient.faults() == []


@ALL
def test_the_examination_leaves_no_trace(kind: str, healthy_task: Callable[..., Patient]) -> None:
    patient = healthy_task(kind, dropout=0.1)
    model = patient.model.train()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    random, modes = torch.get_rng_state(), [module.training for module in model.modules()]
    assert patient.faults() == []
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("kind", ["masked", "translate", "embed"])
def test_half_precision_is_healthy(kind: str, healthy_task: Callable[..., Patient]) -> None:
    patient = healthy_task(kind)
    assert patient.but(plan=patient.plan.replace(precision="bfloat16")).faults() == []


def test_names_are_slugs_with_a_way_out_and_tell_kinds_apart() -> None:
    for checks in (ROW_CHECKS, BEHAVIOUR_CHECKS):
        assert all(check.name == check.name.lower().replace(" ", "-") and check.hint for check in checks)
        for kind in TASK_KINDS:
            names = [check.name for check in checks if not check.only or kind in check.only]
            assert len(names) == len(set(names)), "one check of a name in a list"
