"""The mistakes of models and objectives beyond a decoder's next token, put back one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from parakit.model.backbones import Stack
from parakit.training import loop, micro_batches
from parakit.training.micro_batches import to_micro_batch
from parakit.training.optimizers import optimizer as optimizers
from tests.contracts.patients import Patient
from tests.contracts.task_patients import LABEL_KINDS, PAIR_KINDS, TASK_KINDS, changed

Healthy = Callable[..., Patient]
KINDS = tuple(kind for kind in TASK_KINDS if kind != "prefix pairs")  # which is as the other pairs are
SUMS = tuple(kind for kind in KINDS if kind != "embed")
COUNTING = tuple(kind for kind in SUMS if kind not in ("classify", "regress"))
ALL = pytest.mark.parametrize("kind", KINDS)
PAIRS = pytest.mark.parametrize("kind", ["span_corruption", "translate"])


def encoder_of(model: Any) -> Stack:
    return getattr(model.trunk, "encoder", model.trunk)


def turn(stack: Stack, causal: bool) -> None:
    """Let a stack look one way, or both."""
    stack.causal = causal
    for block in stack.blocks:
        block.attention.causal = causal
    if hasattr(stack.positions, "causal"):
        stack.positions.causal = causal


def remade(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
    """Micro-batches come with other masks than they should."""

    def made(batch: Any, device: torch.device, always_masked: bool = False) -> Any:
        return replace(to_micro_batch(batch, device, always_masked), **fields)

    monkeypatch.setattr(micro_batches, "to_micro_batch", made)


# ---- 14: who looks at whom


@pytest.mark.parametrize("kind", ["masked", "span_corruption", *LABEL_KINDS, "embed"])
def test_14_an_encoder_that_looks_back_only(kind: str, healthy_task: Healthy) -> None:
    patient = healthy_task(kind)
    turn(encoder_of(patient.model), causal=True)
    assert "attention-direction" in patient.faults()


@pytest.mark.parametrize("kind", [*LABEL_KINDS, "embed"])
def test_14_a_labelling_decoder_that_looks_ahead(kind: str, healthy_task: Healthy) -> None:
    patient = healthy_task(kind, decoder_trunk=True)
    turn(patient.model.trunk, causal=False)
    assert patient.verdict() == "attention-direction"


@pytest.mark.parametrize("kind", ["translate"])
def test_14_a_decoder_that_sees_its_own_target(kind: str, healthy_task: Healthy) -> None:
    patient = healthy_task(kind)
    turn(patient.model.trunk.decoder, causal=False)
    assert patient.verdict() == "future-leak"


@pytest.mark.parametrize("kind", ["span_corruption", "prefix pairs"])
def test_14_a_packed_target_that_is_seen_before_it_is_written(
    kind: str, healthy_task: Healthy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(batch: Any, device: torch.device, always_masked: bool = False) -> Any:
        micro = to_micro_batch(batch, device, always_masked)
        mask = micro.attention_mask
        return micro if mask is None else replace(micro, attention_mask=mask | mask.mT)

    monkeypatch.setattr(micro_batches, "to_micro_batch", made)
    assert healthy_task(kind).verdict() == "future-leak"


@PAIRS
def test_14_a_decoder_that_ignores_its_source(kind: str, healthy_task: Healthy) -> None:
    patient = healthy_task(kind)
    for block in patient.model.trunk.decoder.blocks:
        block.cross_attention.forward = lambda x, *_: torch.zeros_like(x)
    assert patient.verdict() == "source-ignored"


@pytest.mark.parametrize("kind", [*LABEL_KINDS])
def test_14_padding_that_is_read(kind: str, healthy_task: Healthy, monkeypatch: pytest.MonkeyPatch) -> None:
    remade(monkeypatch, attention_mask=None)
    assert healthy_task(kind).verdict() == "padding-seen"


def test_14_padding_of_a_text_that_is_read(healthy_task: Healthy, monkeypatch: pytest.MonkeyPatch) -> None:
    remade(monkeypatch, first_mask=None)
    assert healthy_task("embed").verdict() == "padding-seen"


@pytest.mark.parametrize("name", ["source_mask", "cross_mask"])
def test_14_padding_of_a_source_that_is_read(
    name: str, healthy_task: Healthy, monkeypatch: pytest.MonkeyPatch
) -> None:
    remade(monkeypatch, **{name: None})
    assert healthy_task("translate").verdict() == "padding-seen"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("masked", "attention_mask"),
        ("span_corruption", "source_mask"),
        ("span_corruption", "cross_mask"),
        ("prefix pairs", "source_mask"),
        ("prefix pairs", "cross_mask"),
    ],
)
def test_14_packed_texts_that_see_each_other(
    kind: str, name: str, healthy_task: Healthy, monkeypatch: pytest.MonkeyPatch
) -> None:
    remade(monkeypatch, **{name: None})
    assert "documents-leak" in healthy_task(kind).faults()


def test_14_packed_targets_that_see_each_other(
    healthy_task: Healthy, monkeypatch: pytest.MonkeyPatch
) -> None:
    remade(monkeypatch, attention_mask=None)
    assert "documents-leak" in healthy_task("span_corruption").faults()


def test_14_a_prefix_read_one_way(healthy_task: Healthy, monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(batch: Any, device: torch.device, always_masked: bool = False) -> Any:
        micro = to_micro_batch(batch, device, always_masked)
        return replace(
            micro, attention_mask=micro.attention_mask & torch.ones(64, 64).tril().bool()[:32, :32]
        )

    monkeypatch.setattr(micro_batches, "to_micro_batch", plain)
    assert healthy_task("prefix").verdict() == "attention-direction"


def test_14_a_target_that_its_prefix_shows(healthy_task: Healthy) -> None:
    def all_count(batch: Any) -> dict[str, Any]:
        mask = batch.document_ids >= 0
        return {"loss_mask": mask, "n_counted": int(mask.sum())}

    assert changed(healthy_task("prefix"), all_count).verdict() == "future-leak"


def test_14_a_prefix_that_is_everything(healthy_task: Healthy, monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(batch: Any, device: torch.device, always_masked: bool = False) -> Any:
        micro = to_micro_batch(batch, device, always_masked)
        return replace(micro, attention_mask=micro.attention_mask | micro.attention_mask.mT)

    monkeypatch.setattr(micro_batches, "to_micro_batch", seen)
    assert healthy_task("prefix").verdict() == "future-leak"


# ---- 11, 13, 15: how micro-batches are weighted


@pytest.mark.parametrize("kind", SUMS)
def test_11_an_objective_that_returns_a_mean(kind: str, healthy_task: Healthy) -> None:
    patient = healthy_task(kind)

    def mean(model: nn.Module, batch: Any) -> Tensor:
        return patient.objective(model, batch) / max(1, batch.n_counted)

    assert patient.but(objective=mean).verdict() == "accumulation-weights"


@pytest.mark.parametrize("kind", SUMS)
def test_15_a_smaller_last_window_that_is_scaled_as_a_full_one(
    kind: str, healthy_task: Healthy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(model: nn.Module, parts: Any, objective: Any, precision: Any, n_counted: int) -> float:
        for part in parts:
            whole = next(iter(micro_batches.tensors(parts[0]).values()))
            own = next(iter(micro_batches.tensors(part).values()))
            (objective(model, part) / n_counted * len(whole) / len(own)).backward()
        return 0.0

    monkeypatch.setattr(loop, "accumulate_gradients", wrong)
    assert healthy_task(kind).verdict() == "last-window"


@pytest.mark.parametrize("kind", COUNTING)
def test_13_a_micro_batch_without_anything_counted_gives_nan(kind: str, healthy_task: Healthy) -> None:
    patient = healthy_task(kind)

    def divided(model: nn.Module, batch: Any) -> Tensor:
        return (
            patient.objective(model, batch) / batch.n_counted * batch.n_counted
            if batch.n_counted
            else torch.tensor(torch.nan)
        )

    assert patient.but(objective=divided).verdict() == "masked-micro-batch"


@pytest.mark.parametrize("kind", SUMS)
def test_11_an_objective_that_is_another_loss(kind: str, healthy_task: Healthy) -> None:
    patient = healthy_task(kind)
    ill = patient.but(objective=lambda model, batch: 0.5 * patient.objective(model, batch))
    assert ill.verdict() == "objective-differs"


@pytest.mark.parametrize("kind", COUNTING)
def test_1_an_objective_that_forgets_the_loss_mask(kind: str, healthy_task: Healthy) -> None:
    patient = healthy_task(kind)

    def forgetful(model: nn.Module, batch: Any) -> Tensor:
        mask = torch.ones_like(batch.loss_mask) if kind == "tag" else None
        return patient.objective(model, batch if batch.loss_mask is None else replace(batch, loss_mask=mask))

    wanted = "loss-on-prompt" if kind == "prefix" else "uncounted-targets"
    assert patient.but(objective=forgetful).verdict() == wanted


@pytest.mark.parametrize("kind", ["masked", "translate"])
def test_16_an_objective_that_shifts_again(kind: str, healthy_task: Healthy) -> None:
    patient = healthy_task(kind)

    def shifting(model: Any, batch: Any) -> Tensor:
        from parakit.training.doctor.views import run

        mask = (
            torch.ones_like(batch.target_ids, dtype=torch.bool)
            if batch.loss_mask is None
            else batch.loss_mask
        )
        logits, targets, mask = run(model, batch)[:, :-1], batch.target_ids[:, 1:], mask[:, 1:]
        return functional.cross_entropy(logits[mask], targets[mask], reduction="sum")

    assert patient.but(objective=shifting).verdict() == "targets-shift"


@ALL
def test_22_a_loss_in_half_precision(kind: str, healthy_task: Healthy) -> None:
    patient = healthy_task(kind)

    def rough(model: nn.Module, batch: Any) -> Tensor:
        loss = patient.objective(model, batch)
        return loss.bfloat16() if torch.is_autocast_enabled("cpu") else loss

    ill = patient.but(objective=rough, plan=patient.plan.replace(precision="bfloat16"))
    assert ill.verdict() == "half-precision-loss"


# ---- 17, 19, 20, 21


@ALL
def test_17_dropout_left_on_in_evaluation(kind: str, healthy_task: Healthy) -> None:
    class AlwaysOn(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.dropout(x, 0.1, training=True)

    patient = healthy_task(kind)
    encoder_of(patient.model).dropout = AlwaysOn()
    assert "dropout-in-evaluation" in patient.faults()


@ALL
def test_19_weight_decay_on_embeddings_and_heads(
    kind: str, healthy_task: Healthy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizers, "is_matrix", lambda name, parameter: parameter.ndim == 2)
    assert healthy_task(kind).verdict() == "decay-on-norms"


@pytest.mark.parametrize("kind", ["masked", "translate"])
def test_20_an_output_matrix_that_came_untied(kind: str, healthy_task: Healthy) -> None:
    patient = healthy_task(kind)
    patient.model.lm_head.weight = nn.Parameter(patient.model.lm_head.weight.detach().clone())
    assert patient.verdict() == "tied-embeddings"


@ALL
def test_21_a_parameter_that_is_frozen_by_mistake(kind: str, healthy_task: Healthy) -> None:
    patient = healthy_task(kind)
    heads = [name for name, _ in patient.model.named_parameters() if name.startswith("label_head")]
    for name in ("trunk.blocks.0.attention.query.weight", *heads):
        name = name if kind not in PAIR_KINDS else name.replace("trunk.", "trunk.decoder.")
        patient.model.get_parameter(name).requires_grad_(False)
        assert patient.verdict() == "no-gradient"
        patient.model.get_parameter(name).requires_grad_(True)


@ALL
def test_21_a_part_that_is_cut_off_or_should_be_frozen_and_trains(kind: str, healthy_task: Healthy) -> None:
    patient = healthy_task(kind)
    meant = patient.but(frozen=lambda name: "attention" in name)
    assert meant.verdict() == "frozen-gradient"
    for name, parameter in patient.model.named_parameters():
        parameter.requires_grad_("attention" not in name)
    inner = encoder_of(patient.model).blocks[0].feed_forward.up.forward
    encoder_of(patient.model).blocks[0].feed_forward.up.forward = lambda x: inner(x).detach()
    assert meant.verdict() == "no-gradient"
    encoder_of(patient.model).blocks[0].feed_forward.up.forward = inner
    assert meant.verdict() == "healthy"


def test_12_ranks_that_divide_by_their_own_count(
    healthy_task: Healthy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def local(model: nn.Module, parts: Any, objective: Any, precision: Any, n_counted: int) -> float:
        own = sum(part.n_counted for part in parts)
        for part in parts:
            if part.n_counted:
                (objective(model, part) / own).backward()
        return 0.0

    monkeypatch.setattr(loop, "accumulate_gradients", local)
    for kind in ("masked", "span_corruption", "tag", "classify"):
        assert healthy_task(kind).verdict() == "rank-weights"


def test_what_a_batch_holds_is_the_same_however_wide_it_is(healthy_task: Healthy) -> None:
    from parakit.training.doctor.views import row_content

    for kind in TASK_KINDS:
        source = healthy_task(kind).source
        whole, alone = source.rows(0, 8), [source.rows(row, 1) for row in range(8)]
        for row in range(8):
            held = row_content(whole, row), row_content(alone[row], 0)
            assert all(map(np.array_equal, *held))
