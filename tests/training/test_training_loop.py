"""The loop: what a step's loss and gradient are, and which steps are not taken."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from parakit.model import LanguageModel
from parakit.tokens.batches.batch import Batch
from parakit.training.loop import (
    MAX_SKIPPED_IN_A_ROW,
    SpikeGuard,
    StepRecord,
    TrainingDiverged,
    accumulate_gradients,
    train_steps,
)
from parakit.training.micro_batches import MicroBatch, to_micro_batch
from parakit.training.objectives import next_token
from parakit.training.optimizers.optimizer import Optimizer
from parakit.training.precision import GROW_AFTER_STEPS, Precision
from parakit.training.trainer import Trainer
from tests.training.tiny_runs import (
    VOCAB_SIZE,
    facts,
    finish,
    tiny_model,
    tiny_plan,
    tiny_source,
    tiny_trainer,
    weights,
)

CPU = torch.device("cpu")


def woken(model: LanguageModel) -> LanguageModel:
    """No matrix of zeros, so that every gradient is one."""
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return model


def gradients(model: LanguageModel, batches: list[Batch], n_counted: int) -> dict[str, Tensor]:
    for parameter in model.parameters():
        parameter.grad = None
    accumulate_gradients(
        model, [to_micro_batch(b, CPU) for b in batches], next_token, Precision("float32", CPU), n_counted
    )
    return {name: p.grad.double() for name, p in model.named_parameters() if p.grad is not None}


def first_step(
    model: LanguageModel, micro_batches: list[MicroBatch], precision: Precision | None = None
) -> StepRecord:
    optimizer = Optimizer(model, tiny_plan())
    return next(train_steps(model, [micro_batches], next_token, optimizer, precision=precision))


# ---- gradients do not depend on bookkeeping


@pytest.mark.parametrize("packing", ["concat", "pack"])
@pytest.mark.parametrize("sizes", [[3, 3], [1] * 6, [4, 2], [5, 1], [2, 2, 2], [1, 5]])
def test_a_gradient_does_not_depend_on_how_the_batch_was_cut(packing: str, sizes: list[int]) -> None:
    model, source = woken(tiny_model()), tiny_source(packing, masked=True)
    whole = source.rows(3, 6)
    starts = np.cumsum([0, *sizes])
    parts = [source.rows(3 + int(start), size) for start, size in zip(starts[:-1], sizes, strict=True)]
    assert len(set(whole.loss_mask.sum(axis=1).tolist())) > 1, "rows must weigh differently"
    wanted = gradients(model, [whole], whole.n_counted)
    got = gradients(model, parts, whole.n_counted)
    norm = math.sqrt(sum(float(g.square().sum()) for g in wanted.values()))
    assert wanted.keys() == got.keys()
    assert max(float((wanted[n] - got[n]).abs().max()) for n in wanted) <= 1e-6 * norm


@pytest.mark.parametrize("micro_batch_size", [1, 2, 4, 5])
def test_a_whole_run_hardly_depends_on_the_micro_batch_size(micro_batch_size: int) -> None:
    wanted = finish(tiny_trainer(None, dropout=0.0))
    got = finish(tiny_trainer(None, dropout=0.0, micro_batch_size=micro_batch_size))
    assert [r.n_counted for r in got] == [r.n_counted for r in wanted]
    assert [r.learning_rate for r in got] == [r.learning_rate for r in wanted], (
        "the schedule counts micro-steps"
    )
    np.testing.assert_allclose([r.loss for r in got], [r.loss for r in wanted], rtol=2e-4)


def test_the_loss_is_the_mean_over_counted_tokens_of_the_whole_step() -> None:
    trainer = tiny_trainer(None, packing="pack", dropout=0.0, micro_batch_size=2)
    model = woken(trainer.model)
    rows = trainer.source.rows(0, 6)
    with torch.no_grad():
        micro = to_micro_batch(rows, CPU)
        logits = model(micro.input_ids, position_ids=micro.position_ids, attention_mask=micro.attention_mask)
        each = functional.cross_entropy(
            logits.double().flatten(0, 1), micro.target_ids.flatten(), reduction="none"
        )
    counted = torch.from_numpy(rows.loss_mask).flatten()
    assert not counted.all()
    record = next(iter(trainer.steps()))
    assert record.loss == pytest.approx(float(each[counted].mean()), rel=1e-6)
    assert record.n_counted == int(counted.sum())


def test_only_counted_targets_reach_the_loss_and_the_gradient() -> None:
    model, batch = woken(tiny_model()), tiny_source("pack", masked=True).rows(0, 4)
    before = gradients(model, [batch], batch.n_counted)
    targets = np.where(batch.loss_mask, batch.target_ids, (batch.target_ids + 7) % VOCAB_SIZE)
    other = Batch(**{**batch.__dict__, "target_ids": targets})
    after = gradients(model, [other], other.n_counted)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_batch_of_plain_rows_needs_no_mask_and_a_packed_one_brings_it() -> None:
    packed = to_micro_batch(tiny_source().rows(0, 6), CPU)
    assert packed.attention_mask is not None
    assert packed.attention_mask.shape == (6, 1, 12, 12)
    documents = torch.from_numpy(tiny_source().rows(0, 6).document_ids)
    for row in range(6):
        for i in range(12):
            seen = packed.attention_mask[row, 0, i]
            assert seen.tolist() == [
                j <= i and bool(documents[row, j] == documents[row, i]) for j in range(12)
            ]
    plain = Batch(**{**tiny_source().rows(0, 2).__dict__, "single_document": True})
    assert to_micro_batch(plain, CPU).attention_mask is None


def test_a_micro_batch_and_a_step_without_counted_tokens_do_no_harm() -> None:
    model = tiny_model()
    source = tiny_source("pack", masked=True)
    full = to_micro_batch(source.rows(0, 3), CPU)
    empty_rows = source.rows(3, 3)
    empty = to_micro_batch(
        Batch(**{**empty_rows.__dict__, "loss_mask": np.zeros_like(empty_rows.loss_mask), "n_counted": 0}),
        CPU,
    )
    assert next_token(model, empty).item() == 0.0
    with_empty, alone = (first_step(tiny_model(), part) for part in ([full, empty], [full]))
    assert (with_empty.loss, with_empty.n_counted) == (alone.loss, alone.n_counted)
    before = weights(model)
    [record] = train_steps(model, [[empty]], next_token, Optimizer(model, tiny_plan()))
    assert record.skipped
    assert record.loss == 0
    assert weights(model) == before


# ---- golden values


def test_two_runs_of_a_seed_are_equal_to_the_bit_and_another_seed_is_not() -> None:
    def run(seed: int) -> tuple[list[tuple[Any, ...]], dict[str, bytes]]:
        model = tiny_model(seed, dropout=0.1)
        trainer = Trainer(model, tiny_source(), next_token, tiny_plan(), None)
        return [facts(record) for record in finish(trainer)], weights(model)

    first = run(0)
    assert run(0) == first
    assert run(1)[0] != first[0]


GOLDEN = {
    "muon": [3.462772, 2.339043, 1.852205],
    "adamw": [3.462772, 2.525459, 2.092385],
}


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_losses_of_a_tiny_run_are_what_they_were(optimizer: str) -> None:
    records = finish(tiny_trainer(None, optimizer=optimizer, max_steps=40))
    got = [records[i].loss for i in (0, 19, 39)]
    assert got == pytest.approx(GOLDEN[optimizer], rel=1e-4)


def test_a_tiny_run_learns() -> None:
    records = finish(tiny_trainer(None, dropout=0.0, max_steps=150))
    assert records[0].loss == pytest.approx(math.log(VOCAB_SIZE), abs=0.05)
    assert np.mean([r.loss for r in records[-5:]]) < 1.6


# ---- steps that are not taken


def poisoned(at: Callable[[int], bool], value: float) -> Callable[[LanguageModel, MicroBatch], Tensor]:
    """next_token, but `value` is added to the loss (and its gradient made as bad) in the calls that `at` picks."""
    calls = [0]

    def objective(model: LanguageModel, batch: MicroBatch) -> Tensor:
        loss = next_token(model, batch)
        calls[0] += 1
        return loss + value * loss if at(calls[0] - 1) else loss

    return objective


def poisoned_session(
    folder: Path | None, at: Callable[[int], bool], value: float, **settings: Any
) -> Trainer:
    return Trainer(tiny_model(), tiny_source(), poisoned(at, value), tiny_plan(**settings), folder)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e9, -1e9])
def test_a_step_with_a_loss_that_cannot_be_is_skipped(value: float) -> None:
    trainer = poisoned_session(None, lambda call: call in (3, 4, 8), value)
    before = weights(trainer.model)
    records: list[StepRecord] = []
    for record in trainer.steps():
        assert (weights(trainer.model) == before) == record.skipped
        before = weights(trainer.model)
        records.append(record)
    assert [record.step for record in records if record.skipped] == [4, 5, 9]
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e9, -1e9])
def test_ten_such_steps_in_a_row_end_the_run_with_the_last_good_checkpoint(
    value: float, tmp_path: Path
) -> None:
    trainer = poisoned_session(tmp_path, lambda call: call >= 5, value, max_steps=40)
    taken = []
    with pytest.raises(TrainingDiverged, match=f"{MAX_SKIPPED_IN_A_ROW} steps in a row") as caught:
        taken.extend(trainer.steps())
    assert "last good checkpoint" in caught.value.hint
    assert [record.skipped for record in taken] == [False] * 5 + [True] * 9
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())
    resumed = Trainer(tiny_model(), tiny_source(), next_token, tiny_plan(max_steps=40), tmp_path)
    assert resumed.first_step == 4
    assert all(torch.isfinite(p).all() for p in resumed.model.parameters())


def test_nine_bad_steps_and_a_good_one_do_not_end_the_run() -> None:
    trainer = poisoned_session(None, lambda call: call % 10 != 9, math.nan, max_steps=40)
    assert sum(record.skipped for record in finish(trainer)) == 36


def test_a_gradient_that_is_no_number_is_not_taken_even_if_the_loss_is_one() -> None:
    class Bent(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
            return gradient * math.nan

    calls = [0]

    def objective(model: LanguageModel, batch: MicroBatch) -> Tensor:
        calls[0] += 1
        loss = next_token(model, batch)
        return Bent.apply(loss) if calls[0] == 2 else loss

    trainer = Trainer(tiny_model(), tiny_source(), objective, tiny_plan(), None)
    assert [record.step for record in finish(trainer) if record.skipped] == [2]
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


def test_a_leap_is_a_loss_far_above_its_running_mean() -> None:
    guard = SpikeGuard()
    assert all(guard.accepts(3.0, 1.0) for _ in range(19))
    assert guard.accepts(9.0, 1.0), "early on a loss may do what it likes"
    guard = SpikeGuard()
    for _ in range(30):
        assert guard.accepts(3.0, 1.0)
    assert guard.accepts(6.9, 1.0)
    assert not guard.accepts(7.6, 1.0)
    assert not guard.accepts(3.0, math.inf)
    assert guard.n_skipped_in_a_row == 2
    assert guard.accepts(3.0, 1.0)
    assert guard.n_skipped_in_a_row == 0


# ---- clipping and precision


@pytest.mark.parametrize("grad_clip", [0.0, 0.01, 100.0])
def test_gradients_are_clipped_to_their_joint_norm(grad_clip: float, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = tiny_trainer(None, grad_clip=grad_clip, dropout=0.0)
    seen: list[float] = []

    def look() -> None:
        norms = [p.grad.double().norm() for p in trainer.optimizer.parameters if p.grad is not None]
        seen.append(float(torch.stack(norms).norm()))

    monkeypatch.setattr(trainer.optimizer, "step", look)
    record = next(iter(trainer.steps()))
    wanted = min(record.grad_norm, grad_clip) if grad_clip else record.grad_norm
    assert seen == [pytest.approx(wanted, rel=1e-4)]


def test_the_loss_scale_falls_at_an_overflow_and_grows_after_many_good_steps() -> None:
    precision = Precision("float16", CPU)
    assert precision.scale == 2.0**16
    precision.update(overflowed=True)
    assert (precision.scale, precision.n_good_steps) == (2.0**15, 0)
    for _ in range(GROW_AFTER_STEPS - 1):
        precision.update(overflowed=False)
    assert precision.scale == 2.0**15
    precision.update(overflowed=False)
    assert precision.scale == 2.0**16
    for _ in range(40):
        precision.update(overflowed=True)
    assert precision.scale == 1.0
    for name in ("float32", "bfloat16"):
        plain = Precision(name, CPU)
        plain.update(overflowed=True)
        assert plain.scale == 1.0


def test_gradients_are_unscaled_before_they_are_clipped() -> None:
    batch = [to_micro_batch(tiny_source().rows(0, 6), CPU)]
    plain, scaled, precision = tiny_model(), tiny_model(), Precision("float32", CPU)
    precision.scale = 1024.0
    wanted, got = first_step(plain, batch), first_step(scaled, batch, precision)
    assert (got.loss, got.grad_norm) == (wanted.loss, pytest.approx(wanted.grad_norm, rel=1e-6))
    assert weights(scaled) == weights(plain), "a power of two scales without rounding"


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_as_float32_does(precision: str) -> None:
    wanted = finish(tiny_trainer(None, dropout=0.0, max_steps=20))
    trainer = tiny_trainer(None, dropout=0.0, max_steps=20, precision=precision)
    got = finish(trainer)
    assert not any(record.skipped for record in got)
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters()), "master weights"
    np.testing.assert_allclose([r.loss for r in got], [r.loss for r in wanted], rtol=0.03)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=80), st.floats(-1, 1))
def test_no_loss_makes_the_guard_reject_the_usual_ones(losses: list[float], usual: float) -> None:
    guard = SpikeGuard()
    for loss in losses:
        with contextlib.suppress(TrainingDiverged):
            accepted = guard.accepts(loss, 1.0)
            assert not accepted or abs(loss) <= 1e4
    assert math.isfinite(guard.mean)
    guard.n_skipped_in_a_row = 0
    assert guard.accepts(usual, 1.0)


@pytest.mark.parametrize(
    ("bad", "at_end"), [(lambda n: n % 5 == 0, 45), (lambda n: n > 40, 45), (lambda n: n == 0, 44)]
)
def test_a_skipped_step_where_a_save_is_due_delays_it(
    bad: Callable[[int], bool], at_end: int, tmp_path: Path
) -> None:
    """`bad`: by the number of a step, from 1."""
    settings = {"max_steps": at_end, "save_every": 5}
    trainer = poisoned_session(tmp_path, lambda call: bad(call + 1), math.nan, **settings)
    saved: list[int] = []
    for record in trainer.steps():
        saved.append(max((int(path.name[5:]) for path in tmp_path.glob("step-*")), default=0))
        assert record.skipped == bad(record.step)
    n_bad = [sum(bad(n) for n in range(due, due + 2)) for due in range(5, at_end - 5, 5)]
    assert all(saved[due + n] >= due for due, n in zip(range(5, at_end - 5, 5), n_bad, strict=True))
    resumed = Trainer(tiny_model(), tiny_source(), next_token, tiny_plan(**settings), tmp_path)
    assert resumed.first_step == at_end, "the last step is always saved"
    assert weights(resumed.model) == weights(trainer.model)
