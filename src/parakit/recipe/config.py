"""The recipe's settings: all stages of one build, as one YAML file. Imports no torch.

Every section is the settings group of the stage that reads it, so a word means the same here, on the command line and
in code. Paths are relative to where the command runs. What is left out is chosen: from the text, the time, the size.
"""

import re
from collections.abc import Mapping
from typing import Any, Self

from pydantic import SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.recipe.rules import OF_NEW_MODEL, check_post_training, check_start, check_task_data, check_unused
from parakit.recipe.sections import RecipeSections
from parakit.recipe.start_config import start_model
from parakit.stages.data_config import CorpusConfig
from parakit.training.task_names import OBJECTIVES


class RecipeConfig(RecipeSections):
    """One model, from text to report."""

    @field_validator("size", mode="before")
    @classmethod
    def _size_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
            raise ValueError("a name is letters, digits, '.', '_' and '-' only: it becomes a folder")
        return value

    @classmethod
    def parse(cls, mapping: Mapping[str, Any], where: str = "settings", flags: bool = False) -> Self:
        """As `Config.parse`; an error is explained by the settings with those that follow from others."""
        return super().parse(completed(mapping), where, flags)

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        return completed(values) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_start(self)
        check_task_data(self)
        check_post_training(self)
        check_unused(self)
        return self

    @model_serializer(mode="wrap")
    def _without_unread(self, handler: SerializerFunctionWrapHandler) -> JsonObject:
        """Settings of a new model are left out where a trained one has its own."""
        values: JsonObject = handler(self)
        return {name: value for name, value in values.items() if not (self.brought and name in OF_NEW_MODEL)}


def parse_time(time: str) -> float:
    """`"30min"`, `"90s"`, `"1.5h"` -> seconds."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|sec|m|min|h|d)\s*", time.lower())
    if not match or float(match[1]) <= 0:
        raise UserError(f"time {time!r} is not a length of time", "write for example 90s, 30min or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2][0]]


def completed(values: Mapping[str, Any]) -> JsonObject:
    """With what follows from other sections: the family's objective, fine-tuning for chat where there are conversations,
    and the start as the model that pre-training continues.
    """
    values, family = dict(values), values.get("family", "decoder")
    if family not in OBJECTIVES:
        return values  # an error of its own
    start = start_model(values)
    if start and "pretrain" not in values and not _has_text(values):
        values["pretrain"] = "none"
    _set_default(values, "pretrain", "objective", OBJECTIVES[family][0])
    if start:
        _set_default(values, "pretrain", "model", start)
    if values.get("conversations") is not None and values.get("finetune") is None:
        values["finetune"] = {}
    if family == "encoder" and values.get("distill") is not None:
        _set_default(values, "distill", "objective", "masked")
    return values


def _has_text(values: Mapping[str, Any]) -> bool:
    text = values.get("text")
    if isinstance(text, Mapping):
        return bool(text.get("paths") or text.get("sources") or text.get("primer") is not None)
    return isinstance(text, CorpusConfig) and bool(text.paths or text.primer)


def _set_default(values: JsonObject, section: str, key: str, value: Any) -> None:
    group = values.get(section, {})
    if isinstance(group, Mapping):
        values[section] = {**group, key: group.get(key) or value}
