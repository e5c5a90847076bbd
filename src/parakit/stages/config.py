"""Settings of pre-training and fine-tuning, one class for each method and each objective. Imports no torch.

The class follows from `objective`, and from `method` and `task` (see `common/choices.py`).
"""

from typing import Any, ClassVar, Literal

from pydantic import Field

from parakit.common.choices import ABSENT, GIVEN, chosen_class, part_of
from parakit.common.settings import Choices, Config
from parakit.model.adapters.config import LoraConfig, LoraInit
from parakit.model.config import Pooling
from parakit.model.quantized.scheme import Bits, GroupSize, QuantScheme
from parakit.tokens.config import LongRowSettings
from parakit.training.config import (
    BeforeAfter,
    ExampleBatches,
    Masking,
    TextBatches,
    TextTrainingConfig,
    TrainingConfig,
)
from parakit.training.plan import OptimizerName
from parakit.training.task_names import SPAN_RATE, ObjectiveName, TaskName

FinetuneMethod = Literal["full", "lora", "prompt", "prefix", "layers", "quantization_aware"]


class ReplayShare(Config):
    """How much is replayed."""

    replay_share: float = Field(
        default=0.25,
        ge=0,
        lt=1,
        description="Fraction of the rows that come from the replayed data; 0: measure the loss on it only.",
    )


class Replay(Config):
    """Of a run that continues from a trained model: the data that it was trained on before."""

    choices: ClassVar[Choices] = {"replay": {GIVEN: ReplayShare}}

    replay: str | None = Field(
        default=None,
        description="Folder of token shards of earlier data: its rows are mixed in, "
        "and the loss on its held-out split is measured before and after.",
    )


class EmbeddingInit(Config):
    """Of a model that is trained from scratch."""

    embedding_init: Literal["random", "wide", "cooccurrence"] = Field(
        default="random",
        description="Initial token embeddings: random; random and as large as those of a trained model, for text in which"
        " words that occur alike have to be copied; or from the counts of which tokens occur together.",
    )


class Continued(Replay, BeforeAfter):
    """Of a run that continues from a trained model, on rows that can be mixed with earlier ones."""


class MixedRows(Config):
    """An objective whose rows can be mixed with those of earlier data."""

    choices: ClassVar[Choices] = {"model": {GIVEN: Continued, ABSENT: EmbeddingInit}}


class MaskedRows(MixedRows, Masking):
    """The objective `masked`."""


class SpanCorruption(Config):
    """Span corruption (Raffel et al. 2020)."""

    choices: ClassVar[Choices] = {"model": {GIVEN: BeforeAfter, ABSENT: EmbeddingInit}}

    noise_rate: float = Field(
        default=SPAN_RATE, gt=0, lt=1, description="Fraction of a text's tokens in corrupted spans."
    )
    mean_span: float = Field(default=3.0, ge=1, description="Mean length of a corrupted span in tokens.")


class PretrainConfig(TrainingConfig, TextBatches):
    """How to pre-train on text."""

    choices: ClassVar[Choices] = {
        "objective": {
            "next_token": MixedRows,
            "prefix": MixedRows,
            "masked": MaskedRows,
            "span_corruption": SpanCorruption,
        }
    }

    objective: ObjectiveName = Field(
        default="next_token",
        description="Training objective; each family has its own default and supports some of them.",
    )
    model: str | None = Field(
        default=None, description="Model folder to continue from. Default: a new model of the given size."
    )
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="Dropout in every block. Default: the architecture's own."
    )


class ChatTask(TextBatches, Replay, LongRowSettings):
    """chat: rows are conversations, packed; the loss counts the assistant's turns."""


class Pooled(ExampleBatches):
    """classify, multi_label, regress: one vector of a text."""

    pooling: Pooling | None = Field(
        default=None,
        description="How token vectors become one vector. Default: "
        "what the architecture prescribes, else the mean.",
    )


class EmbedTask(Pooled):
    """embed: contrastive."""

    temperature: float = Field(
        default=0.05, gt=0, description="Cosine similarities are divided by it before the softmax."
    )


class TranslateTask(ExampleBatches):
    """translate."""

    label_smoothing: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Fraction of each target's probability that is spread over the vocabulary.",
    )
    source_language: str | None = Field(
        default=None,
        description="Language of the sources, for a multilingual model (fra_Latn, fr_XX, fr). Default: the tokenizer's.",
    )
    target_language: str | None = Field(
        default=None,
        description="Language of the targets, for a multilingual model, which then translates into it. Default: that of"
        " its folder.",
    )


class FinetuneConfig(TrainingConfig, BeforeAfter):
    """How to fine-tune for a task: the base of all methods, and the method `full`, which trains all weights."""

    method: FinetuneMethod = Field(
        default="full",
        description="What is trained: all weights (full), low-rank adapters (lora), vectors before the "
        "text (prompt), keys and values before the text (prefix), some blocks (layers), or all weights rounded to few bits"
        " in every step (quantization_aware).",
    )
    task: TaskName = Field(default="chat", description="Task that the model is tuned for.")
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="Dropout in every block. Default: the model's own."
    )


class AdapterFinetuneConfig(FinetuneConfig):
    """A method that writes an adapter next to its base. AdamW suits two factors whose product matters better than Muon,
    which is for single matrices (docs/log.md).
    """

    optimizer: OptimizerName = "adamw"


