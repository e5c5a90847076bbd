"""Checks of a student and its teacher before the first step: vocabularies, a frozen teacher, and the loss of the two.

The student and its data are checked alone, as those of their own task.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from parakit.common.errors import UserError
from parakit.compression.distillation.teacher import Predictor, Teacher, shared_tensors
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.config import TrainingPlan
from parakit.training.doctor import CheckResult, registry
from parakit.training.doctor.context import CheckContext
from parakit.training.doctor.gradient_sketch import list_names
from parakit.training.doctor.run import run_in
from parakit.training.micro_batches import Objective
from parakit.training.tasks import TaskSpec


def check_same_vocabulary(
    teacher: Tokenizer, student: Tokenizer, teacher_name: str, student_name: str
) -> None:
    """`UserError` where an id is another token in the two tokenizers. Equal digests settle it; else every id and every
    special token is compared.
    """
    if teacher.digest == student.digest:
        return
    hint = "distil with a student and data of the teacher's own tokenizer"
    both = f"the teacher {teacher_name} and {student_name} have different tokenizers"
    if teacher.vocab_size != student.vocab_size:
        raise UserError(f"{both}: {teacher.vocab_size:,} tokens and {student.vocab_size:,}", hint)
    for token_id, (one, other) in enumerate(zip(_tokens(teacher), _tokens(student), strict=True)):
        if one != other:
            raise UserError(
                f"{both}: id {token_id} is {one!r} in the first and {other!r} in the second", hint
            )
    for token in sorted({*teacher.special_tokens, *student.special_tokens}):
        if (token in teacher.special_tokens) != (token in student.special_tokens):
            raise UserError(f"{both}: {token!r} is a control token in one of them only", hint)


def _tokens(tokenizer: Tokenizer) -> list[str | None]:
    """By id; None for an id without a token."""
    by_id: list[str | None] = [None] * tokenizer.vocab_size
    for token, token_id in tokenizer.vocabulary.items():
        by_id[token_id] = token
    return by_id


def check_same_outputs(teacher: Predictor, student: Predictor, teacher_name: str, student_name: str) -> None:
    """`UserError` where the two are of different families, or predict over different numbers of ids."""
    hint = "use a student of the teacher's family and vocabulary, or make one with --keep-layers or --size"
    both = f"the teacher {teacher_name} and the student {student_name} do not fit"
    if type(teacher) is not type(student):
        raise UserError(f"{both}: {teacher.config.family} and {student.config.family}", hint)
    n_student, n_teacher = student.config.vocab_size, teacher.config.vocab_size
    if n_student != n_teacher:
        raise UserError(
            f"{both}: the one predicts over {n_teacher:,} ids, the other over {n_student:,}", hint
        )


@dataclass(frozen=True)
class DistillContext(CheckContext):
    """A student in `model`, its teacher, and the loss of the two."""

    teacher: Teacher

    @property
    def checked_as(self) -> tuple[str, ...]:
        return ("distill",)


def check_distillation(
    student: Predictor,
    teacher: Teacher,
    objective: Objective,
    source: Any,
    tokenizer: Tokenizer,
    plan: TrainingPlan,
    spec: TaskSpec,
    seconds: float | None = None,
) -> list[CheckResult]:
    """Check the two and their loss on the first rows of `source`, which has the rows of `spec`. Nothing is changed.
    Checks that do not fit into `seconds` are marked as skipped.
    """
    context = DistillContext(
        student, tokenizer, source, None, plan, objective, spec, lambda name: False, teacher
    )
    return run_in(context, seconds)


check = partial(registry.check, subject="Distillation", applies_to=("distill",), blocking=True)


@check(
    "teacher-trains",
    prevents="The teacher's dropout is on, or an optimizer moves its weights: the student's targets are random or drift.",
    noticed_by="The modes and requires_grad of the teacher's modules are read.",
    remedy="Freeze the teacher, and call eval() on it.",
)
def teacher_trains(context: DistillContext) -> str | None:
    teacher = context.teacher.model
    if any(module.training for module in teacher.modules()):
        return "the teacher is in training mode, so its outputs are random"
    moving = [name for name, p in teacher.named_parameters() if p.requires_grad]
    return f"the teacher would be trained: {list_names(moving)}" if moving else None


@check(
    "teacher-shares-tensors",
    prevents="The teacher shares tensors with the student and changes with it, so there is nothing left to learn.",
    noticed_by="The storage of the student's and the teacher's parameters is compared.",
    remedy="Give the student weights of its own.",
)
def teacher_shares_tensors(context: DistillContext) -> str | None:
    shared = shared_tensors(context.model, context.teacher.model)
    return f"student and teacher share {list_names(shared)}" if shared else None
