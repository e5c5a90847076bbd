"""Flags that act only together with others: set without them, they are refused and not silently ignored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from parakit.common.errors import UserError
from parakit.common.settings import Config
from parakit.inference.chat_models.locations import is_endpoint


@dataclass(frozen=True)
class Needs:
    """These flags (as fields are named) act only where `met` is true of the command; else for this reason they do not."""

    flags: tuple[str, ...]
    met: Callable[[Any], bool]
    reason: str
    hint: str


def refuse_inert(command: Config, rules: Sequence[Needs]) -> None:
    """`UserError` for the first flag that is set and would do nothing."""
    for rule in rules:
        for name in rule.flags:
            if name in command.model_fields_set and not rule.met(command):
                flag = f"--{name.replace('_', '-')}"
                raise UserError(
                    f"{flag} is set but has no effect: {rule.reason}", f"remove it, or {rule.hint}"
                )


GREEDY = Needs(
    ("top_k", "top_p", "min_p", "typical_p", "seed", "n"),
    lambda command: command.temperature != 0,
    "with temperature 0 the likeliest token is taken, and nothing is drawn",
    "raise --temperature",
)
OVERWRITES = Needs(
    ("overwrite",), lambda command: command.output is not None, "nothing is written", "name --output FOLDER"
)
# `parakit chat` and `generate`
LOG_PROBABILITIES = Needs(
    ("log_probabilities",), lambda command: command.as_json, "the text is printed alone", "add --json"
)


def check_judge_name(judge: str, judge_model: str | None) -> None:
    """`UserError` for the name of a judge's model where the judge is not at a URL."""
    if judge_model and not is_endpoint(judge):
        raise UserError(
            f"--judge-model {judge_model} names a model at a URL, but --judge is {judge!r}",
            "give the URL with --judge",
        )
