"""The library: one prompt of each kind that introductions name, as files next to this module. Imports no torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

from parakit.assistants.prompts.prompt import SUFFIXES, PromptKind, PromptTemplate, read_prompt
from parakit.common.errors import UserError
from parakit.common.settings import closest_match

FOLDER = Path(__file__).with_name("library")
ORDER = tuple(kind for kind in get_args(PromptKind) if kind != "other")


def library_prompts() -> list[PromptTemplate]:
    """All prompts of the library, in the order in which the page explains them."""
    return [read_prompt(FOLDER / f"{name}.yaml") for name in ORDER]


def open_prompt(name: str | Path) -> PromptTemplate:
    """A prompt by its name in the library, or by its file. `UserError` names the nearest one."""
    text = str(name)
    if text in ORDER and not os.path.isfile(text):
        return read_prompt(FOLDER / f"{text}.yaml")
    if Path(text).suffix.lower() in SUFFIXES or os.path.exists(text):
        return read_prompt(text)
    near = closest_match(text.replace("-", "_"), ORDER)
    raise UserError(
        f"no prompt {text!r}: it is neither a file nor a prompt of the library",
        f"did you mean {near}?" if near else f"the library has {', '.join(ORDER)}; or name a .yaml file",
    )


def open_prompts(names: tuple[str, ...]) -> list[PromptTemplate]:
    """Several prompts; `UserError` where two have one name."""
    prompts = [open_prompt(name) for name in names]
    seen: dict[str, str] = {}
    for name, prompt in zip(names, prompts, strict=True):
        if prompt.name in seen:
            raise UserError(
                f"{seen[prompt.name]} and {name} both have the name {prompt.name!r}",
                "give one another `name:`",
            )
        seen[prompt.name] = name
    return prompts
