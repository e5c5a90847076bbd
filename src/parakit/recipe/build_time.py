"""The time of a build: what each stage that trains may take of what is left when it begins.

A stage that ran late takes from the later ones in proportion, and one that ended early gives to them. Stages that are up
to date count with the seconds that they took, and an interrupted one with what it had used, so that a build that is
resumed ends when it would have ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parakit.training.pace import TimeBudget

# By which the stages share what is left; alignment counts once for each step.
WEIGHTS = {"pretrain": 4.0, "finetune": 2.0, "align": 1.0, "distill": 1.5}
# With a model to start from.
START_WEIGHTS = {"pretrain": 2.0, "finetune": 3.0, "align": 2.0, "distill": 2.0}
# Of the whole time, what evaluation and report are expected to take; the start is evaluated as well.
EVALUATION_SHARE, START_EVALUATION_SHARE = 0.08, 0.14
# At most, of a new model that is only pre-trained, where nothing is to be measured but its held-out text and samples.
PLAIN_EVALUATION_SECONDS = 60.0
ANSWERS_SHARE = 0.2  # and the answers from an index of documents
LEAST_SHARE = 0.1  # of what a stage would get in a build that is on time, however late it is


@dataclass
class BuildTime:
    """`seconds` for the whole build, of which `stages` (pretrain, finetune, a method of alignment, distill) train."""

    seconds: float
    stages: Sequence[str]
    has_start: bool
    clock: Callable[[], float] = time.monotonic
    spent_before: float = 0.0
    """By stages that are up to date, when they were made."""
    budgets: dict[str, TimeBudget] = field(default_factory=dict)
    has_index: bool = False
    has_evaluations: bool = False
    """Whether the recipe asks for more than every build measures."""
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def spent(self) -> float:
        """Seconds of the build so far, those of interrupted and of skipped stages included."""
        resumed = sum(map(self.used_before, self.budgets))
        return self.spent_before + self.clock() - self.started + resumed

    def used_before(self, stage: str) -> float:
        """Seconds of a stage in the process that it was interrupted in."""
        return self.budgets[stage].used_before if stage in self.budgets else 0.0

    def share(self, stage: str) -> float:
        """The seconds of a stage in a build that is on time: what its fingerprint depends on."""
        return self._training * self._part(stage, self.stages)

    def budget(self, stage: str) -> TimeBudget:
        """The time of a stage that begins now."""
        from parakit.training.pace import TimeBudget

        later = self.stages[self.stages.index(stage) :]
        left = self._training - self.spent
        seconds = max(left * self._part(stage, later), LEAST_SHARE * self.share(stage))
        fills = self.has_start or stage == self.stages[0]  # a model that the build trained is tuned by epochs
        self.budgets[stage] = TimeBudget(seconds, self.clock, promised=self.share(stage), fills=fills)
        return self.budgets[stage]

    @property
    def _training(self) -> float:
        """Seconds until the evaluation begins."""
        measuring = self.seconds * (START_EVALUATION_SHARE if self.has_start else EVALUATION_SHARE)
        if list(self.stages) == ["pretrain"] and not self.has_start and not self.has_evaluations:
            measuring = min(measuring, PLAIN_EVALUATION_SECONDS)
        return self.seconds * (1.0 - ANSWERS_SHARE * self.has_index) - measuring

    def _part(self, stage: str, stages: Sequence[str]) -> float:
        weights = START_WEIGHTS if self.has_start else WEIGHTS
        each = {name: weights.get(name, weights["align"]) for name in stages}
        return each[stage] / sum(each.values())
