"""Which architecture a folder holds, and as which one a model is saved. Torch-free.

An architecture fits a config if the settings that it writes, read back, compute the same; so no architecture can claim
more than its file format expresses.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from parakit.checkpoints.architectures import (
    bart,
    bert,
    deberta_v2,
    distilbert,
    electra,
    gemma2,
    gemma3_text,
    gpt2,
    gpt_neox,
    gpt_oss,
    granite,
    llama,
    m2m_100,
    marian,
    mbart,
    ministral,
    mistral,
    mixtral,
    modernbert,
    mpnet,
    mt5,
    nomic_bert,
    olmo2,
    olmo3,
    opt,
    own_layout,
    pegasus,
    phi3,
    qwen2,
    qwen3,
    qwen3_5,
    qwen3_5_moe,
    qwen3_moe,
    roberta,
    smollm3,
    stablelm,
    t5,
    umt5,
    xlm_roberta,
)
from parakit.checkpoints.config_equivalence import config_diff
from parakit.checkpoints.hf_config import HFConfig
from parakit.checkpoints.mapping import Architecture, Head, HeadKind
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.model.config import FIXED_LABELS, SPAN_LABELS, ClassifierConfig, EmbedderConfig, ModelConfig

# In the order in which they are tried for saving: of two that fit, the plainer one is used.
_MODULES: tuple[Architecture, ...] = (
    *(qwen3, llama, mistral, qwen2, gpt2, qwen3_moe, mixtral),
    *(gpt_neox, opt, phi3, stablelm, olmo2, olmo3, gemma2, gemma3_text),
    *(granite, smollm3, ministral, gpt_oss, qwen3_5, qwen3_5_moe),
    *(modernbert, distilbert, bert, roberta, xlm_roberta, mpnet, electra, nomic_bert, deberta_v2),
    *(t5, bart, marian, mt5, umt5, mbart, pegasus, m2m_100),
)
ARCHITECTURES = {module.MODEL_TYPE: module for module in _MODULES}
_LOADED: Mapping[str, Architecture] = {**ARCHITECTURES, own_layout.MODEL_TYPE: own_layout}

_KINDS: dict[str, HeadKind] = {
    "language_model": "language_model",
    "masked_language_model": "masked_language_model",
    "sequence_to_sequence": "sequence_to_sequence",
    "classifier": "classifier",
    "token_classifier": "classifier",
    "question_answering": "classifier",
    "discriminator": "classifier",
    "reward_model": "reward_model",
    "embedder": "embedder",
}
_CROSS_ENCODER = "sentence_transformers"  # sentence-transformers' settings in config.json
_PROBLEMS = ("single_label_classification", "multi_label_classification", "regression")
# level of a classifier -> key of `Architecture.CLASSES`
_LEVELS = {
    "sequence": "classifier",
    "token": "token_classifier",
    "span": "question_answering",
    "replaced": "discriminator",
}


def architecture_of(hf_config: HFConfig, where: str | Path) -> tuple[Architecture, Head]:
    """The architecture and the head that a parsed `config.json` names. Raises `UserError` where one of them
    is not supported, or where the labels contradict each other.
    """
    model_type = hf_config.get("model_type")
    architecture = _LOADED.get(model_type) if isinstance(model_type, str) else None
    if architecture is None:
        raise UserError(
            f"{where}: holds a model of type {model_type!r}", f"Parakit loads: {', '.join(ARCHITECTURES)}"
        )
    classes = architecture.CLASSES
    names = hf_config.get("architectures") or [next(iter(classes.values()))]
    heads = [head for head, name in classes.items() if names == [name]]
    heads += [head for name, head in getattr(architecture, "ALIASES", {}).items() if names == [name]]
    if not heads:
        raise UserError(
            f"{where}: `architectures` is {names!r}",
            f"Parakit loads these of {model_type}: {', '.join(dict.fromkeys(classes.values()))}",
        )
    if _KINDS[heads[0]] == "classifier":
        return architecture, _read_classifier(architecture, heads, hf_config, where)
    pooling = EmbedderConfig() if heads[0] == "embedder" else None
    return architecture, Head(_KINDS[heads[0]], pooling=pooling)


def as_embedder(hf_config: HFConfig, where: str | Path) -> JsonObject:
    """A parsed `config.json` whose model is an embedder, whatever class it names."""
    architecture = ARCHITECTURES.get(str(hf_config.get("model_type")))
    if architecture is None:
        return dict(hf_config)  # refused by `architecture_of`
    if "embedder" not in architecture.CLASSES:
        raise UserError(
            f"{where}: a sentence encoder of type {architecture.MODEL_TYPE}, which Parakit does not embed with",
            f"it does with: {', '.join(name for name, a in ARCHITECTURES.items() if 'embedder' in a.CLASSES)}",
        )
    return {**hf_config, "architectures": [architecture.CLASSES["embedder"]]}


def architecture_for(config: ModelConfig, head: Head) -> Architecture:
    """The first architecture that computes such a model. Raises `UserError` naming the incompatible settings of
    the architecture that has the fewest.
    """
    closest: tuple[str, dict[str, tuple[Any, Any]]] | None = None
    for name, architecture in ARCHITECTURES.items():
        if head_name(head) not in architecture.CLASSES:
            continue
        diff = incompatibilities(architecture, config, head)
        if diff is None:
            continue
        if not diff:
            return architecture
        if closest is None or len(diff) < len(closest[1]):
            closest = name, diff
    if closest is None:
        raise UserError(
            f"no published architecture has the head {head.kind.replace('_', ' ')} on this trunk: {config.family}",
            f"known: {', '.join(ARCHITECTURES)}",
        )
    name, diff = closest
    listed = "; ".join(f"{key} = {value!r}, where it has {other!r}" for key, (value, other) in diff.items())
    raise UserError(
        f"no published architecture computes this shape; {name} comes closest, but differs in: {listed}",
        "change these settings to write a folder that other programs can load",
    )


def saving_architecture(config: ModelConfig, head: Head) -> Architecture:
    """As `architecture_for`; Parakit's own layout for a model that predicts tokens and that no published one computes."""
    try:
        return architecture_for(config, head)
    except UserError:
        if head_name(head) not in own_layout.CLASSES:
            raise
        return own_layout


