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
from tests.contracts.task_cases import CASE_TASKS, LABEL_TASKS, PAIR_TASKS, changed
from tests.contracts.training_cases import TrainingCase
from tests.short_suite import shortened

Healthy = Callable[..., TrainingCase]
LIKE_OTHERS = ("prefix_pairs", "multi_label", "answer")  # rows are those of other pairs, and of classify
DISTINCT_TASKS = tuple(task for task in CASE_TASKS if task not in LIKE_OTHERS)
SUMS = tuple(task for task in DISTINCT_TASKS if task != "embed")
COUNTING = tuple(task for task in SUMS if task not in ("classify", "regress"))
FEW = ("masked", "translate", "tag", "embed")  # one of each kind: the others in the long suite
ALL = shortened("task", DISTINCT_TASKS, FEW)
PAIRS = pytest.mark.parametrize("task", ["span_corruption", "translate"])


def encoder_of(model: Any) -> Stack:
    return getattr(model.trunk, "encoder", model.trunk)


def set_causal(stack: Stack, causal: bool) -> None:
    """Make the attention of a stack causal, or bidirectional."""
    stack.causal = causal
    for block in stack.blocks:
        block.attention.causal = causal
    if hasattr(stack.positions, "causal"):
        stack.positions.causal = causal


def remade(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
    """Micro-batches get other fields than they should."""

    def made(batch: Any, device: torch.device, always_masked: bool = False) -> Any:
        return replace(to_micro_batch(batch, device, always_masked), **fields)

    monkeypatch.setattr(micro_batches, "to_micro_batch", made)


# ---- attention


@pytest.mark.catches("attention-direction")
@shortened("task", ["masked", "span_corruption", *LABEL_TASKS, "embed"], ("span_corruption", "tag", "embed"))
def test_an_encoder_that_looks_back_only(task: str, healthy_task: Healthy) -> None:
    case = healthy_task(task)
    set_causal(encoder_of(case.model), causal=True)
    assert "attention-direction" in case.failures()


@pytest.mark.catches("attention-direction")
@shortened("task", [*LABEL_TASKS, "embed"], ("classify", "answer", "embed"))
def test_a_labelling_decoder_that_looks_ahead(task: str, healthy_task: Healthy) -> None:
    case = healthy_task(task, decoder_trunk=True)
    set_causal(case.model.trunk, causal=False)
    assert case.first_failure() == "attention-direction"


@pytest.mark.catches("future-leak")
@pytest.mark.parametrize("task", ["translate"])
def test_a_decoder_that_sees_its_own_target(task: str, healthy_task: Healthy) -> None:
    case = healthy_task(task)
    set_causal(case.model.trunk.decoder, causal=False)
    assert case.first_failure() == "future-leak"


@pytest.mark.catches("future-leak")
@pytest.mark.parametrize("task", ["span_corruption", "prefix_pairs"])
def test_a_packed_target_that_is_seen_before_it_is_written(
    task: str, healthy_task: Healthy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(batch: Any, device: torch.device, always_masked: bool = False) -> Any:
        micro = to_micro_batch(batch, device, always_masked)
        mask = micro.attention_mask
        return micro if mask is None else replace(micro, attention_mask=mask | mask.mT)

    monkeypatch.setattr(micro_batches, "to_micro_batch", made)
    assert healthy_task(task).first_failure() == "future-leak"


@pytest.mark.catches("source-ignored")
@PAIRS
def test_a_decoder_that_ignores_its_source(task: str, healthy_task: Healthy) -> None:
    case = healthy_task(task)
    for block in case.model.trunk.decoder.blocks:
        block.cross_attention.forward = lambda x, *_: torch.zeros_like(x)
    assert case.first_failure() == "source-ignored"


@pytest.mark.catches("padding-leak")
@shortened("task", LABEL_TASKS, ("multi_label", "regress"))
def test_padding_that_is_attended_to(
    task: str, healthy_task: Healthy, monkeypatch: pytest.MonkeyPatch
) -> None:
    remade(monkeypatch, attention_mask=None)
    assert healthy_task(task).first_failure() == "padding-leak"


@pytest.mark.catches("padding-leak")
def test_padding_of_a_text_that_is_attended_to(
    healthy_task: Healthy, monkeypatch: pytest.MonkeyPatch
) -> None:
    remade(monkeypatch, first_mask=None)
    assert healthy_task("embed").first_failure() == "padding-leak"


@pytest.mark.catches("padding-leak")
@pytest.mark.parametrize("name", ["source_mask", "cross_mask"])
def test_padding_of_a_source_that_is_attended_to(
    name: str, healthy_task: Healthy, monkeypatch: pytest.MonkeyPatch
) -> None:
    remade(monkeypatch, **{name: None})
    assert healthy_task("translate").first_failure() == "padding-leak"


@pytest.mark.catches("documents-leak")
@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("masked", "attention_mask"),
        ("span_corruption", "source_mask"),
        ("span_corruption", "cross_mask"),
        ("prefix_pairs", "source_mask"),
        ("prefix_pairs", "cross_mask"),
    ],
)
def test_packed_texts_that_see_each_other(
    task: str, name: str, healthy_task: Healthy, monkeypatch: pytest.MonkeyPatch
) -> None:
    remade(monkeypatch, **{name: None})
    assert "documents-leak" in healthy_task(task).failures()


