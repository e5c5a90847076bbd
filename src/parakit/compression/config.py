"""Settings of distillation. Imports no torch.

`unread_distilling` says which of them the chosen divergence, data and cache never look at, and why.
"""

from typing import Literal

from pydantic import Field

from parakit.training.config import TrainingConfig

Lesson = Literal["next_token", "chat", "masked"]


class DistillConfig(TrainingConfig):
    """How a student learns from its teacher. At every counted place the loss is `hard_label_share` times the
    cross-entropy of the token that came, and for the rest the divergence from the teacher.
    """

    divergence: Literal["forward", "reverse", "jensen_shannon"] = Field(
        default="forward", description="from the teacher's distribution: KL(teacher || student) is forward"
    )
    teacher_share: float = Field(
        default=0.5, gt=0, lt=1, description="jensen_shannon: the teacher's part of the mixture"
    )
    distill_temperature: float = Field(
        default=1.0, gt=0, le=100, description="both sides' logits are divided by it"
    )
    hard_label_share: float = Field(
        default=0.2, ge=0, le=1, description="part of the loss that is the plain cross-entropy; 1: no teacher"
    )
    hidden_coef: float = Field(
        default=0.0, ge=0, description="weight of 1 - cosine of both sides' last hidden vectors"
    )
    on_policy_share: float = Field(
        default=0.0, ge=0, le=1, description="part of the rows that the student answers itself"
    )
    rollout_temperature: float = Field(
        default=1.0, ge=0, le=100, description="on policy: of the student's answers"
    )
    max_new_tokens: int = Field(default=64, ge=1, description="on policy: longest answer of the student")
    cache_top_k: int | None = Field(
        default=None,
        ge=1,
        description="keep the teacher's likeliest tokens of each place on disk, so many; None: ask it each step",
    )
    noise_rate: float | None = Field(
        default=None, gt=0, lt=1, description="encoders: share of a text that is masked; None: 0.3"
    )
    whole_word: bool = Field(default=False, description="encoders: mask all pieces of a word together")


def unread_distilling(config: DistillConfig, learned: Lesson) -> dict[str, str]:
    """The settings that were made and that nothing reads, each with the reason."""
    no_teacher = "hard_label_share: 1 leaves the teacher out"
    reasons = {
        "teacher_share": None if config.divergence == "jensen_shannon" else "it belongs to jensen_shannon",
        "rollout_temperature": None if config.on_policy_share else "on_policy_share is 0",
        "max_new_tokens": None if config.on_policy_share else "on_policy_share is 0",
        "noise_rate": None if learned == "masked" else "it belongs to encoders",
        "whole_word": None if learned == "masked" else "it belongs to encoders",
    }
    if config.hard_label_share == 1:
        kept = "hidden_coef", "noise_rate", "whole_word"
        of_the_teacher = set(DistillConfig.model_fields) - set(TrainingConfig.model_fields) - set(kept)
        reasons |= dict.fromkeys(of_the_teacher - {"hard_label_share"}, no_teacher)
    fields = DistillConfig.model_fields
    return {
        key: reason
        for key, reason in reasons.items()
        if reason and key in config.model_fields_set and getattr(config, key) != fields[key].default
    }
