"""How a foreign tensor lies in our parameters, and what every architecture's file offers.

A foreign file may store a matrix turned, several of ours side by side (GPT-2's `c_attn`, ModernBERT's `Wqkv`), or
one expert of a stack. One record a foreign tensor says so, and serves both ways: reading copies each piece straight
to its place, writing joins the pieces again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from parakit.model.config import ClassifierConfig, EmbedderConfig, ModelConfig

HeadKind = Literal[
    "language_model",
    "masked_language_model",
    "sequence_to_sequence",
    "classifier",
    "reward_model",
    "embedder",
]


@dataclass(frozen=True)
class Head:
    """Which head a model has, and its settings where it has any."""

    kind: HeadKind
    classes: ClassifierConfig | None = None
    pooling: EmbedderConfig | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a foreign tensor and the parameter of ours (or the expert in it) that it fills."""

    ours: str
    rows: tuple[int, int] | None = None
    """First row and the row after the last, in our orientation; None: the whole tensor."""
    transposed: bool = False
    """The foreign file stores (inputs, outputs)."""
    expert: int | None = None
    """Which slice of our stacked (n_experts, ...) parameter."""


@dataclass(frozen=True, slots=True)
class NamedTensor:
    """One foreign tensor: its name, its shape in the file, and where its pieces go. A piece whose shape
    differs from its place only by axes of length 1 is reshaped.
    """

    theirs: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]


class Architecture(Protocol):
    """What each architecture's module offers, as module-level names. All of it is torch-free.

    Two more are looked for, and need not be there: `ALIASES`, other class names -> keys of `CLASSES`; and
    `settled(config, stored)`, the settings with what only the names of the stored tensors tell (an optional bias,
    say).
    """

    @property
    def MODEL_TYPE(self) -> str: ...

    @property
    def CLASSES(self) -> Mapping[str, str]:
        """transformers' class name (in config.json's `architectures`) for each `HeadKind` that this one has, and
        for "token_classifier"; the first is meant where a folder names none.
        """
        ...

    @property
    def PREFIX(self) -> str:
        """What the names of the trunk's tensors begin with under every head but the bare trunk ("model.")."""
        ...

    @property
    def RENAMED(self) -> Mapping[str, str]:
        """Endings of names in old files -> the endings that `named_tensors` uses (".gamma" -> ".weight")."""
        ...

    @property
    def TIED_COPIES(self) -> Mapping[str, str]:
        """Names that files may repeat -> the tensor they must equal, wherever `named_tensors` does not list
        them as tensors of their own.
        """
        ...

    def read_settings(self, foreign: Mapping[str, Any], where: str | Path) -> ModelConfig:
        """A parsed `config.json` as our settings; `UserError` names a key that we do not honour, and why."""
        ...

    def write_settings(self, config: Any) -> dict[str, Any]:
        """Our settings as the keys of a `config.json` (without `architectures`, labels, dtype and token ids).

        Called for every shape of the family: what this architecture cannot say is simply left out, and the
        registry, which reads the answer back and compares, then finds that it does not fit.
        """
        ...

    def read_classifier(self, foreign: Mapping[str, Any], level: str) -> dict[str, Any]:
        """`pooling`, `head` and `bias` of the `Classifier` that transformers computes for such a config.json;
        `level` is "sequence" or "token". Labels are the registry's business.
        """
        ...

    def write_classifier(self, classes: ClassifierConfig) -> dict[str, Any]:
        """Keys of config.json that say these (besides the labels); {} where there is no choice."""
        ...

    def named_tensors(self, config: Any, head: Head) -> Iterator[NamedTensor]:
        """Every foreign tensor of such a model; a tied matrix stands once, under the name that transformers
        saves.
        """
        ...

    def is_ignorable(self, theirs: str) -> bool:
        """Tensors that files carry and that no head of ours needs."""
        ...
