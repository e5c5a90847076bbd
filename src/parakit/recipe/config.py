"""The recipe: a model's whole life as one YAML file. Imports no torch.

Every section is the settings group of the room that reads it, so a word means the same here, on the command
line and in code. Paths are relative to where the command runs. What is left out is chosen: from the text,
from the time that was given, from the size.
"""

import re
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from parakit.common.errors import UserError
from parakit.common.settings import Config
from parakit.model.config import Family
from parakit.stages.config import FinetuneConfig, PretrainConfig
from parakit.stages.data_config import ConversationsConfig, CorpusConfig, EvaluateConfig, ExamplesConfig
from parakit.stages.post_training_config import (
    REWARDED,
    AlignStageConfig,
    DistillStageConfig,
    PreferencesConfig,
)
from parakit.tokens.config import TokenizerConfig
from parakit.training.task_names import (
    OBJECTIVES,
    ObjectiveName,
    TaskName,
    check_objective,
    check_task,
    tasks_for,
)


class RecipeConfig(Config):
    """One model's life, from text to report."""

    name: str = Field(default="my-model", description="The build goes to builds/NAME.")
    seed: int = Field(default=0, ge=0, description="Decides every draw: order, initial weights, samples.")
    family: Family = Field(
        default="decoder",
        description="decoder goes on with a text, encoder reads one, encoder-decoder turns one into another.",
    )
    architecture: str | None = Field(
        default=None,
        description="A published shape of that family, for example bert; none: the family's own.",
    )
    size: str | None = Field(
        default=None, description="Parameters, for example 5m; none: from the time and the text."
    )
    time: str | None = Field(default=None, description="Time for the whole build, for example 30min or 2h.")
    max_seq_len: int = Field(default=256, ge=8, description="The context window, in tokens.")
    objective: ObjectiveName | None = Field(
        default=None,
        description="Of pre-training; none of them (null): the family's own; 'none': no pre-training.",
    )
    task: TaskName | None = Field(
        default=None, description="What the model is tuned for; left out: chat where there are conversations."
    )
    text: CorpusConfig = Field(default_factory=CorpusConfig)
    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig)
    pretrain: PretrainConfig = Field(default_factory=PretrainConfig)
    conversations: ConversationsConfig | None = None
    examples: ExamplesConfig | None = Field(
        default=None, description="Examples of the task; chat has conversations."
    )
    finetune: FinetuneConfig | None = Field(
        default=None, description="Settings of tuning; needs conversations or examples."
    )
    preferences: PreferencesConfig | None = Field(
        default=None, description="Which answers are better; `align` learns from it."
    )
    align: tuple[AlignStageConfig, ...] = Field(
        default=(), description="Steps of alignment, one after the other, each method at most once."
    )
    distill: DistillStageConfig | None = Field(
        default=None, description="A smaller model that learns from the last one."
    )
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    prompts: tuple[str, ...] = Field(
        default=(), description="Prompts to sample from the base model for the report."
    )
    questions: tuple[str, ...] = Field(
        default=(), description="Questions to ask the tuned model for the report."
    )

    @field_validator("size", mode="before")
    @classmethod
    def _size_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
            raise ValueError("a name is letters, digits, '.', '_' and '-' only: it becomes a folder")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.finetune is not None and self.tuned_for is None:
            raise ValueError(
                "`finetune` is set, and nothing reads it without conversations or examples: add one of these"
                " sections or drop this one"
            )
        try:
            if self.tuned_for:
                check_task(self.tuned_for, self.family)
            if self.objective:
                check_objective(self.objective, self.family)
        except UserError as error:
            raise ValueError(f"{error.message}; {error.hint}") from None
        self._check_task_data()
        self._check_later()
        return self

    def _check_later(self) -> None:
        """Alignment and distillation have what they stand on."""
        methods = [step.method for step in self.align]
        if self.align and self.tuned_for != "chat":
            raise ValueError("`align` needs a model that answers: give `conversations` to tune it on")
        if twice := next((name for name in methods if methods.count(name) > 1), None):
            raise ValueError(f"`align` has the method {twice!r} twice: a stage is named after its method")
        learns = [name for name in methods if name in ("reward", "dpo")]
        if learns and self.preferences is None:
            raise ValueError(f"method {learns[0]!r} learns from `preferences`, and there is no such section")
        if self.preferences is not None and not learns:
            raise ValueError(
                "`preferences` are given, and nothing in `align` learns from them: add reward or dpo"
            )
        for number, step in enumerate(self.align):
            if step.method in REWARDED and step.reward is None and "reward" not in methods[:number]:
                raise ValueError(
                    f"method {step.method!r} has no reward: name one, or put `method: reward` before it"
                )
        if self.distill is not None and self.tuned_for not in (None, "chat"):
            raise ValueError(
                f"`distill` learns how likely tokens are, and this model is tuned for {self.tuned_for!r}:"
                " distill the base model and tune the student"
            )
        if self.distill is not None and self.family == "encoder-decoder":
            raise ValueError("`distill` is for decoders and encoders")

    def _check_task_data(self) -> None:
        """A task and what it learns from come together."""
        if self.conversations and (self.examples or self.task not in (None, "chat")):
            raise ValueError(
                "`conversations` are for the task 'chat', and another is asked for: a model is tuned for one task"
            )
        if self.task == "chat" and not self.conversations:
            raise ValueError("task 'chat' learns from `conversations`, and there is no such section")
        if self.examples and self.task in (None, "chat"):
            raise ValueError(
                f"`examples` are given, and no task: add for example `task: {tasks_for(self.family)[-1]}`"
            )
        if self.task not in (None, "chat") and not self.examples:
            raise ValueError(f"task {self.task!r} learns from `examples`, and there is no such section")
        if self.objective == "none" and not self.examples:
            raise ValueError(
                "objective 'none' trains from scratch on `examples`, and there is no such section"
            )

    @property
    def tuned_for(self) -> TaskName | None:
        """The task; None for a model that is only pre-trained."""
        return self.task or ("chat" if self.conversations else None)

    @property
    def pretrained_on(self) -> ObjectiveName:
        """What pre-training learns: as asked for, or the family's own."""
        return self.objective or OBJECTIVES[self.family][0]


def parse_time(time: str) -> float:
    """`"30min"`, `"90s"`, `"1.5h"` -> seconds."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|sec|m|min|h|d)\s*", time.lower())
    if not match or float(match[1]) <= 0:
        raise UserError(f"time {time!r} is not a length of time", "write for example 90s, 30min or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2][0]]


def reads_text(recipe: RecipeConfig) -> bool:
    """Whether there is a corpus. Without pre-training a tokenizer can be made from the examples alone."""
    return recipe.pretrained_on != "none" or bool(recipe.text.paths or recipe.text.primer)