class LoraFinetuneConfig(AdapterFinetuneConfig):
    """Low-rank adaptation (Hu et al. 2022)."""

    method: Literal["lora"] = "lora"
    rank: int = Field(default=8, ge=1, description="Rank of the adapters' matrices.")
    alpha: float = Field(default=16.0, gt=0, description="The update is scaled by alpha / rank.")
    lora_dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout on the adapters' inputs.")
    lora_targets: tuple[str, ...] = Field(
        default=(),
        description="Names of the linear layers with adapters. Default: every matrix of the blocks.",
    )
    rank_stabilized: bool = Field(
        default=False, description="Scale the update by alpha / sqrt(rank) (rsLoRA)."
    )
    dora: bool = Field(default=False, description="Also train the norm of each row of the weights (DoRA).")
    train_turn_tokens: bool | None = Field(
        default=None,
        description="Also train the embeddings of the tokens that mark "
        "turns. Default: if the base is not chat-tuned.",
    )
    train_norms: bool | None = Field(
        default=None,
        description="Also train the weights of the norms. Default: if the base is not chat-tuned.",
    )
    merge: bool | None = Field(
        default=None,
        description="Merge the trained adapter into the weights and write a model. Default: only in a recipe where "
        "alignment or distillation follow.",
    )
    lora_init: LoraInit = Field(
        default="kaiming",
        description="Initialization of the adapters; pissa and olora: from a factorization of the weights.",
    )

    def adapter(self, fully_trained: tuple[str, ...], token_ids: tuple[int, ...]) -> LoraConfig:
        """The adapter's settings; `fully_trained`: modules that train in full; `token_ids`: tokens whose rows do."""
        values = {
            "rank": self.rank,
            "alpha": self.alpha,
            "dropout": self.lora_dropout,
            "targets": self.lora_targets or None,
            "rank_stabilized": self.rank_stabilized,
            "dora": self.dora,
            "init": self.lora_init,
            "fully_trained": fully_trained,
            "token_ids": token_ids,
        }
        return LoraConfig.parse(values, "finetune")


class VirtualTokensConfig(AdapterFinetuneConfig):
    """Trained places before the text."""

    n_prompt_tokens: int = Field(default=20, ge=1, description="Virtual tokens before the text.")
    prompt_text: str | None = Field(
        default=None, description="Text that initializes the virtual tokens. Default: random tokens."
    )


class PromptFinetuneConfig(VirtualTokensConfig):
    """Prompt tuning (Lester et al. 2021)."""

    method: Literal["prompt"] = "prompt"


class PrefixFinetuneConfig(VirtualTokensConfig):
    """Prefix tuning (Li and Liang 2021)."""

    method: Literal["prefix"] = "prefix"


class LayersFinetuneConfig(FinetuneConfig):
    """Some of the blocks train, the rest is frozen."""

    method: Literal["layers"] = "layers"
    trained_layers: tuple[int, ...] = Field(
        default=(), description="Indices of the blocks to train; negative ones count from the end."
    )


class QuantizationAwareConfig(FinetuneConfig):
    """All weights train, and every step computes with rounded ones; the quantized model is written (Bengio et al. 2013)."""

    method: Literal["quantization_aware"] = "quantization_aware"
    bits: Bits = Field(default=4, description="Bits of a weight.")
    quant_group_size: GroupSize | None = Field(
        default=None,
        description="Weights of a row that share a scale. Default: with 4 bits 32, with 8 bits all of a row. A layer whose"
        " width is no multiple of it has 8 bits.",
    )
    symmetric: bool = Field(
        default=True, description="Values around zero; otherwise each group has a zero point (4 bits only)."
    )
    quantize_embeddings: bool = Field(
        default=True, description="Round the token embedding and the output matrix too."
    )

    def scheme(self) -> QuantScheme:
        """The scheme of the layers."""
        group = 32 if self.quant_group_size is None and self.bits == 4 else self.quant_group_size
        settings = {"bits": self.bits, "quant_group_size": group, "symmetric": self.symmetric}
        return QuantScheme.parse(settings, "finetune")


FinetuneConfig.choices = {
    "method": {
        "quantization_aware": QuantizationAwareConfig,
        "lora": LoraFinetuneConfig,
        "prompt": PromptFinetuneConfig,
        "prefix": PrefixFinetuneConfig,
        "layers": LayersFinetuneConfig,
    },
    "task": {
        "chat": ChatTask,
        "classify": Pooled,
        "multi_label": Pooled,
        "tag": ExampleBatches,
        "regress": Pooled,
        "answer": ExampleBatches,
        "translate": TranslateTask,
        "embed": EmbedTask,
    },
}


def chat_finetune_config(config: TrainingConfig, **changes: Any) -> FinetuneConfig:
    """How to fine-tune for chat as a part of another method: the training settings of `config`, with `changes`."""
    given = {name: getattr(config, name) for name in config.model_fields_set}
    known = {*chosen_class(TextTrainingConfig, given).model_fields}
    if isinstance(config, LongRowSettings):
        known |= {*LongRowSettings.model_fields}
    return FinetuneConfig.parse({name: value for name, value in given.items() if name in known} | changes)


def replay_of(training: TrainingConfig) -> str | None:
    """The folder of earlier data that a run replays, if any."""
    replay = part_of(training, Replay)
    return replay.replay if replay else None
