"""What differs between two checkpoints of one shape, matrix by matrix and layer by layer; of an adapter, what it changed.

A matrix of the second is A + (B - A). Its difference has a size (Frobenius norm over the norm of A), a direction (the
cosine between A and B), and a rank: the effective rank of Roy and Vetterli (2007), exp of the entropy of the singular
values' shares, which for a LoRA is at most its rank. Computed in float64. Left out: experts' matrices one by one (the
stack of a layer is one matrix), and models of different shapes, for which nothing of this is defined.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from parakit.checkpoints.adapters import load_with_adapter
from parakit.checkpoints.adapters.base_model import base_folder, is_adapter_folder
from parakit.checkpoints.loading import load_model
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import progress
from parakit.model.adapters.attachment import wrappers_of
from parakit.model.adapters.lora import FullyTrained, LowRankWrapper
from parakit.model.adapters.trainable_tokens import TrainableTokens, TrainableTokensHead
from parakit.model.heads import TransformerModel
from parakit.model.quantized import dequantize_modules

N_SINGULAR_VALUES = 8
ROUNDING = 1e-7  # of the largest singular value: smaller ones are rounding errors
OUTSIDE = "outside the layers"
_LAYER = re.compile(r"(?:^|\.)blocks\.(\d+)\.")


@dataclass(frozen=True)
class MatrixDifference:
    """One parameter of two checkpoints. `singular_values`: the largest of B - A, largest first; empty for a vector (a norm's
    weight, a bias), whose `effective_rank` is 1, or 0 where nothing changed.
    """

    name: str
    layer: str
    """Such as "3", "encoder 3", or "outside the layers"."""
    matrix: str
    """The name inside the layer, such as "attention.query"."""
    shape: tuple[int, ...]
    norm: float
    """Frobenius norm of A."""
    difference_norm: float
    """Frobenius norm of B - A."""
    relative_norm: float
    """`difference_norm` over `norm`; infinite where A is zero and B is not."""
    cosine: float
    """Between A and B as vectors; 1 where both are zero, 0 where one is."""
    singular_values: np.ndarray
    effective_rank: float


@dataclass(frozen=True)
class LayerDifference:
    """All parameters of a layer together."""

    layer: str
    relative_norm: float
    cosine: float
    n_parameters: int
    n_changed: int
    """Parameters that are not bit-equal in both."""


@dataclass(frozen=True)
class CheckpointDifference:
    """Two checkpoints. Rows are in the model's order."""

    first: str
    second: str
    matrices: tuple[MatrixDifference, ...]
    layers: tuple[LayerDifference, ...]

    def to_json(self) -> JsonObject:
        """Everything, as JSON has it."""
        rows = [
            vars(row) | {"shape": list(row.shape), "singular_values": row.singular_values.tolist()}
            for row in self.matrices
        ]
        return {
            "first": self.first,
            "second": self.second,
            "layers": [dict(vars(row)) for row in self.layers],
            "matrices": rows,
        }


def compare_checkpoints(first: str | Path, second: str | Path | None = None) -> CheckpointDifference:
    """The difference second - first of two model folders, or of an adapter's folder `first` and its base (second None).

    Of an adapter and another model the adapter is merged. Raises `UserError` for checkpoints of different shapes, naming
    the first parameters that differ, and for one model without a second.
    """
    if second is None:
        if not is_adapter_folder(first):
            raise UserError(
                f"{first}: is one model, and a difference is between two",
                "name a second model, or the folder of an adapter, which is compared with its base",
            )
        first, second = base_folder(first), first
    a, b = weights_of(first), weights_of(second)
    check_shapes(a, b, str(first), str(second))
    _drop_tied(a, b)
    with progress("compare", len(a), "matrices") as bar:
        matrices = []
        for row in matrix_differences(a, b):
            matrices.append(row)
            bar.advance()
    return CheckpointDifference(str(first), str(second), tuple(matrices), tuple(_by_layer(matrices, a, b)))


def weights_of(path: str | Path) -> dict[str, torch.Tensor]:
    """The parameters of a model folder by name, on the CPU, in float32, or in float64 where an adapter is merged into them;
    quantized ones dequantized, tied ones under both names. `UserError` for an adapter that changes no weights.
    """
    model, _ = (load_with_adapter if is_adapter_folder(path) else load_model)(path, "cpu", "float32")
    dequantize_modules(model)
    return merged_weights(model, str(path))


@torch.no_grad()
def merged_weights(model: TransformerModel, where: str = "the adapter") -> dict[str, torch.Tensor]:
    """The parameters of a model under the names of the plain model; those that an attached adapter changes as they would be
    merged, in float64.
    """
    merged: dict[str, torch.Tensor] = {}
    wrappers = dict(wrappers_of(model))
    for place, wrapper in wrappers.items():
        if isinstance(wrapper, FullyTrained):
            merged |= {f"{place}.{name}": p for name, p in wrapper.copy.named_parameters()}
        elif isinstance(wrapper, LowRankWrapper | TrainableTokens | TrainableTokensHead):
            merged[f"{place}.weight"] = wrapper.merged_weight()
        else:
            raise UserError(
                f"{where}: adds vectors in front of the text and changes no weights",
                "compare the answers instead: `parakit compare` measures both models",
            )
    weights: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owner = next((place for place in wrappers if name.startswith(f"{place}.")), None)
        if owner is not None and not name.startswith(f"{owner}.base."):
            continue  # of the adapter
        plain = name if owner is None else owner + name.removeprefix(f"{owner}.base")
        weights[plain] = merged.get(plain, parameter).detach()
    return weights


