"""The mistakes of batches, gradients and objectives, put back one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from parakit.tokens.batches import source as batch_source
from parakit.tokens.batches.batch import Batch
from parakit.training import loop, micro_batches
from parakit.training.micro_batches import MicroBatch, to_micro_batch
from parakit.training.objectives import next_token
from parakit.training.precision import Precision
from tests.contracts.training_cases import TrainingCase, make_plan, with_batches

BOTH = pytest.mark.parametrize("task", ["chat", "pretrain"])


@pytest.fixture
def case(task: str, request: pytest.FixtureRequest) -> TrainingCase:
    return request.getfixturevalue(task)


Accumulate = Callable[[nn.Module, Sequence[MicroBatch], Any, Precision, int], float]


def backward(loss: Tensor) -> float:
    loss.backward()
    return float(loss.detach())


# ---- how micro-batches are weighted


def mean_objective(model: nn.Module, batch: MicroBatch) -> Tensor:
    return next_token(model, batch) / batch.n_counted if batch.n_counted else next_token(model, batch)


@pytest.mark.catches("accumulation-weights")
@BOTH
def test_an_objective_that_returns_a_mean(case: TrainingCase) -> None:
    assert case.replace(objective=mean_objective).first_failure() == "accumulation-weights"


@pytest.mark.catches("accumulation-weights")
@BOTH
def test_a_loop_that_averages_the_means_of_micro_batches(
    case: TrainingCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def average(
        model: nn.Module, parts: Sequence[MicroBatch], objective: Any, precision: Any, n_counted: int
    ) -> float:
        return sum(
            backward(objective(model, part) / part.n_counted / len(parts)) for part in parts if part.n_counted
        )

    monkeypatch.setattr(loop, "accumulate_gradients", average)
    assert case.first_failure() == "accumulation-weights"


@pytest.mark.catches("count-differs")
@BOTH
def test_a_count_that_is_not_the_masks(case: TrainingCase) -> None:
    changed = with_batches(case, lambda batch: {"n_counted": batch.loss_mask.size})
    assert changed.first_failure() == ("count-differs" if case.task == "chat" else "healthy")
    assert (
        with_batches(case, lambda batch: {"n_counted": batch.n_counted - 1}).first_failure()
        == "count-differs"
    )


@pytest.mark.catches("rank-weights")
@BOTH
def test_ranks_that_divide_by_their_own_count(case: TrainingCase, monkeypatch: pytest.MonkeyPatch) -> None:
    def local(
        model: nn.Module, parts: Sequence[MicroBatch], objective: Any, precision: Any, n_counted: int
    ) -> float:
        own = sum(part.n_counted for part in parts)
        return sum(backward(objective(model, part) / own) for part in parts if part.n_counted)

    monkeypatch.setattr(loop, "accumulate_gradients", local)
    assert case.first_failure() == "rank-weights"


@pytest.mark.catches("rank-rows")
@pytest.mark.parametrize("shift", [(0, 1), (1, 0), (0, -1)])
def test_ranks_that_share_rows_or_leave_some_out(
    shift: tuple[int, int], pretrain: TrainingCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = batch_source.rank_rows

    def wrong(step: int, n_rows: int, rank: int = 0, world_size: int = 1) -> tuple[int, int]:
        first, n = real(step, n_rows, rank, world_size)
        return (first + shift[0], n + shift[1]) if rank else (first, n)

    monkeypatch.setattr(batch_source, "rank_rows", wrong)
    assert pretrain.first_failure() == "rank-rows"


@pytest.mark.catches("masked-micro-batch")
@BOTH
def test_a_micro_batch_without_counted_tokens_gives_nan(case: TrainingCase) -> None:
    def objective(model: nn.Module, batch: MicroBatch) -> Tensor:
        mask = (
            torch.ones_like(batch.target_ids, dtype=torch.bool)
            if batch.loss_mask is None
            else batch.loss_mask
        )
        hidden = model.hidden(
            batch.input_ids, position_ids=batch.position_ids, attention_mask=batch.attention_mask
        )
        mean = functional.cross_entropy(
            model.lm_head(hidden[mask]), batch.target_ids[mask]
        )  # 0 / 0 without any
        return mean * batch.n_counted

    assert case.replace(objective=objective).first_failure() == "masked-micro-batch"


@pytest.mark.catches("masked-micro-batch")
@BOTH
def test_a_micro_batch_without_counted_tokens_that_changes_the_gradient(
    case: TrainingCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(
        model: nn.Module, parts: Sequence[MicroBatch], objective: Any, precision: Any, n_counted: int
    ) -> float:
        share = sum(part.n_counted > 0 for part in parts) / len(parts)
        return sum(backward(objective(model, part) / n_counted * share) for part in parts if part.n_counted)

    monkeypatch.setattr(loop, "accumulate_gradients", wrong)
    assert case.first_failure() == "masked-micro-batch"


@pytest.mark.catches("last-window")
@BOTH
def test_a_smaller_last_window_that_is_scaled_as_a_full_one(
    case: TrainingCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(
        model: nn.Module, parts: Sequence[MicroBatch], objective: Any, precision: Any, n_counted: int
    ) -> float:
        rows = len(parts[0].input_ids)  # the nominal size of a micro-batch
        scale = [rows / len(part.input_ids) for part in parts]
        return sum(
            backward(objective(model, part) / n_counted * s) for part, s in zip(parts, scale, strict=True)
        )

    monkeypatch.setattr(loop, "accumulate_gradients", wrong)
    assert case.first_failure() == "last-window"


# ---- packed documents


@pytest.mark.catches("documents-not-separated")
@BOTH
def test_packed_rows_that_are_marked_as_one_document(case: TrainingCase) -> None:
    assert (
        with_batches(case, lambda batch: {"single_document": True}).first_failure()
        == "documents-not-separated"
    )


@pytest.mark.catches("documents-not-separated")
@BOTH
def test_document_ids_that_stay_the_same(case: TrainingCase) -> None:
    changed = with_batches(case, lambda batch: {"document_ids": np.minimum(batch.document_ids, 0)})
    assert changed.first_failure() == "documents-not-separated"


@pytest.mark.catches("documents-not-separated")
@BOTH
def test_one_boundary_that_is_lost(case: TrainingCase) -> None:
    def change(batch: Batch) -> dict[str, Any]:
        documents = batch.document_ids.copy()
        row = int((documents > 0).any(axis=1).argmax())
        documents[row] = np.where(documents[row] == 1, 0, documents[row])
        return {"document_ids": documents}

    assert with_batches(case, change).first_failure() == "documents-not-separated"


@pytest.mark.catches("documents-leak")
@BOTH
def test_an_attention_mask_that_forgets_the_documents(
    case: TrainingCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plain(batch: Batch, device: torch.device) -> MicroBatch:
        micro = to_micro_batch(batch, device)
        return micro if micro.attention_mask is None else replace(micro, attention_mask=None)

    monkeypatch.setattr(micro_batches, "to_micro_batch", plain)
    assert case.first_failure() == "documents-leak"


@pytest.mark.catches("documents-leak")
@BOTH
def test_an_attention_mask_that_cuts_a_document_in_two(
    case: TrainingCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def narrow(batch: Batch, device: torch.device) -> MicroBatch:
        micro = to_micro_batch(batch, device)
        if micro.attention_mask is None:
            return micro
        near = torch.ones_like(micro.attention_mask).triu(-2)  # only the last three tokens
        return replace(micro, attention_mask=micro.attention_mask & near)

    monkeypatch.setattr(micro_batches, "to_micro_batch", narrow)
    assert case.first_failure() == "documents-leak"


@pytest.mark.catches("documents-leak")
@BOTH
def test_a_model_that_ignores_the_attention_mask(case: TrainingCase) -> None:
    model = case.model
    for block in model.trunk.blocks:
        inner = block.attention.forward
        block.attention.forward = lambda x, rotation, mask, cache, inner=inner: inner(
            x, rotation, None, cache
        )
    assert case.first_failure() == "documents-leak"


@pytest.mark.catches("packing-changes-loss")
@BOTH
def test_a_kernel_whose_mask_ends_after_some_columns(
    case: TrainingCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a chunked kernel that restarts its mask: `documents-leak` does not see so far."""

    def short(batch: Batch, device: torch.device) -> MicroBatch:
        micro = to_micro_batch(batch, device)
        if micro.attention_mask is None:
            return micro
        mask = micro.attention_mask.clone()
        n = mask.shape[-1]
        mask[..., 24:, :] = torch.ones(n, n, dtype=torch.bool).tril()[24:]
        return replace(micro, attention_mask=mask)

    monkeypatch.setattr(micro_batches, "to_micro_batch", short)
    assert case.first_failure() == "packing-changes-loss"


