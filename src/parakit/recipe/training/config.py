"""Settings of the two training stages: those of any run, and what their objectives add. Imports no torch."""

from typing import Literal

from pydantic import Field

from parakit.recipe.families import Objective, Task
from parakit.training.config import TrainingConfig

MASK_RATE, SPAN_RATE = 0.3, 0.15  # ModernBERT (Warner et al. 2024); T5 (Raffel et al. 2020)


class PretrainConfig(TrainingConfig):
    """How to pre-train. What is hidden from the model is told here, where its objective hides anything."""

    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="in every block; None: the shape's own"
    )
    noise_rate: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="share of a text that is hidden; None: 0.3 masked, 0.15 in spans",
    )
    whole_word: bool = Field(default=False, description="masked: hide all pieces of a word together")
    mean_span: float = Field(
        default=3.0, ge=1, description="span_corruption: tokens of a hidden span on average"
    )


class FinetuneConfig(TrainingConfig):
    """How to tune for a task."""

    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="in every block; None: the model's own"
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="translate: share of each target spread over the vocabulary"
    )
    temperature: float = Field(
        default=0.05, gt=0, description="embed: cosines are divided by it before texts compete"
    )
    pooling: Literal["mean", "cls", "last"] = Field(
        default="mean", description="embed: how token vectors become one vector"
    )


# The settings above that an objective or task reads; all read dropout.
READ_BY: dict[Objective | Task, frozenset[str]] = {
    "masked": frozenset({"noise_rate", "whole_word"}),
    "span_corruption": frozenset({"noise_rate", "mean_span"}),
    "translate": frozenset({"label_smoothing"}),
    "embed": frozenset({"temperature", "pooling"}),
}
