"""Prompts that are served as MODEL:PROMPT: files, folders of files, or names of the library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from parakit.common.errors import UserError

if TYPE_CHECKING:  # a server without prompts starts without what renders them
    from parakit.assistants.prompts.prompt import PromptTemplate


def open_served_prompts(given: Sequence[str]) -> dict[str, PromptTemplate]:
    """The prompts by their names. `UserError` for a file that is no prompt, a folder without any, two of one name, and a
    prompt that a conversation cannot fill.
    """
    if not given:
        return {}
    from parakit.assistants.prompts.library import open_prompts

    prompts = open_prompts(tuple(name for one in given for name in _files(one)))
    for prompt in prompts:
        _check(prompt)
    return {prompt.name: prompt for prompt in prompts}


def _files(given: str) -> list[str]:
    """The prompts that a name stands for: itself, or the files of a folder."""
    from parakit.assistants.prompts.prompt import SUFFIXES

    folder = Path(given)
    if not folder.is_dir():
        return [given]
    found = sorted(str(path) for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise UserError(f"{folder}: has no prompts", f"put {' or '.join(SUFFIXES)} files into it")
    return found


def _check(prompt: PromptTemplate) -> None:
    if prompt.answer_choices:
        raise UserError(
            f"the prompt {prompt.name} has answer_choices: it chooses among them and writes nothing",
            "serve a copy without answer_choices; parakit prompts run measures this one",
        )
    if prompt.n_shots and not prompt.examples:
        raise UserError(
            f"the prompt {prompt.name} draws {prompt.n_shots} examples, and a server has no rows to draw from",
            "write `examples:` into a copy of its file, and remove n_shots",
        )
