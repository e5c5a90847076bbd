"""The mistakes of a student and its teacher, put back one by one, and no false alarm on a healthy pair."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from parakit.compression.config import DistillConfig
from parakit.compression.distillation.checks import check_distillation
from parakit.compression.distillation.losses import distillation
from parakit.compression.distillation.teacher import Teacher
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training import tasks
from tests.compression.pairs import micro, pair, rows
from tests.training.tiny_runs import tiny_plan
from tests.training.tiny_tasks import TASKS, language_model, woken


def failures(student: Any, teacher: Teacher, tokenizer: Tokenizer, objective: Any = None) -> list[str]:
    objective, source = objective or distillation(teacher, DistillConfig()), TASKS["next_token"].source()
    results = check_distillation(
        student, teacher, objective, source, tokenizer, tiny_plan(), tasks.TASKS["next_token"]
    )
    return [result.name for result in results if not result.passed]


def test_a_healthy_pair_passes_every_check_and_is_unchanged(tokenizer: Tokenizer) -> None:
    student, teacher = pair(dtype=torch.float32)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    assert failures(student, teacher, tokenizer) == []
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    assert all(p.grad is None for p in student.parameters())


@pytest.mark.catches("teacher-trains")
def test_a_teacher_in_training_mode_is_caught(tokenizer: Tokenizer) -> None:
    student, teacher = pair(dtype=torch.float32, dropout=0.3)
    objective, batch = distillation(teacher, DistillConfig()), micro(rows())
    assert len({objective(student, batch).item() for _ in range(3)}) == 1
    teacher.model.train()
    assert failures(student, teacher, tokenizer) == ["teacher-trains"]
    with pytest.raises(AssertionError, match="training mode"):
        objective(student, batch)


@pytest.mark.catches("teacher-trains")
def test_a_teacher_that_would_be_trained_is_caught(tokenizer: Tokenizer) -> None:
    student, teacher = pair(dtype=torch.float32)
    teacher.model.lm_head.weight.requires_grad_()
    assert failures(student, teacher, tokenizer) == ["teacher-trains"]


@pytest.mark.catches("teacher-shares-tensors")
def test_a_student_that_shares_tensors_with_its_teacher_is_caught(tokenizer: Tokenizer) -> None:
    teacher = Teacher(woken(language_model(n_layers=3)))
    student = woken(language_model())
    student.trunk.blocks[0].feed_forward.down.weight = torch.nn.Parameter(
        teacher.model.trunk.blocks[2].feed_forward.down.weight.data
    )
    assert failures(student, teacher, tokenizer) == ["teacher-shares-tensors"]


@pytest.mark.catches("accumulation-weights")
def test_an_objective_that_averages_is_caught(tokenizer: Tokenizer) -> None:
    student, teacher = pair(dtype=torch.float32)
    right = distillation(teacher, DistillConfig())
    mean = lambda model, batch: right(model, batch) / max(batch.n_counted, 1)  # noqa: E731
    assert "accumulation-weights" in failures(student, teacher, tokenizer, mean)


def test_an_objective_that_counts_the_prompt_is_caught(tokenizer: Tokenizer) -> None:
    student, teacher = pair(dtype=torch.float32)
    right = distillation(teacher, DistillConfig())
    every = lambda model, batch: right(model, replace(batch, loss_mask=None))  # noqa: E731
    assert {"uncounted-targets", "masked-micro-batch"} <= set(failures(student, teacher, tokenizer, every))
