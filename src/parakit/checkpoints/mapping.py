"""How the tensors of a Hugging Face folder correspond to a model's parameters, and the interface of an architecture.

A tensor of the folder may be stored transposed, may concatenate several parameters (GPT-2's `c_attn`, ModernBERT's
`Wqkv`), or may be one expert of a stacked parameter. One `HFTensor` describes that and serves both directions: loading
copies each slice into its parameter, saving concatenates the slices again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from parakit.checkpoints.hf_config import HFConfig
from parakit.common.files import JsonObject
from parakit.model.config import ClassifierConfig, EmbedderConfig, ModelConfig

if TYPE_CHECKING:
    from torch import Tensor

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
class TensorSlice:
    """A slice of an `HFTensor`, and the parameter `name` (or the expert in it) that it fills."""

    name: str
    rows: tuple[int, int] | None = None
    """First row and the row after the last, of the matrix as (outputs, inputs); None: the whole tensor."""
    groups: int = 1
    """The tensor's rows are this many equal groups, one a head (GPT-NeoX); `rows` are those within each."""
    transposed: bool = False
    """The file stores (inputs, outputs), in a stack of experts (experts, inputs, outputs)."""
    stacked: bool = False
    """The tensor stacks all experts, as the parameter does; `rows` are those of each expert."""
    expert: int | None = None
    """Index into a stacked (n_experts, ...) parameter."""


@dataclass(frozen=True, slots=True)
class HFTensor:
    """One tensor of a folder: its name and shape in the file, and the slices that it consists of. A slice whose shape
    differs from its parameter's only by axes of length 1 is reshaped.
    """

    hf_name: str
    shape: tuple[int, ...]
    slices: tuple[TensorSlice, ...]

    def sorted_slices(self) -> list[TensorSlice]:
        """In the order of their rows."""
        return sorted(self.slices, key=lambda one: one.rows or (0, 0))


def take_rows(tensor: Tensor, rows: tuple[int, int] | None, groups: int = 1, axis: int = 0) -> Tensor:
    """The rows of one slice of `tensor`, along `axis`; see `TensorSlice`."""
    if rows is None:
        return tensor
    first, last = rows
    if groups == 1:
        return tensor.narrow(axis, first, last - first)
    grouped = tensor.unflatten(axis, (groups, -1)).narrow(axis + 1, first, last - first)
    return grouped.flatten(axis, axis + 1)


def join_rows(parts: Sequence[Tensor], groups: int = 1, axis: int = 0) -> Tensor:
    """The slices of a tensor, in the order of their rows, joined again: the inverse of `take_rows`."""
    import torch

    if groups == 1:
        return parts[0] if len(parts) == 1 else torch.cat(list(parts), axis)
    grouped = [part.unflatten(axis, (groups, -1)) for part in parts]
    return torch.cat(grouped, axis + 1).flatten(axis, axis + 1)


def stored_tensors(
    architecture: Architecture, config: Any, head: Head, stored: Collection[str]
) -> Iterator[HFTensor]:
    """`architecture.hf_tensors`, in the layout of a folder with tensors of these names."""
    special = getattr(architecture, "stored_tensors", None)
    tensors: Iterator[HFTensor] = (
        special(config, head, stored) if special else architecture.hf_tensors(config, head)
    )
    return tensors


class Architecture(Protocol):
    """What the module of an architecture defines at its top level. All of it is torch-free.

    Four names are optional: `ALIASES`, further class names -> keys of `CLASSES`; `finalize(config, stored)`, which
    completes a config with what only the names of the stored tensors reveal, such as an optional bias;
    `stored_tensors(config, head, stored)`, which is `hf_tensors` in the layout that these names reveal, where published
    folders have another than the one that is written; and `OTHER_PREFIX`, which files have instead of `PREFIX`.
    """

    @property
    def MODEL_TYPE(self) -> str: ...

    @property
    def CLASSES(self) -> Mapping[str, str]:
        """transformers' class name (in config.json's `architectures`) for each supported `HeadKind` and for
        "token_classifier"; the first is the default of a folder that names none.
        """
        ...

    @property
    def PREFIX(self) -> str:
        """The prefix ("model.") of the trunk's tensors under every head but the bare trunk."""
        ...

    @property
    def RENAMED(self) -> Mapping[str, str]:
        """Suffixes of names in old files -> the suffixes in `hf_tensors` (".gamma" -> ".weight")."""
        ...

    @property
    def TIED_COPIES(self) -> Mapping[str, str]:
        """Tensors that files may repeat -> the tensor that they must equal, unless `hf_tensors` lists them as tensors
        of their own.
        """
        ...

    def read_settings(self, hf_config: HFConfig, where: str | Path) -> ModelConfig:
        """A parsed `config.json` as a `ModelConfig`; `UserError` names an unsupported key, and why."""
        ...

    def write_settings(self, config: Any) -> JsonObject:
        """A config as the keys of a `config.json` (without `architectures`, labels, dtype and token ids).

        Called for every config of the family: a setting that this architecture cannot express is left out, and the
        registry, which reads the result back and compares, then finds that it does not fit.
        """
        ...

    def read_classifier(self, hf_config: HFConfig, level: str) -> JsonObject:
        """`pooling`, `head` and `bias` of the `Classifier` that transformers computes for such a config.json;
        `level` is "sequence" or "token". The registry reads the labels.
        """
        ...

    def write_classifier(self, classes: ClassifierConfig) -> JsonObject:
        """Keys of config.json that express these (without the labels); {} where there is no choice."""
        ...

    def hf_tensors(self, config: Any, head: Head) -> Iterator[HFTensor]:
        """Every tensor of such a model; a tied matrix once, under the name that transformers saves."""
        ...

    def is_ignorable(self, hf_name: str) -> bool:
        """Whether files carry this tensor and no head uses it."""
        ...
