"""Principles from a YAML file: how a critic criticises an answer, rewrites it, and compares two.

A file holds `principles: [{id, text, critique, revision, preference}, ...]`. A critique that begins with `accepts` ("No")
finds nothing to revise; where `rejects` ("Yes") is given, any other critique must begin with it.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from parakit.common.errors import UserError
from parakit.common.settings import Config, load_yaml

PRIMER = "primer"


class PrincipleConfig(Config):
    """One principle."""

    id: str = Field(min_length=1, description="A short name; stands in transcripts.")
    text: str = Field(min_length=1, description="The principle in words.")
    critique: str = Field(min_length=1, description="What the critic is asked about an answer.")
    found_good: str = Field(default="No", description="A critique that begins so found nothing to mend.")
    found_fault: str | None = Field(
        default=None,
        description="A critique that found a fault begins so, any other is nonsense; none: any words.",
    )
    revision: str = Field(min_length=1, description="What the critic is told to do when it found something.")
    preference: str = Field(min_length=1, description="Asked about two answers, A and B.")


class PrinciplesConfig(Config):
    """A file of principles."""

    principles: tuple[PrincipleConfig, ...] = Field(min_length=1)

    @field_validator("principles")
    @classmethod
    def _different(cls, principles: tuple[PrincipleConfig, ...]) -> tuple[PrincipleConfig, ...]:
        names = [one.id for one in principles]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"the principle {twice[0]!r} stands twice")
        return principles


def load_principles(path: str | Path = PRIMER) -> tuple[PrincipleConfig, ...]:
    """The principles of a YAML file; `"primer"`: the built-in ones. `UserError` naming the fault."""
    file = principles_file(path)
    if not file.is_file():
        raise UserError(
            f"{path}: no such file of principles", f"give a YAML file, or {PRIMER!r} for the built-in ones"
        )
    return PrinciplesConfig.parse(load_yaml(file), str(path)).principles


def principles_file(path: str | Path) -> Path:
    """The file that is meant."""
    return Path(__file__).with_name("primer.yaml") if str(path) == PRIMER else Path(path)
