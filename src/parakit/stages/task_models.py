"""The model that a run trains: a new one of a family, or a trained trunk under the head of its task.

A head is new where the base has none like it; what the two have in common (the trunk; between an encoder's trunk
and its labels the transform, as ModernBERT keeps it) begins where the base stopped.
"""

from __future__ import annotations

from collections.abc import Sequence

from parakit.checkpoints.mapping import Head
from parakit.checkpoints.registry import architecture_for, incompatibilities
from parakit.common.choices import part_of
from parakit.common.errors import UserError
from parakit.model.config import (
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
from parakit.stages.config import FinetuneConfig, Pooled
from parakit.training.task_names import TaskName, check_task

_PREDICTS: dict[str, Head] = {
    "decoder": Head("language_model"),
    "encoder": Head("masked_language_model"),
    "encoder-decoder": Head("sequence_to_sequence"),
}


def build_model(shape: ModelConfig) -> TransformerModel:
    """A new model of this family, with the head that predicts tokens."""
    if isinstance(shape, EncoderDecoderConfig):
        return SequenceToSequence(shape)
    return MaskedLanguageModel(shape) if isinstance(shape, EncoderConfig) else LanguageModel(shape)


def task_model(
    base: TransformerModel, training: FinetuneConfig, labels: Sequence[str] = ()
) -> TransformerModel:
    """`base` under the head that the task needs; `labels` are its classes. The base itself where it has that head
    already and no other settings. `UserError` where its family cannot learn the task.
    """
    task = training.task
    check_task(task, base.config.family)
    shape = with_dropout(base.config, training.dropout)
    pooled = part_of(training, Pooled)
    pooling = pooled.pooling if pooled else None
    if task in ("chat", "translate"):
        model = build_model(shape)
    elif task == "embed":
        assert not isinstance(shape, EncoderDecoderConfig)
        model = Embedder(shape, EmbedderConfig(pooling=pooling or "mean"))
    else:
        assert not isinstance(shape, EncoderDecoderConfig)
        model = Classifier(shape, classifier_config(shape, task, labels, pooling))
    if type(model) is type(base) and shape == base.config and _same_head(model, base):
        return base
    copy_matching_weights(model, base)
    return model


def continue_pretraining(base: TransformerModel, dropout: float | None) -> TransformerModel:
    """`base`, to go on with what it was pre-trained on: guessing tokens. `UserError` where another head was put on it."""
    shape = with_dropout(base.config, dropout)
    model = build_model(shape)
    if type(model) is not type(base):
        raise UserError(
            f"this model is a {type(base).__name__}, and pre-training needs a {type(model).__name__}",
            "start from the model that it was tuned from",
        )
    if shape == base.config:
        return base
    copy_matching_weights(model, base)
    return model


def classifier_config(
    shape: ModelConfig, task: TaskName, labels: Sequence[str], pooling: Pooling | None = None
) -> ClassifierConfig:
    """The classifier that transformers puts on such a trunk, so that the finished folder can be loaded there. Where that
    leaves the pooling open, an encoder's is the mean: filling masks teaches its first token nothing (docs/log.md).
    """
    architecture = architecture_for(shape, _PREDICTS[shape.family])
    level: ClassifierLevel = "token" if task == "tag" else "sequence"
    head = architecture.read_classifier(architecture.write_settings(shape), level)
    own = ClassifierConfig(labels=tuple(labels), level=level, regression=task == "regress", **head)
    wanted = own.replace(pooling=pooling or ("mean" if shape.family == "encoder" else own.pooling))
    if level == "token" or not incompatibilities(architecture, shape, Head("classifier", wanted)):
        return wanted if level == "sequence" else own
    if pooling is not None:
        raise UserError(
            f"pooling {pooling!r}: a {architecture.MODEL_TYPE} reads labels at {own.pooling!r} only",
            "leave pooling out, or take another architecture",
        )
    return own


def with_dropout(shape: ModelConfig, dropout: float | None) -> ModelConfig:
    """The same shape with another dropout; None leaves its own."""
    if dropout is None:
        return shape
    if isinstance(shape, EncoderDecoderConfig):
        encoder, decoder = (side.replace(dropout=dropout) for side in (shape.encoder, shape.decoder))
        return shape.replace(encoder=encoder, decoder=decoder)
    return shape.replace(dropout=dropout)


def check_can_be_saved(shape: ModelConfig) -> None:
    """Raise the `UserError` of saving now rather than after training."""
    architecture_for(shape, _PREDICTS[shape.family])


def _same_head(model: TransformerModel, base: TransformerModel) -> bool:
    if isinstance(model, Classifier) and isinstance(base, Classifier):
        return model.classes == base.classes
    if isinstance(model, Embedder) and isinstance(base, Embedder):
        return model.pooling == base.pooling
    return True


def copy_matching_weights(model: TransformerModel, base: TransformerModel) -> None:
    """Copy into `model` what both have. A tagger's or classifier's labels are taken over only where they are the same."""
    trained = {_place(name): tensor for name, tensor in base.state_dict().items()}
    if not _same_head(model, base):
        trained = {name: tensor for name, tensor in trained.items() if not name.startswith("label_head.")}
    state = model.state_dict()
    found = {
        name: tensor
        for name, tensor in trained.items()
        if name in state and state[name].shape == tensor.shape
    }
    missing = [name for name in state if name.startswith("trunk.") and name not in found]
    if missing:
        raise UserError(
            f"the model lacks {missing[0]}, which {type(model).__name__} needs", "start from another model"
        )
    model.load_state_dict(found, strict=False)


def _place(name: str) -> str:
    """Where a classifier keeps what an encoder has between trunk and output matrix."""
    return name.replace("transform.", "dense.", 1) if name.startswith("transform.") else name
