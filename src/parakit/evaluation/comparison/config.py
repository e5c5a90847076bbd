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
        default=0.95, gt=0.5, lt=1, description="Chance with which that difference would be told."
    )
    common_items: bool = Field(
        default=False,
        description="Compare on the items that both evaluations have, where they differ in the choice of items alone.",
    )
    allow: tuple[ProtocolField, ...] = Field(
        default=(),
        description="Parts of the protocol that may differ; each difference is printed with both values.",
    )
