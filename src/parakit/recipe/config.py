"""The recipe's settings: all stages of one build, as one YAML file. Imports no torch.

Every section is the settings group of the stage that reads it, so a word means the same here, on the command line and
in code. Paths are relative to where the command runs. What is left out is chosen: from the text, the time, the size.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, SerializeAsAny, Tag, field_validator, model_validator

from parakit.alignment.config import AlignConfig, RewardConfig, RolloutConfig
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.settings import Config, Family
from parakit.compression.config import DistillConfig
from parakit.stages.config import FinetuneConfig, PretrainConfig
from parakit.stages.data_config import (
    ConversationsConfig,
    CorpusConfig,
    EvaluateConfig,
    ExamplesConfig,
    PreferencesConfig,
)
from parakit.tokens.config import TokenizerConfig
from parakit.training.config import TrainingConfig, lengths_given
from parakit.training.task_names import (
    OBJECTIVES,
    ObjectiveName,
    TaskName,
    check_objective,
    check_task,
    tasks_for,
)

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
        description="Settings of pre-training; 'none': train on the task's examples from scratch.",
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
        _set_default(values, "pretrain", "objective", OBJECTIVES[family][0])
        if values.get("conversations") is not None and values.get("finetune") is None:
            values["finetune"] = {}
        if family == "encoder" and values.get("distill") is not None:
            _set_default(values, "distill", "objective", "masked")
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_task_data(self)
        check_post_training(self)
        check_unused(self)
        return self

    @property
    def task(self) -> TaskName | None:
        """What the model is fine-tuned for; None for a model that is only pre-trained."""
        return self.finetune.task if self.finetune else None

    @property
    def objective(self) -> ObjectiveName | None:
        """What pre-training learns; None without pre-training."""
        return self.pretrain.objective if isinstance(self.pretrain, PretrainConfig) else None

    @property
    def base_model(self) -> str | None:
        """The trained model that pre-training continues from."""
        return self.pretrain.model if isinstance(self.pretrain, PretrainConfig) else None


def check_task_data(recipe: RecipeConfig) -> None:
    """A task and the data that it learns from come together, and fit the family."""
    task, finetune = recipe.task, recipe.finetune
    if recipe.objective:
        check_objective(recipe.objective, recipe.family)
    if finetune and not (recipe.conversations or recipe.examples):
        if "task" in finetune.model_fields_set:
            data = "conversations" if task == "chat" else "examples"
            raise UserError(f"task {task!r} learns from `{data}`, but there is no such section", "add it")
        raise UserError(
            "`finetune` is set but has no effect without conversations or examples",
            "add one of these sections, or remove this one",
        )
    if recipe.conversations and (recipe.examples or task != "chat"):
        raise UserError(
            "`conversations` are for the task 'chat', but another task is set: a model is fine-tuned for one task",
            "remove the conversations or the other task",
        )
    if recipe.examples and task in (None, "chat"):
        raise UserError(
            "`examples` are given, but no task",
            f"add for example `finetune: {{task: {tasks_for(recipe.family)[-1]}}}`",
        )
    if recipe.pretrain == "none" and not recipe.examples:
        raise UserError(
            "pretrain 'none' trains from scratch on `examples`, but there is no such section", "add it"
        )
    if task:
        check_task(task, recipe.family)


def check_post_training(recipe: RecipeConfig) -> None:
    """Alignment and distillation have the model and the data that they need."""
    methods = [step.method for step in recipe.align]
    if recipe.align and recipe.task != "chat":
        raise UserError(
            "`align` needs a chat-tuned model", "give `conversations` to fine-tune on, or remove it"
        )
    if twice := next((name for name in methods if methods.count(name) > 1), None):
        raise UserError(
            f"`align` has the method {twice!r} twice: a stage is named after its method", "keep one of them"
        )
    learns = [name for name in methods if name in ("reward", "dpo")]
    if learns and recipe.preferences is None:
        raise UserError(
            f"method {learns[0]!r} learns from `preferences`, but there is no such section", "add it"
        )
    if recipe.preferences is not None and not learns:
        raise UserError(
            "`preferences` are given, but nothing in `align` learns from them",
            "add a step with the method reward or dpo, or remove them",
        )
    for number, step in enumerate(recipe.align):
        rewarded = any(isinstance(other, RewardConfig) for other in recipe.align[:number])
        if isinstance(step, RolloutConfig) and step.reward is None and not rewarded:
            raise UserError(
                f"method {step.method!r} has no reward", "name one, or put a step `method: reward` before it"
            )
    if recipe.distill is not None and recipe.task not in (None, "chat"):
        raise UserError(
            f"`distill` learns the probabilities of tokens, and this model is fine-tuned for {recipe.task!r}",
            "distill the base model and fine-tune the student",
        )
    if recipe.distill is not None and recipe.family == "encoder-decoder":
        raise UserError("`distill` is for decoders and encoders", "remove it")


def check_unused(recipe: RecipeConfig) -> None:
    """`UserError` for a setting that nothing reads because of what another section says."""
    for key, reason in (*_unused_of_task(recipe), *_unused_of_model(recipe)):
        raise UserError(
            f"`{key}` is set but has no effect: {reason}", "remove it, or change what should read it"
        )


def _unused_of_task(recipe: RecipeConfig) -> Iterator[tuple[str, str]]:
    """What the task, or its data, does not read."""
    evaluate, examples, task = recipe.evaluate, recipe.examples, recipe.task
    if examples and examples.labels is not None and task not in ("classify", "multi_label", "tag"):
        yield "examples.labels", f"the task {task} has none"
    if examples and examples.reverse and task != "translate":
        yield "examples.reverse", f"the task {task} has no source and target to swap"
    if recipe.questions and recipe.conversations is None:
        yield "questions", "without conversations no model is fine-tuned for chat"
    defaults = type(evaluate)()  # a recipe that a build wrote has every default filled in
    translates = task == "translate"
    if evaluate.max_new_tokens != defaults.max_new_tokens and not (evaluate.suites or translates):
        yield "evaluate.max_new_tokens", "there are no suites, and nothing is translated"
    if evaluate.n_beams != defaults.n_beams and not translates:
        yield "evaluate.n_beams", "nothing is translated"


def _unused_of_model(recipe: RecipeConfig) -> Iterator[tuple[str, str]]:
    """What the family, or a model that pre-training continues from, does not read."""
    if recipe.tokenizer.n_sentinels and recipe.objective != "span_corruption":
        yield "tokenizer.n_sentinels", f"the objective {recipe.objective} has no spans"
    for key in ("suites", "texts"):
        if getattr(recipe.evaluate, key) and recipe.family != "decoder":
            yield f"evaluate.{key}", f"it needs a decoder, and the family is {recipe.family}"
    if recipe.prompts and recipe.pretrain == "none":
        yield "prompts", "without pre-training there is no base model to sample from"
    if recipe.prompts and recipe.family == "encoder-decoder":
        yield "prompts", "an encoder-decoder is sampled on its task's examples"
    for key in ("size", "architecture", "max_seq_len", "tokenizer"):
        if recipe.base_model and key in recipe.model_fields_set and getattr(recipe, key) is not None:
            yield key, "the model that `pretrain.model` names has its own"
    trained = recipe.finetune if recipe.pretrain == "none" else recipe.pretrain
    sized = recipe.size or recipe.base_model
    if recipe.time and sized and isinstance(trained, TrainingConfig) and lengths_given(trained):
        yield "time", "the size and the length of training are both given"


def parse_time(time: str) -> float:
    """`"30min"`, `"90s"`, `"1.5h"` -> seconds."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|sec|m|min|h|d)\s*", time.lower())
    if not match or float(match[1]) <= 0:
        raise UserError(f"time {time!r} is not a length of time", "write for example 90s, 30min or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2][0]]


def reads_text(recipe: RecipeConfig) -> bool:
    """Whether there is a corpus. Without pre-training a tokenizer can be made from the examples alone."""
    return recipe.pretrain != "none" or bool(recipe.text.paths or recipe.text.primer)


def _set_default(values: JsonObject, section: str, key: str, value: Any) -> None:
    group = values.get(section, {})
    if isinstance(group, Mapping):
        values[section] = {**group, key: group.get(key) or value}