@pytest.mark.catches("positions-not-reset")
@BOTH
def test_positions_that_continue_across_documents(case: TrainingCase) -> None:
    changed = with_batches(
        case,
        lambda batch: {"position_ids": np.broadcast_to(np.arange(96), batch.input_ids.shape).copy()},
    )
    assert changed.first_failure() == "positions-not-reset"


@pytest.mark.catches("future-leak")
@BOTH
def test_a_model_that_sees_the_future(case: TrainingCase) -> None:
    model = case.model
    for block in model.trunk.blocks:
        inner = block.attention.forward

        def see_all(x: Tensor, rotation: Any, mask: Tensor | None, cache: Any, inner: Any = inner) -> Tensor:
            seq_len = x.shape[1]
            everything = torch.ones(1, 1, seq_len, seq_len, dtype=torch.bool)
            return inner(x, rotation, everything if mask is None else mask | mask.mT, cache)

        block.attention.forward = see_all
    assert case.first_failure() == "future-leak"


# ---- shifts


@pytest.mark.catches("targets-shift")
@BOTH
def test_targets_that_are_not_shifted(case: TrainingCase) -> None:
    assert (
        "targets-shift" in with_batches(case, lambda batch: {"target_ids": batch.input_ids.copy()}).failures()
    )


@pytest.mark.catches("targets-shift")
@BOTH
def test_targets_that_are_shifted_twice(case: TrainingCase) -> None:
    changed = with_batches(case, lambda batch: {"target_ids": np.roll(batch.target_ids, -1, axis=1)})
    assert "targets-shift" in changed.failures()


