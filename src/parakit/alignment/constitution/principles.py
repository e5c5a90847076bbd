"""Principles from a YAML file: how a critic criticises an answer, revises it, and compares two.

A file holds `principles: [{id, text, critique, revision, preference}, ...]`. A critique that begins with `pass_prefix`
("No") accepts the answer; where `fail_prefix` ("Yes") is given, any other critique must begin with it.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from parakit.common.errors import UserError
from parakit.common.settings import Config, load_yaml

PRIMER = "primer"


class PrincipleConfig(Config):
    """One principle."""

    id: str = Field(min_length=1, description="A short name, for transcripts.")
    text: str = Field(min_length=1, description="The principle in words.")
    critique: str = Field(min_length=1, description="The question about an answer.")
    pass_prefix: str = Field(default="No", description="A critique that begins so accepts the answer.")
    fail_prefix: str | None = Field(
        default=None,
        description="Any other critique must begin so, or is invalid; none: any words.",
    )
    revision: str = Field(min_length=1, description="The instruction to revise a rejected answer.")
    preference: str = Field(min_length=1, description="The question about two answers, A and B.")


class PrinciplesConfig(Config):
    """A file of principles."""

    principles: tuple[PrincipleConfig, ...] = Field(min_length=1)

    @field_validator("principles")
    @classmethod
    def _different(cls, principles: tuple[PrincipleConfig, ...]) -> tuple[PrincipleConfig, ...]:
        names = [one.id for one in principles]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"the principle {twice[0]!r} occurs twice")
        return principles


def load_principles(path: str | Path = PRIMER) -> tuple[PrincipleConfig, ...]:
    """The principles of a YAML file; `"primer"`: the built-in ones. `UserError` for a missing or invalid file."""
    file = principles_file(path)
    if not file.is_file():
        raise UserError(
            f"{path}: no such file of principles", f"give a YAML file, or {PRIMER!r} for the built-in ones"
        )
    return PrinciplesConfig.parse(load_yaml(file), str(path)).principles


def principles_file(path: str | Path) -> Path:
    """The YAML file that `path` names."""
    return Path(__file__).with_name("primer.yaml") if str(path) == PRIMER else Path(path)
