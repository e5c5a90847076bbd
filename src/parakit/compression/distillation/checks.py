"""What can be wrong between a student and its teacher, looked at before the first step.

The teacher trains or is random (pitfall 17), shares tensors with the student and so drifts with it (34), or reads other
ids (38); and the loss itself: that it does not depend on how a batch is cut (11, 15), counts what counts (1, 13), is
taken in float32 (22), and reaches what should train (21). The student and its data are examined apart, as those
of the stage that they belong to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from parakit.common.errors import UserError
from parakit.compression.distillation.teacher import Predictor, Teacher, shared_tensors
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.config import TrainingPlan
from parakit.training.doctor import Finding, gradients
from parakit.training.doctor.probes import probe_of, tried_out, unevenly_counted
from parakit.training.micro_batches import Objective

_ALONE = "freeze the teacher, in evaluation mode, and give the student weights of its own"
_LOSS = "an objective returns the sum over the batch's counted tokens, nothing else"


def check_same_vocabulary(
    teacher: Tokenizer, student: Tokenizer, teacher_name: str, student_name: str
) -> None:
    """`UserError` naming both where an id does not mean the same token to them. Equal digests say that it does; else
    every id and every special token is looked at.
    """
    if teacher.digest == student.digest:
        return
    hint = "distil with a student and data of the teacher's own tokenizer"
    both = f"the teacher {teacher_name} and {student_name} have different tokenizers"
    if teacher.vocab_size != student.vocab_size:
        raise UserError(f"{both}: {teacher.vocab_size:,} tokens and {student.vocab_size:,}", hint)
    for token_id, (theirs, ours) in enumerate(zip(_tokens(teacher), _tokens(student), strict=True)):
        if theirs != ours:
            raise UserError(f"{both}: id {token_id} is {theirs!r} to the one and {ours!r} to the other", hint)
    for token in sorted({*teacher.special_tokens, *student.special_tokens}):
        if (token in teacher.special_tokens) != (token in student.special_tokens):
            raise UserError(f"{both}: {token!r} is a control token to one of them only", hint)


def _tokens(tokenizer: Tokenizer) -> list[str | None]:
    """By id; None for an id without a token."""
    by_id: list[str | None] = [None] * tokenizer.vocab_size
    for token, token_id in tokenizer.vocabulary.items():
        by_id[token_id] = token
    return by_id


def check_same_outputs(teacher: Predictor, student: Predictor, teacher_name: str, student_name: str) -> None:
    """`UserError` where the two are of different families, or predict over different numbers of ids."""
    hint = (
        "take a student of the teacher's family and vocabulary, or let one be made: --keep-layers or --size"
    )
    both = f"the teacher {teacher_name} and the student {student_name} do not fit"
    if type(teacher) is not type(student):
        raise UserError(f"{both}: {teacher.config.family} and {student.config.family}", hint)
    ours, theirs = student.config.vocab_size, teacher.config.vocab_size
    if ours != theirs:
        raise UserError(f"{both}: the one predicts over {theirs:,} ids, the other over {ours:,}", hint)


def examine_distillation(
    student: Predictor,
    teacher: Teacher,
    objective: Objective,
    batch: Any,
    tokenizer: Tokenizer,
    plan: TrainingPlan,
) -> list[Finding]:
    """Every check of the two and their loss, on a part of `batch`; nothing is changed by it."""
    found = [
        _finding("teacher-trains", 17, "The teacher never changes", _ALONE, teacher_trains(teacher)),
        _finding(
            "teacher-shares-tensors", 34, "The student has its own weights", _ALONE, shares(student, teacher)
        ),
    ]
    if all(finding.passed for finding in found):
        with tried_out(student):
            found += _of_loss(student, objective, probe_of(batch, tokenizer.bos_id), plan)
    return found


def teacher_trains(teacher: Teacher) -> str | None:
    """A teacher with dropout on, or whose weights an optimizer could move."""
    if any(module.training for module in teacher.model.modules()):
        return "the teacher is in training mode: its answers are random, or would become so"
    moving = [name for name, p in teacher.model.named_parameters() if p.requires_grad]
    return f"the teacher would be trained: {gradients.few(moving)}" if moving else None


def shares(student: Predictor, teacher: Teacher) -> str | None:
    """Weights that both have in one place."""
    shared = shared_tensors(student, teacher.model)
    return (
        f"the teacher changes with the student, with which it shares {gradients.few(shared)}"
        if shared
        else None
    )


def _of_loss(student: Predictor, objective: Objective, probe: Any, plan: TrainingPlan) -> Iterator[Finding]:
    uneven = unevenly_counted(probe)
    whole = gradients.gradient(student, [uneven], objective, uneven.n_counted)
    looks = (
        ("accumulation-weights", 11, "Accumulation changes no gradient",
         lambda: gradients.accumulation_weights(student, probe, objective, whole)),
        ("last-window", 15, "A smaller last micro-batch changes no gradient",
         lambda: gradients.last_window(student, probe, objective, whole)),
        ("rank-weights", 12, "The ranks' gradients add up",
         lambda: gradients.rank_weights(student, probe, objective, whole)),
        ("loss-on-prompt", 1, "The objective looks at counted targets only",
         lambda: gradients.uncounted_targets_matter(student, probe, objective)),
        ("masked-micro-batch", 13, "A micro-batch without counted tokens does no harm",
         lambda: gradients.masked_micro_batch(student, probe, objective)),
        ("half-precision-loss", 22, "The loss is taken in float32",
         lambda: gradients.half_precision_loss(student, probe, objective, plan.precision)),
        ("no-gradient", 21, "Every parameter that should train does",
         lambda: gradients.no_gradient(student, gradients.touched(student, probe, objective), lambda name: False)),
    )  # fmt: skip
    for name, pitfall, title, look in looks:
        yield _finding(name, pitfall, title, _LOSS, look())


def _finding(name: str, pitfall: int, title: str, hint: str, fault: str | None) -> Finding:
    return Finding(name, title, not fault, fault or "", hint if fault else "", pitfall)