@pytest.mark.catches("documents-leak")
def test_packed_targets_that_see_each_other(healthy_task: Healthy, monkeypatch: pytest.MonkeyPatch) -> None:
    remade(monkeypatch, attention_mask=None)
    assert "documents-leak" in healthy_task("span_corruption").failures()


@pytest.mark.catches("attention-direction")
def test_a_prefix_read_one_way(healthy_task: Healthy, monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(batch: Any, device: torch.device, always_masked: bool = False) -> Any:
        micro = to_micro_batch(batch, device, always_masked)
        causal = torch.ones(micro.attention_mask.shape[-2:]).tril().bool()
        return replace(micro, attention_mask=micro.attention_mask & causal)

    monkeypatch.setattr(micro_batches, "to_micro_batch", plain)
    assert healthy_task("prefix").first_failure() == "attention-direction"


@pytest.mark.catches("future-leak")
def test_a_target_that_its_prefix_shows(healthy_task: Healthy) -> None:
    def all_count(batch: Any) -> dict[str, Any]:
        mask = batch.document_ids >= 0
        return {"loss_mask": mask, "n_counted": int(mask.sum())}

    assert changed(healthy_task("prefix"), all_count).first_failure() == "future-leak"


@pytest.mark.catches("future-leak")
def test_a_prefix_that_is_everything(healthy_task: Healthy, monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(batch: Any, device: torch.device, always_masked: bool = False) -> Any:
        micro = to_micro_batch(batch, device, always_masked)
        return replace(micro, attention_mask=micro.attention_mask | micro.attention_mask.mT)

    monkeypatch.setattr(micro_batches, "to_micro_batch", seen)
    assert healthy_task("prefix").first_failure() == "future-leak"


# ---- how micro-batches are weighted


@pytest.mark.catches("accumulation-weights")
@shortened("task", SUMS, FEW[:3])
def test_an_objective_that_returns_a_mean(task: str, healthy_task: Healthy) -> None:
    case = healthy_task(task)

    def mean(model: nn.Module, batch: Any) -> Tensor:
        return case.objective(model, batch) / max(1, batch.n_counted)

    assert case.replace(objective=mean).first_failure() == "accumulation-weights"


@pytest.mark.catches("last-window")
@shortened("task", SUMS, FEW[:3])
def test_a_smaller_last_window_that_is_scaled_as_a_full_one(
    task: str, healthy_task: Healthy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(model: nn.Module, parts: Any, objective: Any, precision: Any, n_counted: int) -> float:
        for part in parts:
            whole = micro_batches.input_ids_of(parts[0])
            own = micro_batches.input_ids_of(part)
            (objective(model, part) / n_counted * len(whole) / len(own)).backward()
        return 0.0

    monkeypatch.setattr(loop, "accumulate_gradients", wrong)
    assert healthy_task(task).first_failure() == "last-window"


@pytest.mark.catches("masked-micro-batch")
@shortened("task", COUNTING, FEW[:3])
def test_a_micro_batch_without_anything_counted_gives_nan(task: str, healthy_task: Healthy) -> None:
    case = healthy_task(task)

    def divided(model: nn.Module, batch: Any) -> Tensor:
        return (
            case.objective(model, batch) / batch.n_counted * batch.n_counted
            if batch.n_counted
            else torch.tensor(torch.nan)
        )

    assert case.replace(objective=divided).first_failure() == "masked-micro-batch"


@pytest.mark.catches("objective-differs")
@shortened("task", SUMS, FEW[:3])
def test_an_objective_that_is_another_loss(task: str, healthy_task: Healthy) -> None:
    case = healthy_task(task)
    broken = case.replace(objective=lambda model, batch: 0.5 * case.objective(model, batch))
    assert broken.first_failure() == "objective-differs"


@pytest.mark.catches("uncounted-targets")
@shortened("task", COUNTING, FEW[:3])
def test_an_objective_that_forgets_the_loss_mask(task: str, healthy_task: Healthy) -> None:
    case = healthy_task(task)

    def forgetful(model: nn.Module, batch: Any) -> Tensor:
        mask = torch.ones_like(batch.loss_mask) if task == "tag" else None
        return case.objective(model, batch if batch.loss_mask is None else replace(batch, loss_mask=mask))

    assert case.replace(objective=forgetful).first_failure() == "uncounted-targets"


@pytest.mark.catches("objective-shifts-targets")
@pytest.mark.parametrize("task", ["masked", "translate"])
def test_an_objective_that_shifts_again(task: str, healthy_task: Healthy) -> None:
    case = healthy_task(task)

    def shifting(model: Any, batch: Any) -> Tensor:
        from parakit.training.doctor.batch_views import forward

        mask = (
            torch.ones_like(batch.target_ids, dtype=torch.bool)
            if batch.loss_mask is None
            else batch.loss_mask
        )
        logits, targets, mask = forward(model, batch)[:, :-1], batch.target_ids[:, 1:], mask[:, 1:]
        return functional.cross_entropy(logits[mask], targets[mask], reduction="sum")

    assert case.replace(objective=shifting).first_failure() == "objective-shifts-targets"


@pytest.mark.catches("half-precision-loss")
@ALL
def test_a_loss_in_half_precision(task: str, healthy_task: Healthy) -> None:
    case = healthy_task(task)

    def rough(model: nn.Module, batch: Any) -> Tensor:
        loss = case.objective(model, batch)
        return loss.bfloat16() if torch.is_autocast_enabled("cpu") else loss

    broken = case.replace(objective=rough, plan=case.plan.replace(precision="bfloat16"))
    assert broken.first_failure() == "half-precision-loss"


# ---- parameters


@pytest.mark.catches("dropout-in-evaluation")
@ALL
def test_dropout_left_on_in_evaluation(task: str, healthy_task: Healthy) -> None:
    class AlwaysOn(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.dropout(x, 0.1, training=True)

    case = healthy_task(task)
    encoder_of(case.model).dropout = AlwaysOn()
    assert "dropout-in-evaluation" in case.failures()


@pytest.mark.catches("decay-on-norms")
@ALL
def test_weight_decay_on_embeddings_and_heads(
    task: str, healthy_task: Healthy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizers, "is_matrix", lambda name, parameter: parameter.ndim == 2)
    assert healthy_task(task).first_failure() == "decay-on-norms"


@pytest.mark.catches("tied-embeddings")
@pytest.mark.parametrize("task", ["masked", "translate"])
def test_an_output_matrix_that_came_untied(task: str, healthy_task: Healthy) -> None:
    case = healthy_task(task)
    case.model.lm_head.weight = nn.Parameter(case.model.lm_head.weight.detach().clone())
    assert case.first_failure() == "tied-embeddings"


@ALL
def test_a_parameter_that_is_frozen_by_mistake(task: str, healthy_task: Healthy) -> None:
    case = healthy_task(task)
    heads = [name for name, _ in case.model.named_parameters() if name.startswith("label_head")]
    for name in ("trunk.blocks.0.attention.query.weight", *heads):
        name = name if task not in PAIR_TASKS else name.replace("trunk.", "trunk.decoder.")
        case.model.get_parameter(name).requires_grad_(False)
        assert case.first_failure() == "no-gradient"
        case.model.get_parameter(name).requires_grad_(True)


@ALL
def test_a_part_that_is_cut_off_or_should_be_frozen_and_trains(task: str, healthy_task: Healthy) -> None:
    case = healthy_task(task)
    meant = case.replace(frozen=lambda name: "attention" in name)
    assert meant.first_failure() == "frozen-gradient"
    for name, parameter in case.model.named_parameters():
        parameter.requires_grad_("attention" not in name)
    inner = encoder_of(case.model).blocks[0].feed_forward.up.forward
    encoder_of(case.model).blocks[0].feed_forward.up.forward = lambda x: inner(x).detach()
    assert meant.first_failure() == "no-gradient"
    encoder_of(case.model).blocks[0].feed_forward.up.forward = inner
    assert meant.first_failure() == "healthy"


def test_ranks_that_divide_by_their_own_count(healthy_task: Healthy, monkeypatch: pytest.MonkeyPatch) -> None:
    def local(model: nn.Module, parts: Any, objective: Any, precision: Any, n_counted: int) -> float:
        own = sum(part.n_counted for part in parts)
        for part in parts:
            if part.n_counted:
                (objective(model, part) / own).backward()
        return 0.0

    monkeypatch.setattr(loop, "accumulate_gradients", local)
    for task in ("masked", "span_corruption", "tag", "classify"):
        assert healthy_task(task).first_failure() == "rank-weights"


def test_what_a_batch_holds_is_the_same_however_wide_it_is(healthy_task: Healthy) -> None:
    from parakit.training.doctor.batch_views import row_content

    for task in CASE_TASKS:
        source = healthy_task(task).source
        whole, alone = source.rows(0, 8), [source.rows(row, 1) for row in range(8)]
        for row in range(8):
            held = row_content(whole, row), row_content(alone[row], 0)
            assert all(map(np.array_equal, *held))