def incompatibilities(
    architecture: Architecture, config: ModelConfig, head: Head
) -> dict[str, tuple[Any, Any]] | None:
    """Settings that a folder of this architecture would not preserve -> (value, value read back); None if the
    architecture does not fit at all.
    """
    where = f"{architecture.MODEL_TYPE} config.json"
    try:
        hf_config = {
            **architecture.write_settings(config),
            "architectures": [architecture.CLASSES.get(head_name(head))],
        }
        reread = architecture.read_settings(hf_config, where)
    except (UserError, AttributeError):
        return None  # it has no such shape, or writes fields that this config lacks
    if reread.family != config.family:
        return None
    stored = {tensor.hf_name for tensor in architecture.hf_tensors(config, head)}
    diff = config_diff(config, finalize(architecture, reread, stored))
    if head.classes is not None:
        written = {**hf_config, **architecture.write_classifier(head.classes)}
        shape = architecture.read_classifier(written, head.classes.level)
        for name, value in shape.items():
            if getattr(head.classes, name) != value and not (
                name == "pooling" and head.classes.level != "sequence"
            ):
                diff[f"classes.{name}"] = (getattr(head.classes, name), value)
    return diff


def finalize(architecture: Architecture, config: ModelConfig, stored: Collection[str]) -> ModelConfig:
    """`config`, completed with what only the names of the stored tensors reveal; see `Architecture`."""
    complete = getattr(architecture, "finalize", None)
    finalized: ModelConfig = config if complete is None else complete(config, stored)
    return finalized


