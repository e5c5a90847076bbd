"""Settings of the stages behind tuning: what is preferred, how the model is aligned, its student. Imports no torch."""

from typing import Self

from pydantic import Field, model_validator

from parakit.alignment.config import AlignConfig, Method
from parakit.common.settings import Config
from parakit.compression.config import DistillConfig
from parakit.primer.config import PrimerConfig

ASKING: tuple[Method, ...] = ("ppo", "grpo", "best_of_n", "constitution")  # learn from their own answers
REWARDED: tuple[Method, ...] = ("ppo", "grpo", "best_of_n")


class PreferencesConfig(Config):
    """Which of several answers people find better: files, or the primer's."""

    paths: tuple[str, ...] = Field(
        default=(), description="JSON-lines or Parquet files of pairs or rankings; see docs/preferences.md."
    )
    primer: PrimerConfig | None = Field(default=None, description="Generate the primer's preferences.")
    validation_fraction: float = Field(default=0.05, ge=0, lt=1)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.paths) == bool(self.primer):
            raise ValueError("give either paths or a primer")
        return self


class AlignStageConfig(AlignConfig):
    """One stage of alignment. It begins with the model that the stage before made."""

    method: Method = Field(
        description="reward and dpo learn from `preferences`; ppo, grpo and best_of_n from a reward for the model's"
        " own answers; constitution from principles."
    )
    prompts: tuple[str, ...] = Field(
        default=(),
        description="ppo, grpo, best_of_n, constitution: files of conversations whose last question is asked;"
        " none: the recipe's conversations.",
    )
    reward: str | None = Field(
        default=None,
        description="ppo, grpo, best_of_n: a built-in reward, for example final_answer, or a reward model's folder;"
        " none: the reward model that a stage before made.",
    )
    monitor_rewards: tuple[str, ...] = Field(
        default=(),
        description="ppo, grpo, best_of_n: other rewards, that are measured on held-out prompts and never followed.",
    )

    def settings(self) -> AlignConfig:
        """The settings of the method itself."""
        own = {name: getattr(self, name) for name in self.model_fields_set & AlignConfig.model_fields.keys()}
        return AlignConfig(**own)


class DistillStageConfig(DistillConfig):
    """The student of the last model: a part of its layers, or a fresh model of a size."""

    keep_layers: int | None = Field(
        default=None, ge=1, description="So many of the teacher's layers; none: half of them."
    )
    size: str | None = Field(
        default=None, description="A fresh model of so many parameters, for example 700k."
    )

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        if self.keep_layers is not None and self.size is not None:
            raise ValueError("keep_layers and size both say how large the student is: keep one of them")
        return self

    def settings(self) -> DistillConfig:
        """The settings of distillation itself."""
        own = {
            name: getattr(self, name) for name in self.model_fields_set & DistillConfig.model_fields.keys()
        }
        return DistillConfig(**own)
