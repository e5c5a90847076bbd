"""Which architecture a folder holds, and which one a model of ours is written as. Torch-free.

An architecture fits a shape when what it writes of it, read back, computes the same; so an architecture's file
cannot promise more than it says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from parakit.checkpoints.architectures import (
    bart,
    bert,
    gpt2,
    llama,
    marian,
    mistral,
    mixtral,
    modernbert,
    qwen2,
    qwen3,
    qwen3_moe,
    t5,
)
from parakit.checkpoints.config_equivalence import differences
from parakit.checkpoints.mapping import Architecture, Head, HeadKind
from parakit.common.errors import UserError
from parakit.model.config import ClassifierConfig, EmbedderConfig, ModelConfig

# In the order in which they are tried for a model of ours: of two that fit, the plainer one is written.
_MODULES: tuple[Architecture, ...] = (
    *(qwen3, llama, mistral, qwen2, gpt2, qwen3_moe, mixtral),
    *(modernbert, bert, t5, bart, marian),
)
ARCHITECTURES = {module.MODEL_TYPE: module for module in _MODULES}

_KINDS: dict[str, HeadKind] = {
    "language_model": "language_model",
    "masked_language_model": "masked_language_model",
    "sequence_to_sequence": "sequence_to_sequence",
    "classifier": "classifier",
    "token_classifier": "classifier",
    "reward_model": "reward_model",
    "embedder": "embedder",
}


def architecture_of(foreign: Mapping[str, Any], where: str | Path) -> tuple[Architecture, Head]:
    """The architecture and the head that a parsed `config.json` names. Raises `UserError` where we have none of
    them, or where the labels contradict each other.
    """
    kind = foreign.get("model_type")
    architecture = ARCHITECTURES.get(kind) if isinstance(kind, str) else None
    if architecture is None:
        raise UserError(
            f"{where}: holds a model of type {kind!r}", f"Parakit loads: {', '.join(ARCHITECTURES)}"
        )
    classes = architecture.CLASSES
    named = foreign.get("architectures") or [next(iter(classes.values()))]
    found = [name for name, theirs in classes.items() if named == [theirs]]
    found += [kind for theirs, kind in getattr(architecture, "ALIASES", {}).items() if named == [theirs]]
    if not found:
        raise UserError(
            f"{where}: `architectures` is {named!r}",
            f"Parakit loads these of {kind}: {', '.join(dict.fromkeys(classes.values()))}",
        )
    if found[0] in ("classifier", "token_classifier"):
        return architecture, _read_classifier(architecture, found, foreign, where)
    pooling = EmbedderConfig() if found[0] == "embedder" else None
    return architecture, Head(_KINDS[found[0]], pooling=pooling)


def architecture_for(config: ModelConfig, head: Head) -> Architecture:
    """The first architecture that computes such a model. Raises `UserError` naming what stands in the way of the
    one that comes nearest.
    """
    nearest: tuple[int, str, dict[str, tuple[Any, Any]]] | None = None
    for name, architecture in ARCHITECTURES.items():
        if head_name(head) not in architecture.CLASSES:
            continue
        found = obstacles(architecture, config, head)
        if found is None:
            continue
        if not found:
            return architecture
        if nearest is None or len(found) < nearest[0]:
            nearest = len(found), name, found
    if nearest is None:
        raise UserError(
            f"no published architecture has the head {head.kind.replace('_', ' ')} on this trunk: {config.family}",
            f"known: {', '.join(ARCHITECTURES)}",
        )
    _, name, found = nearest
    told = "; ".join(f"{key} = {ours!r}, where it has {theirs!r}" for key, (ours, theirs) in found.items())
    raise UserError(
        f"no published architecture computes this shape; {name} comes nearest, and in its way stands: {told}",
        "change these settings to write a folder that other programs can load",
    )


def obstacles(
    architecture: Architecture, config: ModelConfig, head: Head
) -> dict[str, tuple[Any, Any]] | None:
    """Settings that a folder of this architecture would not keep -> (ours, what would be read back); None when
    the architecture is of another kind altogether.
    """
    where = f"{architecture.MODEL_TYPE} config.json"
    try:
        foreign = architecture.write_settings(config)
        again = architecture.read_settings(foreign, where)
    except (UserError, AttributeError):
        return None  # it allows no such shape, or lacks the fields that this one writes
    if again.family != config.family:
        return None
    again = settled(
        architecture, again, {tensor.theirs for tensor in architecture.named_tensors(config, head)}
    )
    found = differences(config, again)
    if head.classes is not None:
        written = {**foreign, **architecture.write_classifier(head.classes)}
        shape = architecture.read_classifier(written, head.classes.level)
        for name, value in shape.items():
            if getattr(head.classes, name) != value and not (
                name == "pooling" and head.classes.level == "token"
            ):
                found[f"classes.{name}"] = (getattr(head.classes, name), value)
    return found


def settled(architecture: Architecture, config: ModelConfig, stored: Collection[str]) -> ModelConfig:
    """`config` with what only the names of the stored tensors tell; see `Architecture`."""
    settle = getattr(architecture, "settled", None)
    found: ModelConfig = config if settle is None else settle(config, stored)
    return found


def class_name(architecture: Architecture, head: Head) -> str:
    """transformers' class for such a model."""
    return architecture.CLASSES[head_name(head)]


