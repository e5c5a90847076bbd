"""The sections of a recipe and what follows from them; `config.py` checks them. Imports no torch."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, SerializeAsAny, Tag

from parakit.alignment.config import AlignConfig
from parakit.common.settings import Config, Family
from parakit.compression.config import DistillConfig
from parakit.compression.quantization.config import QuantizeConfig
from parakit.model.model_choices import ModelChoices
from parakit.recipe.start_config import ReplayTextConfig, Start
from parakit.stages.config import FinetuneConfig, PretrainConfig
from parakit.stages.data_config import (
    ConversationsConfig,
    CorpusConfig,
    EvaluateConfig,
    ExamplesConfig,
    PreferencesConfig,
)
from parakit.stages.documents.config import AssistantIndexConfig
from parakit.tokens.config import TokenizerConfig
from parakit.training.task_names import ObjectiveName, TaskName

# A mapping of settings, or 'none'. The tag, which pydantic puts into an error's path, is empty.
Pretraining = Annotated[
    Annotated[SerializeAsAny[PretrainConfig], Tag("")] | Annotated[Literal["none"], Tag("none")],
    Discriminator(lambda value: "none" if isinstance(value, str) else ""),
]


class RecipeSections(Config):
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
    model: ModelChoices | None = Field(
        default=None,
        description="Choices of the blocks of a new model: positions, norms, activation, attention, heads, experts and more."
        " Default: the architecture's own. The size stays.",
    )
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
    index: AssistantIndexConfig | None = Field(
        default=None,
        description="Documents that the finished model answers from: an index, with a threshold below which it refuses.",
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
    quantize: SerializeAsAny[QuantizeConfig] | None = Field(
        default=None, description="Settings of quantization: the last model with int8 or int4 weights."
    )
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    scaling_law: str | None = Field(
        default=None,
        description="Folder that `parakit scale` wrote: report and card show the loss that its law predicts next to the one"
        " of the pre-trained model.",
    )
    prompts: tuple[str, ...] = Field(
        default=(), description="Prompts for samples of the base model in the report."
    )
    questions: tuple[str, ...] = Field(
        default=(), description="Questions to the fine-tuned model in the report."
    )

    @property
    def task(self) -> TaskName | None:
        """What the model is fine-tuned for; None for a model that is only pre-trained."""
        return self.finetune.task if self.finetune else None

    @property
    def reads_text(self) -> bool:
        """Whether there is a corpus. Without pre-training a tokenizer can be made from the examples alone."""
        return self.pretrain != "none" or bool(self.text.paths or self.text.primer)

    @property
    def uses_documents(self) -> bool:
        """Whether the conversations are made from the documents."""
        return bool(self.conversations and self.conversations.from_documents)

    @property
    def merges(self) -> bool:
        """Whether stages after fine-tuning begin with its model, so that an adapter has to be merged."""
        return bool(self.align or self.distill or self.quantize)

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