def class_name(architecture: Architecture, head: Head) -> str:
    """transformers' class for such a model."""
    return architecture.CLASSES[head_name(head)]


def head_name(head: Head) -> str:
    """The key of `Architecture.CLASSES`."""
    return head.kind if head.classes is None else _LEVELS[head.classes.level]


def write_labels(architecture: Architecture, head: Head) -> JsonObject:
    """The keys of config.json that describe a head's outputs."""
    if head.kind == "reward_model":
        return {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    if head.classes is None or head.classes.level in FIXED_LABELS:
        return {} if head.classes is None else architecture.write_classifier(head.classes)
    labels, sigmoid = head.classes.labels, head.classes.sigmoid
    function = f"torch.nn.modules.{'activation.Sigmoid' if sigmoid else 'linear.Identity'}"
    return {
        **architecture.write_classifier(head.classes),
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
        **(
            {_CROSS_ENCODER: {"activation_fn": function}}
            if head.classes.regression and len(labels) == 1
            else {}
        ),
        **({"problem_type": _problem(head.classes)} if head.classes.level == "sequence" else {}),
    }


def _problem(classes: ClassifierConfig) -> str:
    """transformers' `problem_type` of a classifier of sequences."""
    if classes.regression:
        return "regression"
    return "multi_label_classification" if classes.multi_label else "single_label_classification"


def _read_classifier(
    architecture: Architecture, heads: list[str], hf_config: HFConfig, where: str | Path
) -> Head:
    level = next(level for level, head in _LEVELS.items() if head == heads[0])
    labels = FIXED_LABELS["replaced"] if level == "replaced" else _read_labels(hf_config, where)
    values: JsonObject = {"labels": labels, "level": level}
    if level == "span":
        if len(labels) != len(SPAN_LABELS):
            raise UserError(
                f"{where}: a model that answers questions has {len(labels)} outputs for each token",
                f"it needs {len(SPAN_LABELS)}, for the {' and the '.join(SPAN_LABELS)} of an answer",
            )
        values["labels"] = SPAN_LABELS
    problem = hf_config.get("problem_type")
    if problem not in (None, *_PROBLEMS):
        raise UserError(
            f"{where}: `problem_type` is {problem!r}, which Parakit does not know",
            f"it knows {', '.join(map(repr, _PROBLEMS))}",
        )
    if len(labels) == 1 and problem is None and "reward_model" in heads:
        return Head("reward_model")
    if level == "sequence":
        values["regression"] = problem == "regression" or (problem is None and len(labels) == 1)
        values["sigmoid"] = values["regression"] and len(labels) == 1 and _has_sigmoid(hf_config, where)
        values["multi_label"] = problem == "multi_label_classification"
    values |= architecture.read_classifier(hf_config, level)
    return Head("classifier", ClassifierConfig.parse(values, str(where)))


def _has_sigmoid(hf_config: HFConfig, where: str | Path) -> bool:
    """Whether a cross-encoder's scores pass through a sigmoid, as sentence-transformers writes it, new and old."""
    settings = hf_config.get(_CROSS_ENCODER)
    name = settings.get("activation_fn") if isinstance(settings, Mapping) else None
    name = name or hf_config.get("sbert_ce_default_activation_function") or "Identity"
    kind = str(name).rsplit(".", 1)[-1]
    if kind not in ("Identity", "Sigmoid"):
        raise UserError(
            f"{where}: scores pass through {name!r}, which Parakit does not know",
            "it knows Identity and Sigmoid",
        )
    return kind == "Sigmoid"


def _read_labels(hf_config: HFConfig, where: str | Path) -> tuple[str, ...]:
    """Names of the labels in the order of their numbers; transformers' default is two labels."""
    names = hf_config.get("id2label")
    n = hf_config.get("num_labels", hf_config.get("_num_labels"))
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
