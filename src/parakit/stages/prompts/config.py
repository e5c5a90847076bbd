"""Settings of measuring prompts. Imports no torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from parakit.assistants.prompts.prompt import ANSWER, SelectBy
from parakit.common.settings import Config
from parakit.evaluation.judging.prompts import CRITERION

Metric = Literal["exact", "f1", "number", "contains", "checker", "judge"]


class ScoreConfig(Config):
    """How answers are scored, and which items."""

    metric: Metric = Field(
        default="exact",
        description="exact: the words of a right answer, without case, articles and punctuation. f1: the share of common"
        " words. number: the last number is the right one. contains: a right answer occurs. checker: a program in the sandbox."
        " judge: a model grades.",
    )
    checker: str | None = Field(
        default=None,
        description="With --metric checker: a Python file with `def check(answer, item)`, which returns True, False, or a"
        " score from 0 to 1.",
    )
    judge: str | None = Field(
        default=None, description="With --metric judge: a model folder, or the URL of a chat endpoint."
    )
    criterion: str = Field(
        default=CRITERION, min_length=1, description="With --metric judge: what a good answer is more of."
    )
    answer_field: str = Field(default=ANSWER, min_length=1, description="The column with the right answers.")
    limit: int | None = Field(default=None, ge=1, description="Use only the first items, this many.")


class PromptRunConfig(ScoreConfig):
    """How prompts are run on items."""

    examples: str | None = Field(
        default=None, description="A table of training rows from which few-shot prompts draw their examples."
    )
    n_shots: int | None = Field(
        default=None, ge=1, le=1000, description="Examples of a few-shot prompt. Default: what its file has."
    )
    select: SelectBy = Field(
        default="random",
        description="random: the same examples for all items. similar: those whose words are most like the item's."
        " gain: those that raise the score on other training rows.",
    )
    calibrate: bool = Field(
        default=False,
        description="Contextual calibration: divide the probabilities of answer_choices by those without an input.",
    )
    seed: int = Field(default=0, ge=0, description="Of the choice of examples and of sampled replies.")


class SampleConfig(ScoreConfig):
    """How replies are sampled, and how one of them is chosen."""

    n_samples: int = Field(default=16, ge=2, le=1024, description="Replies to each item.")
    temperature: float = Field(default=0.7, gt=0, le=100, description="Of the sampled replies.")
    verifiers: tuple[str, ...] = Field(
        default=("votes",),
        description="What chooses among the replies: votes (the answer of most), a reward model's or a chat model's folder,"
        " a URL, or a Python file with `def check(answer, item)`, which gets the whole reply and no right answer.",
    )
    budgets: tuple[int, ...] = Field(
        default=(),
        description="Also answer greedily after thinking of exactly so many tokens (budget forcing; local models).",
    )
    seed: int = Field(default=0, ge=0, description="Of the replies and of the subsets.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.verifiers)) < len(self.verifiers):
            raise ValueError("a verifier is named twice")
        if any(budget < 1 for budget in self.budgets):
            raise ValueError("a budget is a number of tokens, 1 or more")
        return self