def _drop_tied(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    """Remove the later names of parameters that are tied in both."""
    seen: set[tuple[int, int]] = set()
    for name in list(first):
        key = (first[name].data_ptr(), second[name].data_ptr())
        if key in seen:
            del first[name], second[name]
        seen.add(key)


def check_shapes(
    first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor], name: str, other: str
) -> None:
    """Raise `UserError` unless both have the same parameters with the same shapes."""
    if missing := sorted(first.keys() ^ second.keys()):
        where = name if missing[0] in first else other
        raise UserError(
            f"{name} and {other} are models of different shapes: {len(missing)} parameters are in one of them only,"
            f" such as {missing[0]} in {where}",
            "a difference needs two checkpoints of one architecture and one size",
        )
    unlike = [key for key in first if first[key].shape != second[key].shape]
    if unlike:
        key = unlike[0]
        raise UserError(
            f"{name} and {other} are models of different shapes: {key} is {_size(first[key])} in one and"
            f" {_size(second[key])} in the other ({len(unlike)} parameters differ)",
            "a difference needs two checkpoints of one architecture and one size",
        )


def matrix_differences(
    first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]
) -> Iterator[MatrixDifference]:
    """One row for each parameter, as it is computed."""
    for name, a in first.items():
        yield _difference(name, a.double(), second[name].double())


def singular_values(matrix: torch.Tensor) -> torch.Tensor:
    """All singular values of a matrix (M, N), largest first, in its own precision.

    From the eigenvalues of the smaller of the two products with its transpose, which for an embedding of 50,000 rows is a
    thousandth of the work of a decomposition; values under `ROUNDING` of the largest are rounding errors.
    """
    rows, columns = matrix.shape
    gram = matrix.T @ matrix if rows > columns else matrix @ matrix.T
    return torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().flip(0)


def effective_rank(values: torch.Tensor) -> float:
    """exp of the entropy of singular values as shares of their sum (Roy and Vetterli 2007); 0 for a zero matrix."""
    if not bool((values > 0).any()):
        return 0.0
    values = values[values > ROUNDING * values.max()]
    shares = values / values.sum()
    return float(torch.exp(-(shares * shares.log()).sum()))


def _difference(name: str, a: torch.Tensor, b: torch.Tensor) -> MatrixDifference:
    change = b - a
    norm, size = float(a.norm()), float(change.norm())
    layer, matrix = layer_of(name)
    values = torch.zeros(0, dtype=a.dtype)
    rank = 1.0 if size else 0.0
    if a.ndim > 1:
        values = singular_values(change.reshape(-1, a.shape[-1])) if size else values.new_zeros(1)
        rank = effective_rank(values)
    return MatrixDifference(
        name,
        layer,
        matrix,
        tuple(a.shape),
        norm,
        size,
        _ratio(size, norm),
        _cosine(float((a * b).sum()), norm, float(b.norm())),
        values[:N_SINGULAR_VALUES].numpy(),
        rank,
    )


def _by_layer(
    rows: list[MatrixDifference], a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]
) -> Iterator[LayerDifference]:
    for layer in dict.fromkeys(row.layer for row in rows):
        names = [row.name for row in rows if row.layer == layer]
        norms = [float(sum((w[name].double() ** 2).sum() for name in names)) ** 0.5 for w in (a, b)]
        dot = float(sum((a[name].double() * b[name].double()).sum() for name in names))
        size = sum(row.difference_norm**2 for row in rows if row.layer == layer) ** 0.5
        changed = sum(int((a[name].double() != b[name].double()).sum()) for name in names)
        n = sum(a[name].numel() for name in names)
        yield LayerDifference(layer, _ratio(size, norms[0]), _cosine(dot, *norms), n, changed)


def layer_of(name: str) -> tuple[str, str]:
    """Layer and name inside it of a parameter: "trunk.blocks.3.attention.query.weight" is ("3", "attention.query")."""
    found = _LAYER.search(name)
    inner = name[found.end() :] if found else name.removeprefix("trunk.")
    inner = inner.removesuffix(".weight")
    if found is None:
        return OUTSIDE, inner
    stack = next((side for side in ("encoder", "decoder") if f"{side}.blocks" in name), "")
    return f"{stack} {found[1]}".strip(), inner


def _ratio(size: float, norm: float) -> float:
    return size / norm if norm else (float("inf") if size else 0.0)


def _cosine(dot: float, first: float, second: float) -> float:
    if first == 0.0 or second == 0.0:
        return float(first == second)
    return max(-1.0, min(1.0, dot / (first * second)))


def _size(tensor: torch.Tensor) -> str:
    return " x ".join(map(str, tensor.shape))
