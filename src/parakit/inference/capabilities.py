"""What each kind of model can do, and the error for asking it for something else: an encoder to generate, a
decoder to fill masks.
"""

from __future__ import annotations

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
    "generate", "translate", "fill masks", "classify", "tag", "regress", "embed", "reward", "next tokens"
]

_KINDS: dict[type, tuple[str, tuple[Capability, ...]]] = {
    LanguageModel: ("a decoder that predicts the next token", ("generate", "next tokens", "embed")),
    MaskedLanguageModel: ("an encoder that predicts masked tokens", ("fill masks", "embed")),
    SequenceToSequence: ("an encoder-decoder that writes a target after a source", ("translate", "embed")),
    Embedder: ("a model that turns texts into vectors", ("embed",)),
    RewardModel: ("a reward model: one number for a text", ("reward",)),
}
_DOING: dict[Capability, str] = {
    "generate": "go on with a text (generate, chat)",
    "translate": "turn a source into a target (translate)",
    "fill masks": "fill in masked tokens (fill_mask)",
    "classify": "label texts (classify)",
    "tag": "label each word (tag)",
    "regress": "score texts (regress)",
    "embed": "turn texts into vectors (embed)",
    "reward": "judge completions",
    "next tokens": "be measured on text by its next tokens (perplexity, bits per byte)",
}


def capabilities_of(model: object) -> tuple[str, tuple[Capability, ...]] | None:
    """What a model is, in words, and what it can do; None for a class that is none of the house's heads."""
    if isinstance(model, Classifier):
        labels = len(model.classes.labels)
        if model.classes.regression:
            return f"a scorer of texts ({', '.join(model.classes.labels)})", ("regress",)
        if model.classes.level == "token":
            return f"a tagger of words with {labels} labels", ("tag",)
        return f"a classifier of texts with {labels} labels", ("classify",)
    return next((found for kind, found in _KINDS.items() if isinstance(model, kind)), None)


def require_capability(model: object, ability: Capability) -> None:
    """Refuse, as a `UserError`, a model that cannot do this. A class that is not ours is given the chance."""
    found = capabilities_of(model)
    if found is None or ability in found[1]:
        return
    what, abilities = found
    can = ", ".join(_DOING[one] for one in abilities)
    raise UserError(f"this model cannot {_DOING[ability]}: it is {what}", f"it can: {can}")
