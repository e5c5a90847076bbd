"""What a family is trained on, and which tasks it can be tuned for. Imports no torch.

The first objective of a family is its own; the others can be asked for. `none` leaves pre-training out: the model
is trained from scratch on the examples of its task, as in 2017.
"""

from typing import Literal

from parakit.common.errors import UserError
from parakit.model.config import Family

Objective = Literal["next_token", "prefix", "masked", "span_corruption", "none"]
ExampleTask = Literal["classify", "tag", "regress", "translate", "embed"]
Task = Literal["chat", "classify", "tag", "regress", "translate", "embed"]

OBJECTIVES: dict[Family, tuple[Objective, ...]] = {
    "decoder": ("next_token", "prefix", "none"),
    "encoder": ("masked", "none"),
    "encoder-decoder": ("span_corruption", "prefix", "none"),
}
FAMILIES_OF_TASK: dict[Task, tuple[Family, ...]] = {
    "chat": ("decoder",),
    "classify": ("encoder", "decoder"),
    "tag": ("encoder", "decoder"),
    "regress": ("encoder", "decoder"),
    "translate": ("encoder-decoder",),
    "embed": ("encoder", "decoder"),
}
_WHY_NOT = {
    "chat": "only a decoder goes on from a conversation",
    "translate": "reading one text and writing another needs an encoder and a decoder",
    "classify": "labels are read from an encoder's or a decoder's vectors",
    "tag": "tags are read from an encoder's or a decoder's vectors",
    "regress": "scores are read from an encoder's or a decoder's vectors",
    "embed": "an embedding is made of an encoder's or a decoder's vectors",
}


def check_task(task: Task, family: Family, where: str = "") -> None:
    """`UserError` when no model of `family` can be tuned for `task`."""
    fit = FAMILIES_OF_TASK[task]
    if family not in fit:
        raise UserError(
            f"{where and where + ': '}task {task!r} does not fit the family {family!r}: {_WHY_NOT[task]}",
            f"take a model of the family {' or '.join(repr(name) for name in fit)}"
            f" (parakit pretrain --family {fit[0]})",
        )


def check_objective(objective: Objective, family: Family) -> None:
    """`UserError` when `family` cannot be pre-trained with `objective`."""
    if objective not in OBJECTIVES[family]:
        raise UserError(
            f"objective {objective!r} does not fit the family {family!r}",
            f"a model of this family takes: {', '.join(OBJECTIVES[family])}",
        )


def tasks_of(family: Family) -> list[Task]:
    """The tasks that a family can be tuned for."""
    return [task for task, fit in FAMILIES_OF_TASK.items() if family in fit]
