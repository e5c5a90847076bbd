"""Where the modules of a model of ours lie in transformers' model of the same architecture.

It follows from the architectures' tensors: a module there is a matrix there. One module may hold several of ours, one
below the other (GPT-2's `c_attn`, ModernBERT's `Wqkv`). A tied output matrix has no tensor of its own, but a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from parakit.checkpoints import registry
from parakit.checkpoints.mapping import Head
from parakit.common.errors import UserError
from parakit.model.config import ModelConfig

if TYPE_CHECKING:
    from parakit.checkpoints.mapping import Architecture

_EMBEDDING, _HEAD = "trunk.token_embedding", "lm_head"


@dataclass(frozen=True)
class Part:
    """One of our modules in a foreign one, and its rows there; None: it is all of it."""

    ours: str
    rows: tuple[int, int] | None


@dataclass(frozen=True)
class Place:
    """A foreign module with a matrix, and what of ours it holds, in the order of its rows."""

    theirs: str
    parts: tuple[Part, ...]
    is_turned: bool
    """Its matrix is stored (inputs, outputs)."""


class Names:
    """Both ways between our modules and transformers'."""

    def __init__(self, config: ModelConfig, head: Head) -> None:
        architecture = registry.architecture_for(config, head)
        self.model_type = architecture.MODEL_TYPE
        self.class_name = registry.class_name(architecture, head)
        self.places: dict[str, Place] = {}
        self.parameters: dict[str, str] = {}
        """Our parameters that are a whole foreign tensor -> its name."""
        for tensor in architecture.named_tensors(config, head):
            pieces = sorted(tensor.pieces, key=lambda piece: piece.rows or (0, 0))
            if len(pieces) == 1 and pieces[0].expert is None:
                self.parameters[pieces[0].ours] = tensor.theirs
            is_matrix = len(tensor.shape) == 2 and tensor.theirs.endswith(".weight")
            if is_matrix and all(p.expert is None and p.ours.endswith(".weight") for p in pieces):
                theirs = tensor.theirs.removesuffix(".weight")
                parts = tuple(Part(p.ours.removesuffix(".weight"), p.rows) for p in pieces)
                self.places[theirs] = Place(theirs, parts, pieces[0].transposed)
        self._add_tied_head(architecture, config, head)

    def place_of(self, ours: str) -> Place:
        """The foreign module that holds ours. `UserError` where transformers has none for it alone."""
        for place in self.places.values():
            if any(part.ours == ours for part in place.parts):
                return place
        raise UserError(
            f"{ours} has no module of its own in transformers' {self.class_name}, so an adapter of it cannot be saved",
            "leave it out of lora_targets",
        )

    def _add_tied_head(self, architecture: Architecture, config: Any, head: Head) -> None:
        """An encoder-decoder's embedding serves three places there: no adapter of one alone is what ours is."""
        if config.family == "encoder-decoder":
            if config.tie_embeddings:
                self.places = {
                    theirs: place
                    for theirs, place in self.places.items()
                    if all(
                        part.ours not in (_EMBEDDING, "trunk.encoder.token_embedding") for part in place.parts
                    )
                }
            return
        predicts = head.kind in ("language_model", "masked_language_model")
        if predicts and config.tie_embeddings:
            copy = next(name for name in architecture.TIED_COPIES if name.endswith(".weight"))
            theirs = copy.removesuffix(".weight")
            self.places[theirs] = Place(theirs, (Part(_HEAD, None),), False)
