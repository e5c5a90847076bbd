"""Students, the tokenizers of teacher and student, and a step that moves the student alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from compression.pairs import micro, pair, rows

from parakit.common.errors import UserError
from parakit.compression.config import DistillConfig
from parakit.compression.distillation.checks import (
    check_same_outputs,
    check_same_vocabulary,
)
from parakit.compression.distillation.losses import distillation
from parakit.compression.distillation.students import select_layers, student_from_layers
from parakit.compression.distillation.teacher import shared_tensors
from parakit.tokens.config import TokenizerConfig
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.tokens.tokenizer.training import train_tokenizer
from parakit.training.loop import train_steps
from parakit.training.optimizers.optimizer import Optimizer
from tests.training.tiny_runs import tiny_plan
from tests.training.tiny_tasks import language_model, masked_model, woken

TEXTS = [
    "the cat sat on the mat and the dog sat on the log " * 3,
    "a bird sings in a tree near the river " * 3,
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, TokenizerConfig(vocab_size=280))


def test_a_step_moves_the_student_and_not_the_teacher() -> None:
    student, teacher = pair(dtype=torch.float32)
    before = [{n: v.clone() for n, v in m.state_dict().items()} for m in (student, teacher.model)]
    optimizer = Optimizer(student, tiny_plan())
    list(train_steps(student, [[micro(rows())]] * 2, distillation(teacher, DistillConfig()), optimizer))
    assert not teacher.model.training
    assert all(torch.equal(before[1][n], v) for n, v in teacher.model.state_dict().items())
    assert not all(torch.equal(before[0][n], v) for n, v in student.state_dict().items())


# ---- students


@pytest.mark.parametrize(
    ("n_layers", "n_kept", "wanted"),
    [(12, 6, [0, 2, 4, 7, 9, 11]), (5, 3, [0, 2, 4]), (4, 2, [0, 3]), (3, 1, [0]), (2, 2, [0, 1])],
)
def test_layers_are_spread_evenly(n_layers: int, n_kept: int, wanted: list[int]) -> None:
    assert select_layers(n_layers, n_kept) == wanted


def test_more_layers_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match=r"keep_layers = 4.*3 layers"):
        select_layers(3, 4)


@pytest.mark.parametrize("make", [language_model, masked_model])
def test_a_student_of_all_layers_is_its_teacher_with_weights_of_its_own(make: Any) -> None:
    teacher = woken(make(n_layers=3)).eval()
    student = student_from_layers(teacher, 3).eval()
    ids = torch.arange(3, 15)[None]
    assert torch.equal(student(ids), teacher(ids))
    assert shared_tensors(student, teacher) == []
    assert (student.lm_head.weight is student.trunk.token_embedding.weight) == (
        teacher.lm_head.weight is teacher.trunk.token_embedding.weight
    )


def test_kept_layers_are_the_teachers_and_local_ones_stay_local() -> None:
    windows = {"sliding_window": 4, "local_layers": (1, 2, 4)}
    teacher = woken(masked_model(n_layers=5, **windows))
    student = student_from_layers(teacher, 3)
    assert student.config.local_layers == (1, 2)
    for new, old in enumerate([0, 2, 4]):
        block, teacher_block = student.trunk.blocks[new], teacher.trunk.blocks[old]
        assert block.local == teacher_block.local
        assert all(torch.equal(v, teacher_block.state_dict()[n]) for n, v in block.state_dict().items())


# ---- vocabularies


def test_another_tokenizer_is_refused_with_both_names(tokenizer: Tokenizer) -> None:
    smaller = train_tokenizer(TEXTS, TokenizerConfig(vocab_size=270))
    with pytest.raises(UserError, match=r"TEACHER and STUDENT have different tokenizers: 280 tokens and 270"):
        check_same_vocabulary(tokenizer, smaller, "TEACHER", "STUDENT")
    other = train_tokenizer([text[::-1] for text in TEXTS], TokenizerConfig(vocab_size=280))
    with pytest.raises(UserError, match=r"TEACHER and STUDENT have different tokenizers: id \d+ is"):
        check_same_vocabulary(tokenizer, other, "TEACHER", "STUDENT")


def test_an_equal_table_under_another_description_is_taken(tokenizer: Tokenizer) -> None:
    import json

    described = json.loads(tokenizer.json)
    described["added_tokens"] = list(reversed(described["added_tokens"]))
    same = Tokenizer(
        json.dumps(described),
        kind=tokenizer.kind,
        special=tokenizer.special,
        chat_template=tokenizer.chat_template,
    )
    assert same.digest != tokenizer.digest
    check_same_vocabulary(tokenizer, same, "TEACHER", "STUDENT")


def test_models_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="31 ids, the other over 40"):
        check_same_outputs(language_model(), language_model(vocab_size=40), "T", "S")
    with pytest.raises(UserError, match="decoder and encoder"):
        check_same_outputs(language_model(), masked_model(), "T", "S")
