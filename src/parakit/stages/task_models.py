"""The model that a run trains: a new one of a family, or a trained trunk with the head of its task.

The head is new where the base has no such head. The weights that both have (the trunk, and an encoder's transform, which
ModernBERT keeps under its labels) are copied from the base.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from parakit.checkpoints.loading import load_model
from parakit.checkpoints.mapping import Architecture, Head
from parakit.checkpoints.model_folder import head_of, load_full_model, require_plain_weights
from parakit.checkpoints.publisher import carry_publisher, kept_parameters, set_generation
from parakit.checkpoints.registry import architecture_for, incompatibilities
from parakit.checkpoints.sharded.empty_weights import is_pending
from parakit.common.choices import part_of
from parakit.common.devices import pick_device
from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.inference.generation.published_rules import lacks_target, published_settings_of
from parakit.model.config import (
    SPAN_LABELS,
    ClassifierConfig,
    ClassifierLevel,
    EmbedderConfig,
    EncoderConfig,
    EncoderDecoderConfig,
    ModelConfig,
    Pooling,
)
from parakit.model.heads import (
    Classifier,
    Embedder,
    LanguageModel,
    MaskedLanguageModel,
    SequenceToSequence,
    TransformerModel,
)
from parakit.model.quantized import quantize_modules, quantized_modules
from parakit.stages.config import FinetuneConfig, Pooled, TranslateTask
from parakit.tokens.tokenizer.languages import LanguageTokens, language_ids, language_tokens
from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.config import TrainingConfig
from parakit.training.task_names import TaskName, check_task

TASK_LEVELS: dict[str, ClassifierLevel] = {"tag": "token", "answer": "span"}  # the others label sequences
_TOKEN_HEADS: dict[str, Head] = {
    "decoder": Head("language_model"),
    "encoder": Head("masked_language_model"),
    "encoder-decoder": Head("sequence_to_sequence"),
}


def build_model(shape: ModelConfig) -> TransformerModel:
    """A new model of this config's family, with the head that predicts tokens."""
    if isinstance(shape, EncoderDecoderConfig):
        return SequenceToSequence(shape)
    return MaskedLanguageModel(shape) if isinstance(shape, EncoderConfig) else LanguageModel(shape)


def load_to_train(folder: Path, training: TrainingConfig) -> tuple[TransformerModel, Tokenizer | None]:
    """The model of a folder, whose weights are trained in float32, whatever type they were stored in. For a run `in_parts`
    its weights have no memory yet.
    """
    if not training.in_parts:
        return load_model(folder, pick_device(training.device), "float32")
    require_plain_weights(folder, "a run in parts")
    return load_full_model(folder, "meta", "float32")


def _predicts_tokens(model: TransformerModel) -> bool:
    """Whether `build_model` would build a model of this class from its config."""
    return type(model) in (LanguageModel, MaskedLanguageModel, SequenceToSequence)


def task_model(
    base: TransformerModel, training: FinetuneConfig, labels: Sequence[str] = ()
) -> TransformerModel:
    """`base` with the head of the task; `labels` are its classes. The base itself where head and settings are the same.
    `UserError` where its family does not fit the task.
    """
    task = training.task
    check_task(task, base.config.family)
    shape = with_dropout(base.config, training.dropout)
    pooled = part_of(training, Pooled)
    pooling = pooled.pooling if pooled else None
    build: Callable[[], TransformerModel]
    if task in ("chat", "translate"):
        same, build = _predicts_tokens(base), partial(build_model, shape)
    elif task == "embed":
        assert not isinstance(shape, EncoderDecoderConfig)
        embedder = embedder_config(base, pooling)
        same, build = type(base) is Embedder and base.pooling == embedder, partial(Embedder, shape, embedder)
    else:
        assert not isinstance(shape, EncoderDecoderConfig)
        classes = classifier_config(shape, task, labels, pooling)
        same, build = (
            type(base) is Classifier and base.classes == classes,
            partial(Classifier, shape, classes),
        )
    if same and shape == base.config:
        return base  # before another is built, whose weights would double the memory
    model = build()
    copy_matching_weights(model, base)
    return model


def set_languages(
    base: TransformerModel, tokenizer: Tokenizer, training: FinetuneConfig
) -> tuple[TransformerModel, LanguageTokens | None]:
    """A multilingual translator that translates into the target language of `training` from now on, and where the tokens of
    both languages stand in its pairs; `base` itself and None where the tokenizer has no tokens for languages. `UserError`
    where nothing says what the target's is.
    """
    task = part_of(training, TranslateTask)
    if task is None or not isinstance(base, SequenceToSequence):
        return base, None
    chosen = (task.source_language, task.target_language)
    known = language_ids(tokenizer)
    if not known and chosen == (None, None):
        return base, None
    tokens = language_tokens(tokenizer, base.config.decoder_start_id, *chosen)
    if task.target_language is None:
        if lacks_target(base, tokenizer):
            raise UserError(
                "target_language is not set, and this model translates into many languages",
                f"set it to one of its {len(known)} languages, such as {next(iter(known))}",
            )
        return base, replace(tokens, forced_bos_id=published_settings_of(base).forced_bos_id)
    if tokens.forced_bos_id is not None:
        set_generation(base, "forced_bos_token_id", tokens.forced_bos_id)
    if tokens.start_id is None:
        return base, tokens
    model = build_model(base.config.replace(decoder_start_id=tokens.start_id))
    copy_matching_weights(model, base)
    carry_publisher(base, model)
    return model, tokens


