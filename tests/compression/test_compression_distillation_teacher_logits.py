"""Answers kept on disk: a student that learns from them learns what it would have learned by asking."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compression.pairs import micro, pair, rows

from parakit.common.artifacts import open_artifact
from parakit.common.errors import CorruptArtifact, UserError
from parakit.compression.config import DistillConfig
from parakit.compression.distillation import teacher_logits as module
from parakit.compression.distillation.losses import distillation
from parakit.compression.distillation.teacher import Teacher
from parakit.compression.distillation.teacher_logits import (
    CachedLogitsSource,
    TeacherLogits,
    TeacherLogitsSpec,
    write_teacher_logits,
)
from parakit.tokens.config import TokenizerConfig
from parakit.tokens.tokenizer.training import train_tokenizer
from parakit.training import tasks
from parakit.training.doctor.checks import gradients
from parakit.training.doctor.context import CheckContext
from parakit.training.doctor.probes import probing
from tests.training.tiny_runs import tiny_plan
from tests.training.tiny_tasks import TASKS, VOCAB_SIZE

SPEC = TeacherLogitsSpec(
    teacher="t", data="d", rows="chat", seed=5, seq_len=12, top_k=VOCAB_SIZE, distill_temperature=1.0,
    log_dtype="float32",
)  # fmt: skip


def kept(tmp_path: Path, teacher: Teacher, name: str = "next_token", **changes: Any) -> CachedLogitsSource:
    spec, source, path = replace(SPEC, **changes), TASKS[name].source(), tmp_path / "answers"
    write_teacher_logits(path, teacher, source, spec)
    return CachedLogitsSource(source, TeacherLogits(path, spec))


@pytest.mark.parametrize("name", ["next_token", "masked"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "jensen_shannon"])
def test_a_cache_of_the_whole_vocabulary_teaches_what_the_teacher_does(
    direction: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", VOCAB_SIZE * 5)
    monkeypatch.setattr(module, "PASS_TOKENS", 36)
    student, teacher = pair(name)
    settings = DistillConfig(divergence=direction, distill_temperature=1.5, hard_label_share=0.2)
    source = kept(tmp_path, teacher, name, distill_temperature=1.5)
    found = []
    for objective, batch in (
        (distillation(teacher, settings), rows(name)),
        (distillation(None, settings), source.rows(2, 6)),
    ):
        student.zero_grad()
        loss = objective(student, micro(batch))
        loss.backward()
        found.append((loss.item(), {n: p.grad.clone() for n, p in student.named_parameters()}))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-6)
    scale = max(float(g.abs().max()) for g in found[0][1].values())
    assert all(float((found[1][1][n] - g).abs().max()) < 1e-6 * scale for n, g in found[0][1].items())


def test_the_likeliest_ids_and_the_rest_sum_to_one_in_half_precision(tmp_path: Path) -> None:
    _, teacher = pair(dtype=torch.float32)
    source = kept(tmp_path, teacher, top_k=4, log_dtype="float16")
    batch = source.rows(0, 5)
    counted = batch.loss_mask
    assert batch.top_logs.shape == (5, 12, 5)
    probabilities = np.exp(batch.top_logs[counted].astype(np.float64))
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)
    own = teacher.model(
        micro(batch).input_ids, position_ids=micro(batch).position_ids,
        attention_mask=micro(batch).attention_mask,
    ).softmax(-1)[torch.from_numpy(counted)]  # fmt: skip
    top = own.topk(4, dim=1)
    assert np.array_equal(batch.top_ids[counted], top.indices.numpy())
    np.testing.assert_allclose(probabilities[:, :4], top.values.detach().numpy(), rtol=4e-3)
    size = sum(path.stat().st_size for path in (tmp_path / "answers").glob("*.bin"))
    assert size == source.logits.offsets[-1] * (4 * 2 + 5 * 2)


def test_rows_are_a_pure_function_of_seed_and_number(tmp_path: Path) -> None:
    source = kept(tmp_path, pair(dtype=torch.float32)[1], top_k=3)
    n = source.logits.n_rows
    whole = source.rows(0, 3 * n)
    for start, count in ((0, 4), (n - 1, 3), (2 * n, n), (n + 1, 1)):
        part = source.rows(start, count)
        for name in ("input_ids", "target_ids", "loss_mask", "top_ids", "top_logs"):
            assert np.array_equal(getattr(part, name), getattr(whole, name)[start : start + count])
    first = TASKS["next_token"].source().rows(0, n)
    assert np.array_equal(whole.input_ids[:n], first.input_ids), "the first epoch is the source's own"
    orders = [tuple(map(bytes, whole.input_ids[i * n : (i + 1) * n])) for i in range(3)]
    assert len(set(orders)) == 3, "epochs differ in their order"
    assert len({tuple(sorted(order)) for order in orders}) == 1, "and in nothing else"


def test_the_loss_from_a_cache_passes_the_doctors_gradient_checks(tmp_path: Path) -> None:
    student, teacher = pair(dtype=torch.float32)
    source: Any = kept(tmp_path, teacher, top_k=3, log_dtype="float16")
    objective = distillation(None, DistillConfig())
    tokenizer = train_tokenizer(["one two three"], TokenizerConfig(vocab_size=270))
    plan, spec = tiny_plan(), tasks.TASKS["next_token"]
    context = CheckContext(student, tokenizer, source, None, plan, objective, spec, lambda name: False)
    with probing(student):
        assert context.gradient
        assert gradients.masked_micro_batch(context) is None
        assert gradients.uncounted_targets(context) is None


def test_answers_for_other_settings_are_refused(tmp_path: Path) -> None:
    _, teacher = pair(dtype=torch.float32)
    kept(tmp_path, teacher, top_k=3)
    for change in ({"teacher": "u"}, {"seed": 6}, {"top_k": 4}, {"distill_temperature": 2.0}):
        name, wanted = next(iter(change.items()))
        with pytest.raises(UserError, match=f"{name} = .*{name} = {wanted}"):
            TeacherLogits(tmp_path / "answers", replace(SPEC, **{"top_k": 3} | change))


def test_a_damaged_cache_is_named_and_a_broken_off_one_is_never_met(tmp_path: Path) -> None:
    _, teacher = pair(dtype=torch.float32)
    source = TASKS["next_token"].source()
    with pytest.raises(KeyboardInterrupt):
        write_teacher_logits(tmp_path / "answers", teacher, source, SPEC, advance=_stop)
    assert not list(tmp_path.iterdir())
    kept(tmp_path, teacher, top_k=3)
    assert open_artifact(tmp_path / "answers").kind == "teacher_logits"
    with open(tmp_path / "answers" / "logs.bin", "ab") as file:
        file.write(b"\0")
    with pytest.raises(CorruptArtifact, match=r"logs\.bin"):
        TeacherLogits(tmp_path / "answers")


def _stop(n_rows: int) -> None:
    raise KeyboardInterrupt
