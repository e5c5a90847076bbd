"""Names of pre-training objectives (by family) and of tasks. Imports no torch.

The first objective of a family is its default.
"""

from typing import Literal

from parakit.common.errors import UserError
from parakit.common.settings import Family

ObjectiveName = Literal["next_token", "prefix", "masked", "span_corruption"]
ExampleTaskName = Literal["classify", "multi_label", "tag", "regress", "answer", "translate", "embed"]
TaskName = Literal["chat", "classify", "multi_label", "tag", "regress", "answer", "translate", "embed"]

MASK_RATE, SPAN_RATE = 0.3, 0.15  # ModernBERT (Warner et al. 2024); T5 (Raffel et al. 2020)

OBJECTIVES: dict[Family, tuple[ObjectiveName, ...]] = {
    "decoder": ("next_token", "prefix"),
    "encoder": ("masked",),
    "encoder-decoder": ("span_corruption", "prefix"),
}
TASK_FAMILIES: dict[TaskName, tuple[Family, ...]] = {
    "chat": ("decoder",),
    "classify": ("encoder", "decoder"),
    "multi_label": ("encoder", "decoder"),
    "tag": ("encoder", "decoder"),
    "regress": ("encoder", "decoder"),
    "answer": ("encoder",),
    "translate": ("encoder-decoder",),
    "embed": ("encoder", "decoder"),
}
_WHY_NOT = {
    "chat": "only a decoder continues a conversation",
    "translate": "turning one text into another needs an encoder and a decoder",
    "classify": "labels are predicted from an encoder's or a decoder's vectors",
    "multi_label": "labels are predicted from an encoder's or a decoder's vectors",
    "answer": "an answer is found by an encoder, whose every token sees the whole context",
    "tag": "tags are predicted from an encoder's or a decoder's vectors",
    "regress": "scores are predicted from an encoder's or a decoder's vectors",
    "embed": "an embedding is pooled from an encoder's or a decoder's vectors",
}


def check_task(task: TaskName, family: Family, where: str = "") -> None:
    """`UserError` when no model of `family` can be fine-tuned for `task`."""
    fit = TASK_FAMILIES[task]
    if family not in fit:
        raise UserError(
            f"{where and where + ': '}task {task!r} does not fit the family {family!r}: {_WHY_NOT[task]}",
            f"take a model of the family {' or '.join(repr(name) for name in fit)}"
            f" (parakit pretrain --family {fit[0]})",
        )


def check_objective(objective: ObjectiveName, family: Family) -> None:
    """`UserError` when `family` cannot be pre-trained with `objective`."""
    if objective not in OBJECTIVES[family]:
        raise UserError(
            f"objective {objective!r} does not fit the family {family!r}",
            f"a model of this family takes: {', '.join(OBJECTIVES[family])}",
        )


def tasks_for(family: Family) -> list[TaskName]:
    """The tasks that a model of `family` can be fine-tuned for."""
    return [task for task, fit in TASK_FAMILIES.items() if family in fit]