def embedder_config(base: TransformerModel, pooling: Pooling | None) -> EmbedderConfig:
    """That of an embedder which is trained further, else a new one; `pooling` replaces the pooling."""
    if not isinstance(base, Embedder):
        return EmbedderConfig(pooling=pooling or "mean")
    config = base.pooling if pooling is None else base.pooling.replace(pooling=pooling)
    width = base.config.d_output
    if config.dense and config.widths(width)[0] != base.pooling.widths(width)[0]:
        raise UserError(
            f"pooling {pooling!r} gives a vector of {config.widths(width)[0]} features, and the dense layers of the base"
            f" take {base.pooling.widths(width)[0]}",
            "leave pooling out",
        )
    return config


def continue_pretraining(base: TransformerModel, dropout: float | None) -> TransformerModel:
    """`base` with its pre-training head, to continue. `UserError` for a model with another head."""
    shape = with_dropout(base.config, dropout)
    if shape == base.config and _predicts_tokens(base):
        return base  # before another is built, whose weights would double the memory
    model = build_model(shape)
    if type(model) is not type(base):
        raise UserError(
            f"this model is a {type(base).__name__}, but pre-training needs a {type(model).__name__}",
            "start from the model that it was tuned from",
        )
    copy_matching_weights(model, base)
    return model


def classifier_config(
    shape: ModelConfig, task: TaskName, labels: Sequence[str], pooling: Pooling | None = None
) -> ClassifierConfig:
    """The classifier head that transformers has for this architecture, so that it loads the folder. Where the
    architecture leaves the pooling open, an encoder's is the mean: masked language modelling does not train the first
    token's vector for it (docs/log.md).
    """
    architecture = _classifier_architecture(shape)
    level = TASK_LEVELS.get(task, "sequence")
    head = architecture.read_classifier(architecture.write_settings(shape), level)
    names = SPAN_LABELS if level == "span" else tuple(labels)
    default = ClassifierConfig(
        labels=names,
        level=level,
        regression=task == "regress",
        multi_label=task == "multi_label",
        **head,
    )
    if level != "sequence":
        return default
    pooled = default.replace(pooling=pooling or ("mean" if shape.family == "encoder" else default.pooling))
    if not incompatibilities(architecture, shape, Head("classifier", pooled)):
        return pooled
    if pooling is not None:
        raise UserError(
            f"pooling {pooling!r}: a {architecture.MODEL_TYPE} reads labels at {default.pooling!r} only",
            "leave pooling out, or take another architecture",
        )
    return default


def _classifier_architecture(shape: ModelConfig) -> Architecture:
    """The architecture of `shape`. RoBERTa and its kind have no head of masked tokens over layers without GELU, but
    classifiers.
    """
    head = _TOKEN_HEADS[shape.family]
    try:
        return architecture_for(shape, head)
    except UserError:
        if not isinstance(shape, EncoderConfig) or shape.activation == "gelu":
            raise
        return architecture_for(shape.replace(activation="gelu"), head)


def with_dropout(shape: ModelConfig, dropout: float | None) -> ModelConfig:
    """`shape` with another dropout; None: unchanged."""
    if dropout is None:
        return shape
    if isinstance(shape, EncoderDecoderConfig):
        encoder, decoder = (stack.replace(dropout=dropout) for stack in (shape.encoder, shape.decoder))
        return shape.replace(encoder=encoder, decoder=decoder)
    return shape.replace(dropout=dropout)


def warn_own_layout(shape: ModelConfig) -> None:
    """Say before training that only Parakit will load the folder, and which settings no published architecture has."""
    try:
        architecture_for(shape, _TOKEN_HEADS[shape.family])
    except UserError as error:
        log(f"{error.message}; the model is saved in Parakit's own layout, which other programs do not load")


def _same_head(model: TransformerModel, base: TransformerModel) -> bool:
    if isinstance(model, Classifier) and isinstance(base, Classifier):
        return model.classes == base.classes
    if isinstance(model, Embedder) and isinstance(base, Embedder):
        return model.pooling == base.pooling
    return True


def copy_matching_weights(model: TransformerModel, base: TransformerModel) -> None:
    """Copy the weights that both have into `model`; those of a label head only where the labels are the same. A tensor of
    the base's folder that the base has no use for, and `model` has, is copied too: BERT's pooler.
    """
    if is_pending(base):
        raise UserError(
            "in_parts trains a model as it is, and this one would get another head or another dropout",
            "leave dropout and in_parts out, or take a task that needs no new head",
        )
    known = dict(model.named_modules())
    quantized = {name: one for name, one in quantized_modules(base).items() if name in known}
    quantize_modules(
        model,
        {name: one.scheme for name, one in quantized.items()},
        {name: one.quantized for name, one in quantized.items()},
    )
    trained = {**kept_parameters(base, model, head_of(model))}
    trained |= {_classifier_name(name): tensor for name, tensor in base.state_dict().items()}
    if not _same_head(model, base):
        trained = {name: tensor for name, tensor in trained.items() if not name.startswith("label_head.")}
    state = model.state_dict()
    matching = {
        name: tensor
        for name, tensor in trained.items()
        if name in state and state[name].shape == tensor.shape
    }
    missing = [name for name in state if name.startswith("trunk.") and name not in matching]
    if missing:
        raise UserError(
            f"the model lacks {missing[0]}, which {type(model).__name__} needs", "start from another model"
        )
    model.load_state_dict(matching, strict=False)
    carry_publisher(base, model)


def _classifier_name(name: str) -> str:
    """The name in a classifier of the transform between an encoder's trunk and its output matrix."""
    return name.replace("transform.", "dense.", 1) if name.startswith("transform.") else name
