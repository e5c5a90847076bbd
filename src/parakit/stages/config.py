"""Settings of the two training stages: those of any run, and what their objectives add. Imports no torch."""

from typing import Literal

from pydantic import Field

from parakit.model.adapters.config import LoraConfig, LoraInit, PrefixConfig, PromptConfig
from parakit.training.config import TrainingConfig
from parakit.training.task_names import ObjectiveName, TaskName

TuningMethod = Literal["full", "lora", "prompt", "prefix", "layers"]
ADAPTERS = ("lora", "prompt", "prefix")  # written as a folder of their own, beside the base
Pooling = Literal["mean", "cls", "last"]


class ReplayConfig(TrainingConfig):
    """A run that may begin with a trained model: what that model learned before, and is not to forget."""

    replay: str | None = Field(
        default=None,
        description="folder of token shards that the model learned from before: rows of them are mixed in, and its loss"
        " on their held-out part is measured before and after",
    )
    replay_share: float = Field(
        default=0.25, ge=0, lt=1, description="share of the rows that come from there; 0: only measure"
    )


class PretrainConfig(ReplayConfig):
    """How to pre-train. What is hidden from the model is told here, where its objective hides anything."""

    model: str | None = Field(
        default=None, description="a model folder to go on from; None: a fresh model of the size asked for"
    )
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="in every block; None: the shape's own"
    )
    noise_rate: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="share of a text that is hidden; None: 0.3 masked, 0.15 in spans",
    )
    whole_word: bool = Field(default=False, description="masked: hide all pieces of a word together")
    mean_span: float = Field(
        default=3.0, ge=1, description="span_corruption: tokens of a hidden span on average"
    )
    embedding_init: Literal["random", "cooccurrence"] = Field(
        default="random",
        description="what token vectors begin with: draws, or counts of which tokens stand near each other",
    )


class FinetuneConfig(ReplayConfig):
    """How to tune for a task: all weights, a part of them, or an adapter beside them."""

    method: TuningMethod = Field(
        default="full",
        description="what trains: all weights, low-rank adapters, vectors before the text, keys and values, some layers",
    )
    rank: int = Field(default=8, ge=1, description="lora: of the adapters' matrices")
    alpha: float = Field(default=16.0, gt=0, description="lora: what they add is scaled by alpha / rank")
    lora_dropout: float = Field(default=0.0, ge=0, lt=1, description="lora: on what enters the adapters")
    lora_targets: tuple[str, ...] = Field(
        default=(), description="lora: names of layers; none: every matrix of the blocks"
    )
    rank_stabilized: bool = Field(default=False, description="lora: scale by alpha / sqrt(rank)")
    dora: bool = Field(default=False, description="lora: train the lengths of the weights' rows as well")
    train_turn_tokens: bool | None = Field(
        default=None,
        description="lora: train the vectors of the tokens that mark turns; None: where the model never talked",
    )
    train_norms: bool | None = Field(
        default=None, description="lora: train the norms' weights as well; None: where the model never talked"
    )
    lora_init: LoraInit = Field(
        default="kaiming",
        description="lora: what the adapters begin with; pissa and olora: parts of the weight",
    )
    n_prompt_tokens: int = Field(default=20, ge=1, description="prompt, prefix: places before the text")
    prompt_text: str | None = Field(
        default=None, description="prompt, prefix: a text to begin with; None: tokens drawn at random"
    )
    trained_layers: tuple[int, ...] = Field(
        default=(), description="layers: numbers of the blocks that train; negative ones count from the end"
    )
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="in every block; None: the model's own"
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="translate: share of each target spread over the vocabulary"
    )
    temperature: float = Field(
        default=0.05, gt=0, description="embed: cosines are divided by it before texts compete"
    )
    pooling: Pooling | None = Field(
        default=None,
        description="classify, regress, embed: how token vectors become one vector; None: the mean, or what the"
        " architecture prescribes",
    )


# The settings above that an objective or task reads; all read dropout.
READ_BY: dict[ObjectiveName | TaskName, frozenset[str]] = {
    "masked": frozenset({"noise_rate", "whole_word"}),
    "span_corruption": frozenset({"noise_rate", "mean_span"}),
    "translate": frozenset({"label_smoothing"}),
    "embed": frozenset({"temperature", "pooling"}),
    "classify": frozenset({"pooling"}),
    "regress": frozenset({"pooling"}),
}

REPLAYING: tuple[ObjectiveName | TaskName, ...] = (
    "next_token",
    "prefix",
    "masked",
    "chat",
)  # rows of these can be mixed

# What a method reads of the settings of tuning.
READ_BY_METHOD: dict[TuningMethod, frozenset[str]] = {
    "lora": frozenset(
        {
            "rank",
            "alpha",
            "lora_dropout",
            "lora_targets",
            "rank_stabilized",
            "dora",
            "lora_init",
            "train_turn_tokens",
            "train_norms",
        }
    ),
    "prompt": frozenset({"n_prompt_tokens", "prompt_text"}),
    "prefix": frozenset({"n_prompt_tokens", "prompt_text"}),
    "layers": frozenset({"trained_layers"}),
}


def adapter_config(
    training: FinetuneConfig, retrained: tuple[str, ...], token_ids: tuple[int, ...] = ()
) -> LoraConfig | PromptConfig | PrefixConfig:
    """The settings of the adapter that `training` asks for; `retrained`: heads that begin afresh; `token_ids`: tokens
    that the base never saw.
    """
    if training.method == "prompt":
        return PromptConfig(n_prompt_tokens=training.n_prompt_tokens)
    if training.method == "prefix":
        return PrefixConfig(n_prompt_tokens=training.n_prompt_tokens)
    values = {
        "rank": training.rank,
        "alpha": training.alpha,
        "dropout": training.lora_dropout,
        "targets": training.lora_targets or None,
        "rank_stabilized": training.rank_stabilized,
        "dora": training.dora,
        "init": training.lora_init,
        "retrained": retrained,
        "token_ids": token_ids,
    }
    return LoraConfig.parse(values, "finetune")


def for_adapters(training: FinetuneConfig) -> FinetuneConfig:
    """`training` with what was left open chosen for an adapter: AdamW, which suits two factors whose product matters
    better than an optimizer of single matrices (docs/log.md).
    """
    if training.method in ADAPTERS and "optimizer" not in training.model_fields_set:
        return training.replace(optimizer="adamw")
    return training
