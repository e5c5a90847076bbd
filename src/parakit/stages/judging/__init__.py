"""Judging: models answer prompts, and a judge compares or grades the answers."""

from parakit.stages.judging.running import judge_models
from parakit.stages.judging.sources import JudgeJob

__all__ = ["JudgeJob", "judge_models"]
