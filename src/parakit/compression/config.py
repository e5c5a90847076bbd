"""Settings of distillation. Imports no torch."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from parakit.common.choices import GIVEN
from parakit.common.errors import UserError
from parakit.common.settings import Choices, Config
from parakit.tokens.config import LongRowSettings
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


class JensenShannon(Config):
    """Of the Jensen-Shannon divergence."""

    teacher_share: float = Field(default=0.5, gt=0, lt=1, description="The teacher's weight in the mixture.")


class OnPolicy(Config):
    """Of completions that the student samples."""

    rollout_temperature: float = Field(
        default=1.0, ge=0, le=100, description="Sampling temperature of the student's completions."
    )
    max_new_tokens: int = Field(
        default=64, ge=1, description="Length limit of the student's completions in tokens."
    )


class DistillConfig(TrainingConfig, TextBatches, LongRowSettings):
    """How a student learns from its teacher. At every counted place the loss is `hard_label_share` times the
    cross-entropy of the next token, and for the rest the divergence from the teacher.
    """

    choices: ClassVar[Choices] = {
        "objective": {"masked": Masking},
        "divergence": {"jensen_shannon": JensenShannon},
        "on_policy_share": {GIVEN: OnPolicy},
    }

    objective: DistillObjective | None = Field(
        default=None,
        description="Training objective; masked is for encoders. Default: from the kind of the data.",
    )
    divergence: Literal["forward", "reverse", "jensen_shannon"] = Field(
        default="forward",
        description="Divergence between the token distributions: forward is KL(teacher || student).",
    )
    distill_temperature: float = Field(
        default=1.0, gt=0, le=100, description="Logits of teacher and student are divided by it."
    )
    hard_label_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Weight of the cross-entropy of the labels in the loss; 1: no teacher.",
    )
    hidden_coef: float = Field(
        default=0.0,
        ge=0,
        description="Weight of 1 - cosine similarity of the last hidden vectors of teacher and student.",
    )
    on_policy_share: float = Field(
        default=0.0, ge=0, le=1, description="Fraction of the rows whose completion the student samples."
    )
    cache_top_k: int | None = Field(
        default=None,
        ge=1,
        description="Store the teacher's k likeliest tokens of each position "
        "on disk. Default: run the teacher at each step.",
    )
    keep_layers: int | None = Field(
        default=None,
        ge=1,
        description="Initialize the student from this many of the teacher's layers. Default: half of them.",
    )
    size: str | None = Field(
        default=None,
        description="Start the student from scratch, with this many parameters, for example 700k.",
    )
    student: str | None = Field(
        default=None, description="Model folder to start the student from; it needs the teacher's tokenizer."
    )
    may_be_larger: bool = Field(default=False, description="Allow a student larger than its teacher.")

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
                    f"`{name}` is set, but `hard_label_share` = 1 does not use the teacher",
                    "remove it, or lower `hard_label_share`",
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
