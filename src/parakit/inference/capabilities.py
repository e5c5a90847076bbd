"""What each kind of model can do, and the error for a request that it cannot serve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from parakit.common.errors import UserError
from parakit.model.heads import (
    Classifier,
    Embedder,
    LanguageModel,
    MaskedLanguageModel,
    RewardModel,
    SequenceToSequence,
)

Capability = Literal[
    "generate",
    "translate",
    "fill_mask",
    "classify",
    "multi_label",
    "tag",
    "regress",
    "answer",
    "replaced",
    "embed",
    "reward",
    "logits",
    "log_likelihood",
]


@dataclass(frozen=True)
class ModelKind:
    """What a model is, in words, and what it can do; the first capability is its main one."""

    description: str
    capabilities: tuple[Capability, ...]


_KINDS: dict[type, ModelKind] = {
    LanguageModel: ModelKind(
        "a decoder that predicts the next token", ("generate", "log_likelihood", "logits", "embed")
    ),
    MaskedLanguageModel: ModelKind(
        "an encoder that predicts masked tokens", ("fill_mask", "logits", "embed")
    ),
    SequenceToSequence: ModelKind(
        "an encoder-decoder that writes a target for a source", ("translate", "embed")
    ),
    Embedder: ModelKind("a model that turns texts into vectors", ("embed",)),
    RewardModel: ModelKind("a reward model: one number for a conversation", ("reward",)),
}
_DESCRIPTIONS: dict[Capability, str] = {
    "generate": "continue a text (generate, chat)",
    "translate": "turn a source into a target (translate)",
    "fill_mask": "fill in masked tokens (fill_mask)",
    "classify": "label texts (classify)",
    "multi_label": "give texts any number of labels (multi_label)",
    "tag": "label each word (tag)",
    "regress": "score texts (regress)",
    "replaced": "score how likely each token was replaced (network)",
    "answer": "answer a question from a context (answer)",
    "embed": "turn texts into vectors (embed)",
    "reward": "score completions for alignment",
    "logits": "give each token's logits (logits)",
    "log_likelihood": "give text a probability (log_likelihood, perplexity, bits per byte)",
}


def model_kind(model: object) -> ModelKind | None:
    """The kind of a model by its head; None for a class that is none of Parakit's heads."""
    if isinstance(model, Classifier):
        labels = len(model.classes.labels)
        if model.classes.regression:
            return ModelKind(f"a scorer of texts ({', '.join(model.classes.labels)})", ("regress",))
        if model.classes.level == "token":
            return ModelKind(f"a tagger of words with {labels} labels", ("tag",))
        if model.classes.level == "replaced":
            return ModelKind("a discriminator of replaced tokens", ("replaced",))
        if model.classes.level == "span":
            return ModelKind("a model that finds answers in contexts", ("answer",))
        if model.classes.multi_label:
            return ModelKind(f"a classifier that gives texts any of {labels} labels", ("multi_label",))
        return ModelKind(f"a classifier of texts with {labels} labels", ("classify",))
    return next((kind for head, kind in _KINDS.items() if isinstance(model, head)), None)


def require_capability(model: object, capability: Capability) -> None:
    """Raise `UserError`, listing what the model can do, unless it can do this. Unknown classes are not checked."""
    kind = model_kind(model)
    if kind is None or capability in kind.capabilities:
        return
    able = ", ".join(_DESCRIPTIONS[other] for other in kind.capabilities)
    raise UserError(
        f"this model cannot {_DESCRIPTIONS[capability]}: it is {kind.description}", f"it can: {able}"
    )
