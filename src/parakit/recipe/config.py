"""The recipe's settings: all stages of one build, as one YAML file. Imports no torch.

Every section is the settings group of the stage that reads it, so a word means the same here, on the command line and
in code. Paths are relative to where the command runs. What is left out is chosen: from the text, the time, the size.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from parakit.alignment.config import AlignConfig
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.settings import Config, Family
from parakit.compression.config import DistillConfig
from parakit.recipe.rules import OF_NEW_MODEL, check_post_training, check_start, check_task_data, check_unused
from parakit.recipe.start_config import ReplayTextConfig, Start, start_model
from parakit.stages.config import FinetuneConfig, PretrainConfig
from parakit.stages.data_config import (
    ConversationsConfig,
    CorpusConfig,
    EvaluateConfig,
    ExamplesConfig,
    PreferencesConfig,
)
from parakit.tokens.config import TokenizerConfig
from parakit.training.task_names import OBJECTIVES, ObjectiveName, TaskName

# A mapping of settings, or 'none'. The tag, which pydantic puts into an error's path, is empty.
Pretraining = Annotated[
    Annotated[SerializeAsAny[PretrainConfig], Tag("")] | Annotated[Literal["none"], Tag("none")],
    Discriminator(lambda value: "none" if isinstance(value, str) else ""),
]


class RecipeConfig(Config):
    """One model, from text to report."""

    name: str = Field(default="my-model", description="Name of the build, which is written to builds/NAME.")
    seed: int = Field(
        default=0, ge=0, description="Seed of all random choices: data order, new weights, samples."
    )
    start: Start | None = Field(
        default=None, description="A trained model to begin with, instead of a new tokenizer and a new model."
    )
    family: Family = Field(
        default="decoder",
        description="decoder (GPT), encoder (BERT) or encoder-decoder (T5).",
    )
    architecture: str | None = Field(
        default=None,
        description="A published architecture of that family, for example bert. Default: Parakit's own.",
    )
    size: str | None = Field(
        default=None, description="Number of parameters, for example 5m. Default: from the time and the text."
    )
    time: str | None = Field(default=None, description="Time for the whole build, for example 30min or 2h.")
    max_seq_len: int = Field(default=256, ge=8, description="Context window in tokens.")
    text: CorpusConfig = Field(default_factory=CorpusConfig)
    tokenizer: SerializeAsAny[TokenizerConfig] = Field(default_factory=TokenizerConfig)
    pretrain: Pretraining = Field(
        default_factory=lambda: PretrainConfig(),
        description="Settings of pre-training; 'none': train on the task's examples from scratch, or with `start` on"
        " conversations or examples alone.",
    )
    replay: ReplayTextConfig | None = Field(
        default=None, description="With `start` and text: text of the kind that the model was trained on."
    )
    conversations: ConversationsConfig | None = None
    examples: ExamplesConfig | None = Field(
        default=None, description="Examples of the task; the task chat has conversations instead."
    )
    finetune: SerializeAsAny[FinetuneConfig] | None = Field(
        default=None, description="Settings of fine-tuning; needs conversations or examples."
    )
    preferences: PreferencesConfig | None = Field(
        default=None, description="Preferences between completions, for the methods reward and dpo."
    )
    align: tuple[SerializeAsAny[AlignConfig], ...] = Field(
        default=(), description="Steps of alignment, in order; each method at most once."
    )
    distill: SerializeAsAny[DistillConfig] | None = Field(
        default=None, description="Settings of distillation: the student of the last model."
    )
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    prompts: tuple[str, ...] = Field(
        default=(), description="Prompts for samples of the base model in the report."
    )
    questions: tuple[str, ...] = Field(
        default=(), description="Questions to the fine-tuned model in the report."
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

    @model_validator(mode="before")
    @classmethod
    def _family_defaults(cls, values: Any) -> Any:
        """The family's objective, and fine-tuning for chat where there are conversations."""
        if not isinstance(values, Mapping):
            return values
        values, family = dict(values), values.get("family", "decoder")
        if family not in OBJECTIVES:
            return values  # an error of its own
        start = start_model(values)
        if start and "pretrain" not in values and not _has_text(values):
            values["pretrain"] = "none"
        _set_default(values, "pretrain", "objective", OBJECTIVES[family][0])
        if start:
            _set_default(values, "pretrain", "model", start)
        if values.get("conversations") is not None and values.get("finetune") is None:
            values["finetune"] = {}
        if family == "encoder" and values.get("distill") is not None:
            _set_default(values, "distill", "objective", "masked")
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_start(self)
        check_task_data(self)
        check_post_training(self)
        check_unused(self)
        return self

    @model_serializer(mode="wrap")
    def _without_unread(self, handler: SerializerFunctionWrapHandler) -> JsonObject:
        """Settings of a new model are left out where a trained one has its own."""
        values: JsonObject = handler(self)
        return {name: value for name, value in values.items() if not (self.brought and name in OF_NEW_MODEL)}

    @property
    def task(self) -> TaskName | None:
        """What the model is fine-tuned for; None for a model that is only pre-trained."""
        return self.finetune.task if self.finetune else None

    @property
    def reads_text(self) -> bool:
        """Whether there is a corpus. Without pre-training a tokenizer can be made from the examples alone."""
        return self.pretrain != "none" or bool(self.text.paths or self.text.primer)

    @property
    def merges(self) -> bool:
        """Whether stages after fine-tuning begin with its model, so that an adapter has to be merged."""
        return bool(self.align or self.distill)

    @property
    def objective(self) -> ObjectiveName | None:
        """What pre-training learns; None without pre-training."""
        return self.pretrain.objective if isinstance(self.pretrain, PretrainConfig) else None

    @property
    def brought(self) -> str | None:
        """The key that names a trained model, which brings its own tokenizer and shape."""
        return "start" if self.start else "pretrain.model" if self.base_model else None

    @property
    def base_model(self) -> str | None:
        """The trained model that pre-training continues from."""
        return self.pretrain.model if isinstance(self.pretrain, PretrainConfig) else None


def parse_time(time: str) -> float:
    """`"30min"`, `"90s"`, `"1.5h"` -> seconds."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|sec|m|min|h|d)\s*", time.lower())
    if not match or float(match[1]) <= 0:
        raise UserError(f"time {time!r} is not a length of time", "write for example 90s, 30min or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2][0]]


def _has_text(values: Mapping[str, Any]) -> bool:
    text = values.get("text")
    if isinstance(text, Mapping):
        return bool(text.get("paths") or text.get("primer") is not None)
    return isinstance(text, CorpusConfig) and bool(text.paths or text.primer)


def _set_default(values: JsonObject, section: str, key: str, value: Any) -> None:
    group = values.get(section, {})
    if isinstance(group, Mapping):
        values[section] = {**group, key: group.get(key) or value}
