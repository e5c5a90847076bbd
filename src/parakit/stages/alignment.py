"""Alignment as a stage: which job a method is, and what a person says about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parakit.alignment.config import AlignConfig, Method
from parakit.checkpoints.adapters import require_full_model
from parakit.stages.best_of_n import best_of_n_job
from parakit.stages.constitution import constitution
from parakit.stages.preference_jobs import train_reward_model, tune_on_preferences
from parakit.stages.rl_jobs import rl_job

Job = Callable[["AlignJob", Path, bool], dict[str, Any]]


@dataclass(frozen=True)
class AlignJob:
    """What a person says about aligning `model`. `data` is a folder of preferences (reward, dpo) or of conversations
    whose last questions are the prompts (ppo, grpo, best_of_n, constitution).
    """

    model: Path
    data: Path
    work: Path
    training: AlignConfig

    @property
    def method(self) -> Method:
        """The method of the settings."""
        return self.training.method


JOBS: Mapping[Method, Job] = {
    "reward": train_reward_model,
    "dpo": tune_on_preferences,
    "ppo": rl_job,
    "grpo": rl_job,
    "best_of_n": best_of_n_job,
    "constitution": constitution,
}


def align(job: AlignJob, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """Run the method's job, which writes the model folder `out`; returns the figures."""
    require_full_model(job.model, "alignment")
    return JOBS[job.method](job, out, overwrite)
