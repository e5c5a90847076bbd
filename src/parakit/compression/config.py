"""Settings of distillation. Imports no torch."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from parakit.common.choices import GIVEN
from parakit.common.errors import UserError
from parakit.common.settings import Choices, Config
from parakit.training.config import Masking, TextBatches, TrainingConfig

# Not read where hard_label_share is 1.
OF_THE_TEACHER = {
    "divergence",
    "teacher_share",
    "distill_temperature",
    "on_policy_share",
    "rollout_temperature",
    "max_new_tokens",
    "cache_top_k",
}
DistillObjective = Literal["next_token", "chat", "masked"]


class Mixture(Config):
    """Of the Jensen-Shannon divergence."""

    teacher_share: float = Field(default=0.5, gt=0, lt=1, description="the teacher's part of the mixture")


class OnPolicy(Config):
    """Of completions that the student samples."""

    rollout_temperature: float = Field(default=1.0, ge=0, le=100, description="of the student's completions")
    max_new_tokens: int = Field(default=64, ge=1, description="longest completion of the student")


class DistillConfig(TrainingConfig, TextBatches):
    """How a student learns from its teacher. At every counted place the loss is `hard_label_share` times the
    cross-entropy of the next token, and for the rest the divergence from the teacher.
    """

    choices: ClassVar[Choices] = {
        "objective": {"masked": Masking},
        "divergence": {"jensen_shannon": Mixture},
        "on_policy_share": {GIVEN: OnPolicy},
    }

    objective: DistillObjective | None = Field(
        default=None, description="next_token, chat, masked (encoders); None: what the data are for"
    )
    divergence: Literal["forward", "reverse", "jensen_shannon"] = Field(
        default="forward", description="from the teacher's distribution: KL(teacher || student) is forward"
    )
    distill_temperature: float = Field(
        default=1.0, gt=0, le=100, description="logits of teacher and student are divided by it"
    )
    hard_label_share: float = Field(
        default=0.2, ge=0, le=1, description="part of the loss that is the plain cross-entropy; 1: no teacher"
    )
    hidden_coef: float = Field(
        default=0.0, ge=0, description="weight of 1 - cosine of the last hidden vectors of both"
    )
    on_policy_share: float = Field(
        default=0.0, ge=0, le=1, description="part of the rows whose completion the student samples"
    )
    cache_top_k: int | None = Field(
        default=None,
        ge=1,
        description="store so many of the teacher's likeliest tokens of each place on disk; None: run it each step",
    )
    keep_layers: int | None = Field(
        default=None,
        ge=1,
        description="the student begins as so many of the teacher's layers; None: half of them",
    )
    size: str | None = Field(
        default=None, description="the student begins from scratch, with so many parameters, for example 700k"
    )
    student: str | None = Field(
        default=None, description="the student begins as this model folder, with the teacher's tokenizer"
    )
    may_be_larger: bool = Field(default=False, description="allow a student larger than its teacher")

    @model_validator(mode="after")
    def _one_student(self) -> Self:
        given = [name for name in ("keep_layers", "size", "student") if getattr(self, name) is not None]
        if len(given) > 1:
            named = " and ".join(f"`{name}`" for name in given)
            raise UserError(f"{named} both set what the student is", "keep one of them")
        return self

    @model_validator(mode="after")
    def _teacher_counts(self) -> Self:
        for name in sorted(self.model_fields_set & OF_THE_TEACHER) if self.hard_label_share == 1 else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise UserError(
                    f"`{name}` is set, and `hard_label_share` = 1 leaves the teacher out",
                    "take it out, or lower `hard_label_share`",
                )
        return self

    @model_validator(mode="after")
    def _teacher_is_run(self) -> Self:
        """A cache holds the teacher's distributions for the rows of the data, and nothing else of it."""
        for name in ("on_policy_share", "hidden_coef"):
            if self.cache_top_k is not None and getattr(self, name):
                raise UserError(
                    f"`{name}` = {getattr(self, name)} runs the teacher at every step, and `cache_top_k` stores its"
                    " probabilities of the data's rows",
                    f"leave out `cache_top_k` or `{name}`",
                )
        return self
