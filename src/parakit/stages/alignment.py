"""The alignment job: a model, the data of a method, and what the method trains."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from parakit.alignment.config import (
    AlignConfig,
    BestOfNConfig,
    DPOConfig,
    Method,
    RewardConfig,
    RLConfig,
    RolloutConfig,
)
from parakit.common.files import JsonObject
from parakit.stages.best_of_n import prepare_best_of_n
from parakit.stages.job import PreparedRun
from parakit.stages.preference_jobs import prepare_preference_tuning, prepare_reward_model
from parakit.stages.rl_jobs import prepare_rl, prompts_fingerprint
from parakit.training.pace import TimeBudget


@dataclass(frozen=True)
class AlignJob:
    """Align `model`. `data` is a folder of preferences (reward, dpo), or the prompts of the other methods: a file, or a
    folder of conversations, of which the last questions are the prompts.
    """

    model: Path
    data: Path
    work: Path
    training: AlignConfig
    budget: TimeBudget | None = field(default=None, compare=False)

    @property
    def method(self) -> Method:
        """The method of the settings."""
        return self.training.method

    def inputs(self) -> list[Path]:
        """The model, and preferences; prompts may be a file, and are part of the spec."""
        return [self.model] if isinstance(self.training, RolloutConfig) else [self.model, self.data]

    def to_spec(self) -> JsonObject:
        """The prompts, and the time."""
        is_rollout = isinstance(self.training, RolloutConfig)
        spec: JsonObject = {"data": prompts_fingerprint(self.data)} if is_rollout else {}
        return spec | (self.budget.to_spec() if self.budget else {})

    def prepare(self, run_dir: Path) -> PreparedRun:
        """The training run of every method but a constitution, which has several (`constitution.py`)."""
        training = self.training
        if isinstance(training, RewardConfig):
            return prepare_reward_model(self.model, self.data, training, run_dir, self.budget)
        if isinstance(training, DPOConfig):
            return prepare_preference_tuning(self.model, self.data, training, run_dir, self.budget)
        if isinstance(training, BestOfNConfig):
            return prepare_best_of_n(self.model, self.data, training, run_dir, self.budget)
        assert isinstance(training, RLConfig)
        return prepare_rl(self.model, self.data, training, run_dir)
