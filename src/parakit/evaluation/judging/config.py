"""Settings of judging. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from parakit.common.settings import Config
from parakit.evaluation.judging.prompts import CRITERION


class JudgeConfig(Config):
    """What is judged, and how."""

    kind: Literal["pairwise", "graded"] = Field(
        default="pairwise",
        description="pairwise: every two answers to a prompt are compared, in both orders. graded: each answer gets a grade "
        "from 1 to 5.",
    )
    criterion: str = Field(
        default=CRITERION,
        min_length=1,
        description='Completes the judge\'s question "Which answer is more ...?".',
    )
    judge_model: str | None = Field(
        default=None,
        description="Name of the judge at its URL. Default: the first model that the endpoint lists.",
    )
    limit: int | None = Field(default=None, ge=1, description="Use only the first prompts, this many.")
    max_new_tokens: int = Field(default=256, ge=1, description="Length limit of a model's answer in tokens.")
    seed: int = Field(default=0, ge=0, description="Seed of the intervals.")
