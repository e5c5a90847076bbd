"""Pitfalls 11 to 24 as far as the doctor sees them, put back one by one: batches, gradients, parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from parakit.tokens.batches import source as token_batches
from parakit.tokens.batches.batch import Batch
from parakit.tokens.batches.source import BatchSource
from parakit.training import loop, micro_batches
from parakit.training.micro_batches import MicroBatch, to_micro_batch
from parakit.training.objectives import next_token
from parakit.training.optimizers import optimizer as optimizers
from parakit.training.precision import Precision
from tests.contracts.patients import Patient, make_model, make_plan, with_batches

BOTH = pytest.mark.parametrize("kind", ["chat", "pretrain"])


@pytest.fixture
def patient(kind: str, request: pytest.FixtureRequest) -> Patient:
    return request.getfixturevalue(kind)


Accumulate = Callable[[nn.Module, Sequence[MicroBatch], Any, Precision, int], float]


def backward(loss: Tensor) -> float:
    loss.backward()
    return float(loss.detach())


# ---- 11, 12, 13, 15: how micro-batches are weighted


def mean_objective(model: nn.Module, batch: MicroBatch) -> Tensor:
    return next_token(model, batch) / batch.n_counted if batch.n_counted else next_token(model, batch)


@BOTH
def test_11_an_objective_that_returns_a_mean(patient: Patient) -> None:
    assert patient.but(objective=mean_objective).verdict() == "accumulation-weights"


@BOTH
def test_11_a_loop_that_averages_the_means_of_micro_batches(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def average(
        model: nn.Module, parts: Sequence[MicroBatch], objective: Any, precision: Any, n_counted: int
    ) -> float:
        return sum(
            backward(objective(model, part) / part.n_counted / len(parts)) for part in parts if part.n_counted
        )

    monkeypatch.setattr(loop, "accumulate_gradients", average)
    assert patient.verdict() == "accumulation-weights"


@BOTH
def test_11_a_count_that_is_not_the_masks(patient: Patient) -> None:
    changed = with_batches(patient, lambda batch: {"n_counted": batch.loss_mask.size})
    assert changed.verdict() == ("count-differs" if patient.kind == "chat" else "healthy")
    assert (
        with_batches(patient, lambda batch: {"n_counted": batch.n_counted - 1}).verdict() == "count-differs"
    )


@BOTH
def test_12_ranks_that_divide_by_their_own_count(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    def local(
        model: nn.Module, parts: Sequence[MicroBatch], objective: Any, precision: Any, n_counted: int
    ) -> float:
        own = sum(part.n_counted for part in parts)
        return sum(backward(objective(model, part) / own) for part in parts if part.n_counted)

    monkeypatch.setattr(loop, "accumulate_gradients", local)
    assert patient.verdict() == "rank-weights"


@pytest.mark.parametrize("shift", [(0, 1), (1, 0), (0, -1)])
def test_12_ranks_that_share_rows_or_leave_some_out(
    shift: tuple[int, int], pretrain: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = token_batches.rank_rows

    def wrong(step: int, n_rows: int, rank: int = 0, world_size: int = 1) -> tuple[int, int]:
        first, n = real(step, n_rows, rank, world_size)
        return (first + shift[0], n + shift[1]) if rank else (first, n)

    monkeypatch.setattr(token_batches, "rank_rows", wrong)
    assert pretrain.verdict() == "rank-rows"


@BOTH
def test_13_a_micro_batch_without_counted_tokens_gives_nan(patient: Patient) -> None:
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

    assert patient.but(objective=objective).verdict() == "masked-micro-batch"


@BOTH
def test_13_a_micro_batch_without_counted_tokens_that_changes_the_gradient(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(
        model: nn.Module, parts: Sequence[MicroBatch], objective: Any, precision: Any, n_counted: int
    ) -> float:
        share = sum(part.n_counted > 0 for part in parts) / len(parts)
        return sum(backward(objective(model, part) / n_counted * share) for part in parts if part.n_counted)

    monkeypatch.setattr(loop, "accumulate_gradients", wrong)
    assert patient.verdict() == "masked-micro-batch"


@BOTH
def test_15_a_smaller_last_window_that_is_scaled_as_a_full_one(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
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
    assert patient.verdict() == "last-window"


# ---- 14: packed documents


@BOTH
def test_14_packed_rows_said_to_hold_one_document(patient: Patient) -> None:
    assert with_batches(patient, lambda batch: {"single_document": True}).verdict() == "documents-leak"


@BOTH
def test_14_document_ids_that_stay_the_same(patient: Patient) -> None:
    changed = with_batches(patient, lambda batch: {"document_ids": np.minimum(batch.document_ids, 0)})
    assert changed.verdict() == "documents-leak"


@BOTH
def test_14_one_boundary_that_is_lost(patient: Patient) -> None:
    def change(batch: Batch) -> dict[str, Any]:
        documents = batch.document_ids.copy()
        row = int((documents > 0).any(axis=1).argmax())
        documents[row] = np.where(documents[row] == 1, 0, documents[row])
        return {"document_ids": documents}

    assert with_batches(patient, change).verdict() == "documents-leak"


@BOTH
def test_14_an_attention_mask_that_forgets_the_documents(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plain(batch: Batch, device: torch.device) -> MicroBatch:
        micro = to_micro_batch(batch, device)
        return micro if micro.attention_mask is None else replace(micro, attention_mask=None)

    monkeypatch.setattr(micro_batches, "to_micro_batch", plain)
    assert patient.verdict() == "documents-leak"


@BOTH
def test_14_an_attention_mask_that_cuts_a_document_in_two(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def narrow(batch: Batch, device: torch.device) -> MicroBatch:
        micro = to_micro_batch(batch, device)
        if micro.attention_mask is None:
            return micro
        near = torch.ones_like(micro.attention_mask).triu(-2)  # only the last three tokens
        return replace(micro, attention_mask=micro.attention_mask & near)

    monkeypatch.setattr(micro_batches, "to_micro_batch", narrow)
    assert patient.verdict() == "documents-leak"


@BOTH
def test_14_a_model_that_ignores_the_attention_mask(patient: Patient) -> None:
    model = patient.model
    for block in model.trunk.blocks:
        inner = block.attention.forward
        block.attention.forward = lambda x, rotation, mask, cache, inner=inner: inner(
            x, rotation, None, cache
        )
    assert patient.verdict() == "documents-leak"


@BOTH
def test_14_positions_that_run_on(patient: Patient) -> None:
    changed = with_batches(
        patient,
        lambda batch: {"position_ids": np.broadcast_to(np.arange(96), batch.input_ids.shape).copy()},
    )
    assert changed.verdict() == "positions-run-on"


@BOTH
def test_a_model_that_sees_the_future(patient: Patient) -> None:
    model = patient.model
    for block in model.trunk.blocks:
        inner = block.attention.forward

        def see_all(x: Tensor, rotation: Any, mask: Tensor | None, cache: Any, inner: Any = inner) -> Tensor:
            seq_len = x.shape[1]
            everything = torch.ones(1, 1, seq_len, seq_len, dtype=torch.bool)
            return inner(x, rotation, everything if mask is None else mask | mask.mT, cache)

        block.attention.forward = see_all
    assert patient.verdict() == "future-leak"


# ---- 16: shifts


@BOTH
def test_16_targets_that_are_not_shifted(patient: Patient) -> None:
    assert (
        "targets-shift"
        in with_batches(patient, lambda batch: {"target_ids": batch.input_ids.copy()}).faults()
    )


@BOTH
def test_16_targets_that_are_shifted_twice(patient: Patient) -> None:
    changed = with_batches(patient, lambda batch: {"target_ids": np.roll(batch.target_ids, -1, axis=1)})
    assert "targets-shift" in changed.faults()


def test_16_shifts_are_the_first_fault_in_pre_training(pretrain: Patient) -> None:
    for change in (lambda b: b.input_ids.copy(), lambda b: np.roll(b.target_ids, -1, axis=1)):
        changed = with_batches(pretrain, lambda batch, change=change: {"target_ids": change(batch)})
        assert changed.verdict() in ("targets-shift", "no-end-of-text")


@BOTH
def test_16_an_objective_that_shifts_again(patient: Patient) -> None:
    def shifting(model: nn.Module, batch: MicroBatch) -> Tensor:
        mask = (
            torch.ones_like(batch.target_ids, dtype=torch.bool)
            if batch.loss_mask is None
            else batch.loss_mask
        )
        logits = model(batch.input_ids, position_ids=batch.position_ids, attention_mask=batch.attention_mask)
        logits, targets, mask = logits[:, :-1], batch.target_ids[:, 1:], mask[:, 1:]
        return functional.cross_entropy(logits[mask], targets[mask], reduction="sum")

    assert patient.but(objective=shifting).verdict() == "targets-shift"


def test_16_a_last_target_that_is_not_the_next_token(pretrain: Patient) -> None:
    def change(batch: Batch) -> dict[str, Any]:
        targets = batch.target_ids.copy()
        targets[:, -1] = batch.input_ids[:, 0]  # as np.roll would leave it
        return {"target_ids": targets}

    assert with_batches(pretrain, change).verdict() == "rows-not-in-data"


# ---- 1, 11 in the objective


@BOTH
def test_1_an_objective_that_forgets_the_loss_mask(patient: Patient) -> None:
    def forgetful(model: nn.Module, batch: MicroBatch) -> Tensor:
        return next_token(model, replace(batch, loss_mask=None))

    assert patient.but(objective=forgetful).verdict() == "loss-on-prompt"


@BOTH
def test_an_objective_that_is_another_loss(patient: Patient) -> None:
    assert (
        patient.but(objective=lambda model, batch: 0.5 * next_token(model, batch)).verdict()
        == "objective-differs"
    )


def test_22_a_loss_in_half_precision(pretrain: Patient) -> None:
    def rough(model: nn.Module, batch: MicroBatch) -> Tensor:
        loss = next_token(model, batch)
        return loss.bfloat16() if torch.is_autocast_enabled("cpu") else loss

    plan = make_plan(pretrain.shards, precision="bfloat16")
    assert pretrain.but(plan=plan).verdict() == "healthy"
    assert pretrain.but(plan=plan, objective=rough).verdict() == "half-precision-loss"


# ---- 17, 19, 20, 21, 24


def test_17_dropout_left_on_in_evaluation(pretrain: Patient) -> None:
    class AlwaysOn(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.dropout(x, 0.1, training=True)

    pretrain.model.trunk.dropout = AlwaysOn()
    assert "dropout-in-evaluation" in pretrain.faults()


def test_19_weight_decay_on_norms_or_embeddings(pretrain: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "is_matrix", lambda name, parameter: parameter.ndim == 2)
    assert pretrain.verdict() == "decay-on-norms"
    monkeypatch.setattr(optimizers, "is_matrix", lambda name, parameter: True)
    assert pretrain.verdict() == "decay-on-norms"


def test_20_an_output_matrix_that_came_untied(pretrain: Patient) -> None:
    pretrain.model.lm_head.weight = nn.Parameter(pretrain.model.lm_head.weight.detach().clone())
    assert pretrain.verdict() == "tied-embeddings"


def test_20_an_output_matrix_that_is_tied_unasked(tokenizer: Any, pretrain: Patient) -> None:
    model = make_model(tokenizer.vocab_size, tie_embeddings=False)
    model.lm_head.weight = model.trunk.token_embedding.weight
    assert pretrain.but(model=model).verdict() == "tied-embeddings"


@BOTH
@pytest.mark.parametrize(
    "name",
    [
        "trunk.token_embedding.weight",
        "trunk.blocks.1.attention.query.weight",
        "trunk.blocks.0.feed_forward.up.weight",
        "trunk.blocks.1.attention.key_norm.weight",
        "trunk.final_norm.weight",
    ],
)
def test_21_a_parameter_that_is_frozen_by_mistake(name: str, patient: Patient) -> None:
    patient.model.get_parameter(name).requires_grad_(False)
    assert patient.verdict() == "no-gradient"


@BOTH
def test_21_a_part_of_the_model_that_is_cut_off(patient: Patient) -> None:
    inner = patient.model.trunk.blocks[0].attention.key.forward
    patient.model.trunk.blocks[0].attention.key.forward = lambda x: inner(x).detach()
    assert patient.verdict() == "no-gradient"


def test_21_a_parameter_that_nothing_uses(pretrain: Patient) -> None:
    pretrain.model.trunk.blocks[1].feed_forward.gate.forward = lambda x: torch.ones(*x.shape[:2], 24)
    assert pretrain.verdict() == "no-gradient"


@BOTH
def test_21_a_parameter_that_should_be_frozen_and_trains(patient: Patient) -> None:
    meant = patient.but(frozen=lambda name: "blocks.0" in name)
    assert meant.verdict() == "frozen-gradient"
    for name, parameter in patient.model.named_parameters():
        parameter.requires_grad_("blocks.0" not in name)
    assert meant.verdict() == "healthy"
    assert patient.verdict() == "no-gradient"


@BOTH
def test_24_rows_that_depend_on_who_asked_before(patient: Patient) -> None:
    class Drifting(BatchSource):
        n_asked = 0

        def rows(self, start_row: int, n_rows: int) -> Batch:
            self.n_asked += 1
            return super().rows(start_row + self.n_asked, n_rows)

    source = Drifting(patient.shards, 96, 0, patient.source.packing)
    assert patient.but(source=source).verdict() == "rows-change"
