"""Rows that the student answers itself: what it was asked stays, what it says counts, and a resume meets the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compression.pairs import pair

from parakit.common.errors import UserError
from parakit.compression.config import DistillConfig
from parakit.compression.distillation.losses import distillation
from parakit.compression.distillation.on_policy import OnPolicyDistillationSource
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.decoding import generate_ids
from parakit.training.trainer import Trainer
from tests.training.tiny_runs import facts, finish, tiny_plan, weights
from tests.training.tiny_tasks import tokens

STOP = 2


def source(student: Any, share: float = 1.0, **sampling: Any) -> OnPolicyDistillationSource:
    settings = SamplingConfig(**{"temperature": 1.0, "max_new_tokens": 4} | sampling)
    return OnPolicyDistillationSource(tokens(masked=True), student, [STOP], share=share, sampling=settings)


def documents(batch: Any, row: int) -> list[tuple[list[int], list[bool]]]:
    """Ids of each document of a row, and which of them count."""
    found = []
    for number in range(batch.document_ids[row].max() + 1):
        at = np.flatnonzero(batch.document_ids[row] == number)
        ids = [int(batch.input_ids[row, at[0]]), *batch.target_ids[row, at].tolist()]
        assert ids[:-1] == batch.input_ids[row, at].tolist()
        assert batch.position_ids[row, at].tolist() == list(range(len(at)))
        found.append((ids, [False, *batch.loss_mask[row, at].tolist()]))
    return found


def test_answers_follow_a_prompt_of_the_data_and_are_the_students() -> None:
    student, _ = pair(dtype=torch.float32)
    own, plain = source(student, temperature=0.0).rows(0, 8), tokens(masked=True).rows(0, 8)
    prompts_of_data = {
        tuple(ids[:n]) for row in range(8) for ids, _ in documents(plain, row) for n in range(len(ids))
    }
    greedy = SamplingConfig(temperature=0.0, max_new_tokens=4)
    n_seen = 0
    for row in range(8):
        for ids, counted in documents(own, row):
            begin = counted.index(True)
            assert all(counted[begin:])
            assert tuple(ids[:begin]) in prompts_of_data
            (answer,) = generate_ids(student, [ids[:begin]], greedy, [STOP], seeds=[0])
            assert ids[begin:] == answer[: 13 - begin]
            n_seen += 1
    assert n_seen >= 8
    assert np.array_equal(own.unlabelled, own.loss_mask)
    assert own.n_counted == own.loss_mask.sum()


def test_only_the_share_is_answered_and_the_rest_stays_as_it_is() -> None:
    student, _ = pair(dtype=torch.float32)
    plain = tokens(masked=True).rows(0, 60)
    mixed = source(student, 0.4).rows(0, 60)
    answered = mixed.unlabelled.any(1)
    assert 0.2 < answered.mean() < 0.6
    for name in ("input_ids", "target_ids", "loss_mask", "document_ids", "position_ids"):
        assert np.array_equal(getattr(mixed, name)[~answered], getattr(plain, name)[~answered])
    assert not source(student, 0.0).rows(0, 60).unlabelled.any()


def test_rows_depend_on_their_number_and_the_student_alone() -> None:
    student, _ = pair(dtype=torch.float32)
    whole = source(student).rows(0, 6)
    part = source(student).rows(3, 2)
    assert np.array_equal(whole.target_ids[3:5], part.target_ids)
    with torch.no_grad():
        student.lm_head.weight.mul_(-1)
    assert not np.array_equal(whole.target_ids, source(student).rows(0, 6).target_ids)


def test_dropout_is_off_while_the_student_answers_and_on_again_behind_it() -> None:
    student, _ = pair(dtype=torch.float32)
    for module in student.modules():
        if hasattr(module, "p"):
            module.p = 0.5
    student.train()
    first, second = (source(student).rows(0, 4).target_ids for _ in range(2))
    assert np.array_equal(first, second)
    assert student.training


def test_plain_text_is_refused() -> None:
    student, _ = pair(dtype=torch.float32)
    with pytest.raises(UserError, match="plain text has no questions"):
        OnPolicyDistillationSource(tokens("concat"), student, [STOP], share=0.5, sampling=SamplingConfig())


def trainer(folder: Path | None) -> Trainer:
    student, teacher = pair(dtype=torch.float32)
    objective = distillation(teacher, DistillConfig(hard_label_share=0.3))
    plan = tiny_plan(max_steps=8, micro_batch_size=4)
    return Trainer(student, source(student, 0.5), objective, plan, folder)


def test_a_run_left_at_a_step_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    unbroken = trainer(None)
    wanted = [facts(record) for record in finish(unbroken)]
    assert len({one[2] for one in wanted}) > 1, "answers differ in length"
    for record in trainer(tmp_path).steps():
        if record.step == 5:
            break
    resumed = trainer(tmp_path)
    assert 0 < resumed.first_step <= 5
    got = [facts(record) for record in finish(resumed)]
    assert got == wanted[resumed.first_step :]
    assert weights(resumed.model) == weights(unbroken.model)