def head_name(head: Head) -> str:
    """The key of `Architecture.CLASSES`."""
    if head.classes is not None and head.classes.level == "token":
        return "token_classifier"
    return head.kind


def write_labels(architecture: Architecture, head: Head) -> dict[str, Any]:
    """The keys of config.json that say what a head's numbers mean."""
    if head.kind == "reward_model":
        return {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    if head.classes is None:
        return {}
    labels = head.classes.labels
    sequence = "regression" if head.classes.regression else "single_label_classification"
    return {
        **architecture.write_classifier(head.classes),
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
        **({"problem_type": sequence} if head.classes.level == "sequence" else {}),
    }


def _read_classifier(
    architecture: Architecture, found: list[str], foreign: Mapping[str, Any], where: str | Path
) -> Head:
    labels = _read_labels(foreign, where)
    problem = foreign.get("problem_type")
    if problem not in (None, "regression", "single_label_classification"):
        raise UserError(
            f"{where}: `problem_type` is {problem!r}, and Parakit's classifier chooses one label",
            "it needs 'single_label_classification' or 'regression'",
        )
    if len(labels) == 1 and problem is None and "reward_model" in found:
        return Head("reward_model")
    level = "token" if found[0] == "token_classifier" else "sequence"
    regression = level == "sequence" and (problem == "regression" or (problem is None and len(labels) == 1))
    shape = architecture.read_classifier(foreign, level)
    values = {"labels": labels, "level": level, "regression": regression, **shape}
    return Head("classifier", ClassifierConfig.parse(values, str(where)))


def _read_labels(foreign: Mapping[str, Any], where: str | Path) -> tuple[str, ...]:
    """Names of the labels in the order of their numbers; transformers means two where a folder says nothing."""
    names = foreign.get("id2label")
    n = foreign.get("num_labels", foreign.get("_num_labels"))
    if names is None:
        n = 2 if n is None else n
        if type(n) is not int or not 0 < n <= 1_000_000:
            raise UserError(f"{where}: `num_labels` is {n!r}", "it is a count of labels")
        return tuple(f"LABEL_{i}" for i in range(n))
    if not isinstance(names, Mapping) or sorted(names) != sorted(str(i) for i in range(len(names))):
        raise UserError(
            f"{where}: `id2label` does not number its labels 0, 1, 2 ...",
            "one name for every row of the classifier",
        )
    if n is not None and n != len(names):
        raise UserError(
            f"{where}: `num_labels` is {n!r}, and `id2label` names {len(names)} labels",
            "they belong to different models",
        )
    return tuple(str(names[str(i)]) for i in range(len(names)))
