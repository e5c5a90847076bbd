"""The loss on what was not trained on: exact, the same every time, and without a trace; what is logged of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from parakit.common.errors import UserError
from parakit.training.metrics import SAMPLE, MetricsLog, chart_rows
from parakit.training.micro_batches import to_micro_batch
from parakit.training.validation import one_epoch, validation_loss
from tests.training.tiny_tasks import TASKS, cut, woken

NOT_CUT = [name for name in TASKS if name not in ("embed",)]


@pytest.mark.parametrize("name", NOT_CUT)
def test_the_loss_of_a_split_does_not_depend_on_its_batches(name: str) -> None:
    task = TASKS[name]
    model, source = woken(task.model(dropout=0.3)), task.source()
    results = [validation_loss(model, one_epoch(source, n), task.objective) for n in (2, 3, 7, 1000)]
    assert len({result.n_counted for result in results}) == 1
    assert [result.loss for result in results] == pytest.approx([results[0].loss] * 4, rel=1e-5)
    whole = source.rows(0, int(source.rows_per_epoch))
    wanted = task.objective(model.eval(), to_micro_batch(whole, torch.device("cpu"))).item() / whole.n_counted
    assert results[0].loss == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("name", list(TASKS))
def test_two_validations_of_one_model_are_equal_and_leave_no_trace(name: str) -> None:
    task = TASKS[name]
    model = woken(task.model(dropout=0.3)).train()
    random, weights = torch.get_rng_state(), {n: p.clone() for n, p in model.named_parameters()}
    first, second = (validation_loss(model, one_epoch(task.source(), 4), task.objective) for _ in range(2))
    assert first == second
    assert model.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(p, weights[n]) and p.grad is None for n, p in model.named_parameters())


def test_masks_are_the_same_whatever_was_trained_in_between() -> None:
    source = TASKS["masked"].source()
    before = [batch.input_ids for batch in one_epoch(source, 4)]
    source.rows(1000, 8)
    after = [batch.input_ids for batch in one_epoch(source, 4)]
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def test_a_split_can_be_measured_in_part() -> None:
    source = TASKS["classify"].source()
    assert [len(batch.labels) for batch in one_epoch(source, 4, max_rows=10)] == [4, 4, 2]
    assert sum(len(batch.labels) for batch in one_epoch(source, 4)) == 20


def test_nothing_to_measure_and_a_loss_that_is_no_number_are_errors() -> None:
    task = TASKS["tag"]
    model, batch = task.model(), task.source().rows(0, 3)
    batch.loss_mask[:] = False
    with pytest.raises(UserError, match="nothing in the validation split"):
        validation_loss(model, [], task.objective)
    with pytest.raises(UserError, match="nothing in the validation split"):
        validation_loss(model, [cut(batch, 0, 3)], task.objective)
    torch.nn.init.constant_(model.label_head.weight, torch.nan)
    with pytest.raises(UserError, match="loss is nan"):
        validation_loss(model, one_epoch(task.source(), 4), task.objective)


def log_run(folder: Path, n_steps: int, every: int) -> None:
    with MetricsLog(folder) as metrics:
        for step in range(1, n_steps + 1):
            metrics.write("step", step, tokens=10, loss=1.0)
            if step % every == 0:
                metrics.write("validation", step, loss=1.0)
                metrics.write(SAMPLE, step, samples=[{"prompt": "the", "completion": str(step)}])


def test_few_points_are_all_there_with_their_tokens(tmp_path):
    log_run(tmp_path, 12, 4)
    found = chart_rows(tmp_path)
    assert [(row["step"], row["tokens"]) for row in found["samples_by_step"]] == [(4, 40), (8, 80), (12, 120)]
    assert found["samples_by_step"][1]["samples"] == [{"prompt": "the", "completion": "8"}]
    assert len(found["validations"]) == 3


def test_of_many_points_six_remain_most_of_them_early(tmp_path):
    log_run(tmp_path, 640, 10)
    steps = [row["step"] for row in chart_rows(tmp_path)["samples_by_step"]]
    assert steps == [10, 20, 50, 120, 280, 640]


def test_a_run_without_samples_has_no_key(tmp_path):
    with MetricsLog(tmp_path) as metrics:
        metrics.write("step", 1, tokens=10, loss=1.0)
    assert "samples_by_step" not in chart_rows(tmp_path)
