"""The student's loss against a derivation in float64, value and gradient, however the batch and the head are cut."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from compression.pairs import derived, micro, outputs, pair, reference, rows, softmax
from hypothesis import given, settings
from hypothesis import strategies as st

from parakit.compression.config import DistillConfig
from parakit.compression.distillation import losses
from parakit.compression.distillation.losses import distillation, top_k_log_probs
from parakit.compression.distillation.micro_batches import UnlabelledBatch, fields_of
from parakit.training.objectives import fused_head_loss as head_loss
from parakit.training.objectives import next_token
from parakit.training.objectives.distribution_losses import divergence
from tests.training.tiny_tasks import cut, gradients

SETTINGS: dict[str, dict[str, Any]] = {
    "forward": {"hard_label_share": 0.0},
    "hot": {"distill_temperature": 3.0, "hard_label_share": 0.25},
    "reverse": {"divergence": "reverse", "distill_temperature": 0.7, "hard_label_share": 0.1},
    "between": {"divergence": "jensen_shannon", "hard_label_share": 0.5},
    "mostly the teacher": {"divergence": "jensen_shannon", "teacher_share": 0.9, "distill_temperature": 2.0},
    "hidden": {"hidden_coef": 2.5, "hard_label_share": 0.3, "distill_temperature": 2.0},
    "labels only": {"hard_label_share": 1.0},
}
ALL = pytest.mark.parametrize("chosen", SETTINGS)
DIRECTIONS = ("forward", "reverse", "jensen_shannon")


def config(chosen: str) -> DistillConfig:
    return DistillConfig(**SETTINGS[chosen])


def two(chosen: str, name: str = "next_token", dtype: torch.dtype = torch.float64) -> Any:
    same_width = {"d_model": 12, "n_heads": 2, "n_kv_heads": 2} if config(chosen).hidden_coef else {}
    return pair(name, dtype, **same_width)


def loss_and_gradients(objective: Any, student: Any, *batches: Any) -> tuple[float, dict[str, torch.Tensor]]:
    student.zero_grad()
    found = [objective(student, micro(batch)) for batch in batches]
    for loss in found:
        loss.backward()
    return sum(loss.item() for loss in found), gradients(student)


def assert_same(got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], tolerance: float) -> None:
    assert got.keys() == wanted.keys()
    scale = max(float(g.abs().max()) for g in wanted.values())
    assert scale > 0
    assert max(float((got[n] - wanted[n]).abs().max()) for n in wanted) <= tolerance * scale


@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("name", ["next_token", "masked"])
@ALL
def test_the_loss_is_its_derivation_in_value_and_gradient(
    chosen: str, name: str, joined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_loss, "CHUNK_ELEMENTS", 31 * 7)  # seven places at a time
    if not joined:
        monkeypatch.setattr(losses, "can_fuse_head", lambda model, hidden: False)
    student, teacher = two(chosen, name)
    loss, got = loss_and_gradients(distillation(teacher, config(chosen)), student, rows(name))
    student.zero_grad()
    wanted = reference(student, teacher.model, micro(rows(name)), config(chosen))
    assert loss == pytest.approx(wanted, rel=1e-6)
    assert_same(got, gradients(student), 1e-6)
    assert not gradients(teacher.model)


@pytest.mark.parametrize("sizes", [[3, 3], [1] * 6, [5, 1]])
@ALL
def test_a_gradient_does_not_depend_on_how_the_batch_was_cut(chosen: str, sizes: list[int]) -> None:
    student, teacher = two(chosen)
    objective, whole = distillation(teacher, config(chosen)), rows()
    parts = [cut(whole, *edges) for edges in pairwise(np.cumsum([0, *sizes]).tolist())]
    wanted_loss, wanted = loss_and_gradients(objective, student, whole)
    loss, got = loss_and_gradients(objective, student, *parts)
    assert loss == pytest.approx(wanted_loss, rel=1e-9)
    assert_same(got, wanted, 1e-9)


def test_hard_labels_alone_are_the_plain_objective() -> None:
    student, teacher = pair()
    got = loss_and_gradients(distillation(teacher, config("labels only")), student, rows())
    wanted = loss_and_gradients(next_token, student, rows())
    assert got[0] == pytest.approx(wanted[0], rel=1e-12)
    assert_same(got[1], wanted[1], 1e-12)


@pytest.mark.parametrize("joined", [True, False])
@ALL
def test_the_loss_is_float32_under_half_precision(
    chosen: str, joined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher = two(chosen, dtype=torch.float32)
    seen: list[torch.dtype] = []
    real = losses.divergence

    def noting(given: torch.Tensor, student_logs: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.extend([given.dtype, student_logs.dtype])
        return real(given, student_logs, *rest)

    monkeypatch.setattr(losses, "divergence", noting)
    objective, batch = distillation(teacher, config(chosen)), micro(rows())
    wanted = objective(student, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = objective(student, batch)
    assert rough.dtype == wanted.dtype == torch.float32
    assert rough.item() == pytest.approx(wanted.item(), rel=0.1)
    assert set(seen) <= {torch.float32}


def test_unlabelled_have_no_labels() -> None:
    student, teacher = pair()
    batch, settings_ = rows(), DistillConfig(hard_label_share=0.4)
    own = np.zeros_like(batch.loss_mask)
    own[1:3] = True
    mixed = UnlabelledBatch(**fields_of(batch), unlabelled=own)
    loss, got = loss_and_gradients(distillation(teacher, settings_), student, mixed)
    apart_ = [
        loss_and_gradients(distillation(teacher, s), student, cut(batch, *edges))
        for s, edges in (
            (settings_, (0, 1)),
            (settings_.replace(hard_label_share=0.0), (1, 3)),
            (settings_, (3, 6)),
        )
    ]
    assert loss == pytest.approx(sum(one[0] for one in apart_), rel=1e-9)
    assert_same(got, {n: sum(one[1][n] for one in apart_) for n in got}, 1e-9)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    heat=st.floats(0.05, 20),
    direction=st.sampled_from(DIRECTIONS),
    teacher_share=st.floats(0.01, 0.99),
)
def test_divergences_are_never_negative_and_zero_between_equals(
    seed: int, heat: float, direction: Any, teacher_share: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(2, 5, 9, dtype=torch.float64, generator=generator) * heat
    student_logs, teacher_logs = z.log_softmax(-1)
    each = divergence(teacher_logs, student_logs, direction, teacher_share)
    wanted, _ = derived(teacher_logs.exp().numpy(), student_logs.exp().numpy(), direction, teacher_share)
    assert (each > -1e-12).all()
    if np.isfinite(wanted).all():
        np.testing.assert_allclose(each.numpy(), wanted, rtol=1e-6, atol=1e-12)
    assert divergence(student_logs, student_logs, direction, teacher_share).abs().max() < 1e-12


def test_jensen_shannon_tends_to_the_forward_and_the_reverse_divergence() -> None:
    torch.manual_seed(0)
    student_logs, teacher_logs = torch.randn(2, 7, 11, dtype=torch.float64).log_softmax(-1)
    small = 1e-6
    forward = divergence(teacher_logs, student_logs, "jensen_shannon", small) / small
    reverse = divergence(teacher_logs, student_logs, "jensen_shannon", 1 - small) / small
    torch.testing.assert_close(
        forward, divergence(teacher_logs, student_logs, "forward"), rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(
        reverse, divergence(teacher_logs, student_logs, "reverse"), rtol=1e-4, atol=1e-6
    )


# ---- what a cache of the likeliest ids keeps


def bucketed(direction: Any, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    student_logs, teacher_logs = (3 * torch.randn(2, 13, 17, dtype=torch.float64)).log_softmax(-1)
    top = teacher_logs.topk(k, dim=1).indices
    return (
        divergence(top_k_log_probs(teacher_logs, top), top_k_log_probs(student_logs, top), direction),
        student_logs,
        teacher_logs,
        top,
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_all_ids_lose_nothing_and_fewer_never_overstate(direction: Any) -> None:
    whole, student_logs, teacher_logs, _ = bucketed(direction, 17)
    torch.testing.assert_close(
        whole, divergence(teacher_logs, student_logs, direction), rtol=1e-9, atol=1e-12
    )
    before = torch.zeros_like(whole)
    for k in (1, 4, 16):
        each = bucketed(direction, k)[0]
        assert (each >= before - 1e-12).all()
        assert (each <= whole + 1e-12).all()
        before = each
    torch.testing.assert_close(before, whole), "a bucket of one id is that id"


def test_what_is_lost_is_the_divergence_within_the_rest() -> None:
    each, student_logs, teacher_logs, top = bucketed("forward", 5)
    inside = torch.ones_like(student_logs, dtype=torch.bool).scatter(1, top, False)
    lost = []
    for o, t, rest in zip(student_logs, teacher_logs, inside, strict=True):
        p, q = t[rest].exp(), o[rest].exp()
        lost.append(p.sum() * ((p / p.sum()) * ((p / p.sum()) / (q / q.sum())).log()).sum())
    torch.testing.assert_close(each + torch.stack(lost), divergence(teacher_logs, student_logs, "forward"))


def test_outputs_are_those_of_the_models_own_forward_pass() -> None:
    student, _ = pair()
    batch = micro(rows())
    own = student(batch.input_ids, position_ids=batch.position_ids, attention_mask=batch.attention_mask)
    assert torch.equal(outputs(student, batch)[1], own)
    assert softmax(own.detach().numpy()).sum(-1) == pytest.approx(1)