def test_shifts_are_the_first_fault_in_pre_training(pretrain: TrainingCase) -> None:
    for change in (lambda b: b.input_ids.copy(), lambda b: np.roll(b.target_ids, -1, axis=1)):
        changed = with_batches(pretrain, lambda batch, change=change: {"target_ids": change(batch)})
        assert changed.first_failure() in ("targets-shift", "no-end-of-text")


@pytest.mark.catches("objective-shifts-targets")
@BOTH
def test_an_objective_that_shifts_again(case: TrainingCase) -> None:
    def shifting(model: nn.Module, batch: MicroBatch) -> Tensor:
        mask = (
            torch.ones_like(batch.target_ids, dtype=torch.bool)
            if batch.loss_mask is None
            else batch.loss_mask
        )
        logits = model(batch.input_ids, position_ids=batch.position_ids, attention_mask=batch.attention_mask)
        logits, targets, mask = logits[:, :-1], batch.target_ids[:, 1:], mask[:, 1:]
        return functional.cross_entropy(logits[mask], targets[mask], reduction="sum")

    assert case.replace(objective=shifting).first_failure() == "objective-shifts-targets"


@pytest.mark.catches("rows-not-in-data")
def test_a_last_target_that_is_not_the_next_token(pretrain: TrainingCase) -> None:
    def change(batch: Batch) -> dict[str, Any]:
        targets = batch.target_ids.copy()
        targets[:, -1] = batch.input_ids[:, 0]  # as np.roll would leave it
        return {"target_ids": targets}

    assert with_batches(pretrain, change).first_failure() == "rows-not-in-data"


# ---- objectives that count wrong


@pytest.mark.catches("uncounted-targets")
@BOTH
def test_an_objective_that_forgets_the_loss_mask(case: TrainingCase) -> None:
    def forgetful(model: nn.Module, batch: MicroBatch) -> Tensor:
        return next_token(model, replace(batch, loss_mask=None))

    assert case.replace(objective=forgetful).first_failure() == "uncounted-targets"


@pytest.mark.catches("objective-differs")
@BOTH
def test_an_objective_that_is_another_loss(case: TrainingCase) -> None:
    assert (
        case.replace(objective=lambda model, batch: 0.5 * next_token(model, batch)).first_failure()
        == "objective-differs"
    )


@pytest.mark.catches("half-precision-loss")
def test_a_loss_in_half_precision(pretrain: TrainingCase) -> None:
    def rough(model: nn.Module, batch: MicroBatch) -> Tensor:
        loss = next_token(model, batch)
        return loss.bfloat16() if torch.is_autocast_enabled("cpu") else loss

    plan = make_plan(pretrain.shards, precision="bfloat16")
    assert pretrain.replace(plan=plan).first_failure() == "healthy"
    assert pretrain.replace(plan=plan, objective=rough).first_failure() == "half-precision-loss"
