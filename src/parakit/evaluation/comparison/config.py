"""Settings of a comparison. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from parakit.common.settings import Config

ProtocolField = Literal[
    "task",
    "version",
    "program",
    "data_digest",
    "prompts_digest",
    "n_shots",
    "prompting",
    "system_prompt",
    "split",
    "settings",
]


GATE = "gate_"
"""Begins the name of a gate's stage in a build: the name of the model's stage follows."""


class CompareConfig(Config):
    """When one model counts as better or worse than another."""

    level: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        description="Greatest chance that any verdict of better or worse is wrong, over all tests together.",
    )
    detect: float = Field(
        default=0.02,
        gt=0,
        le=1,
        description="Difference of a share for which the number of items needed is printed; 0.02 is 2 points.",
    )
    power: float = Field(
        default=0.95, gt=0.5, lt=1, description="Chance with which that difference would be detected."
    )
    common_items: bool = Field(
        default=False,
        description="Compare on the items that both evaluations have, where they differ in the choice of items alone.",
    )
    allow: tuple[ProtocolField, ...] = Field(
        default=(),
        description="Parts of the protocol that may differ; each difference is printed with both values.",
    )


class GateConfig(Config):
    """When a stage's model counts as worse than the model that it was made from, which stops a build."""

    max_fall: float = Field(
        default=0.01,
        ge=0,
        lt=1,
        description="Share by which a score may fall, 0.01 for a point; the fall has to be more than chance as well.",
    )
    level: float = Field(
        default=0.05, gt=0, lt=0.5, description="Greatest chance that a stage is stopped by chance alone."
    )
