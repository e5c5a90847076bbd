"""The tensors of a layer: a matrix or a norm, and its bias."""

from __future__ import annotations

from collections.abc import Iterator

from parakit.checkpoints.mapping import HFTensor, TensorSlice


def linear(name: str, hf_name: str, outputs: int, inputs: int, bias: bool = True) -> Iterator[HFTensor]:
    """The matrix (outputs, inputs) of a linear layer, and its bias where it has one."""
    yield HFTensor(f"{hf_name}.weight", (outputs, inputs), (TensorSlice(f"{name}.weight"),))
    if bias:
        yield HFTensor(f"{hf_name}.bias", (outputs,), (TensorSlice(f"{name}.bias"),))


def stacked(names: list[str], hf_name: str, outputs: int, inputs: int, bias: bool) -> Iterator[HFTensor]:
    """One matrix (outputs, inputs) that concatenates those of `names`, which have equally many rows; and its bias."""
    rows = equal_rows(outputs, len(names))
    for kind, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
        if kind == "weight" or bias:
            slices = (TensorSlice(f"{name}.{kind}", one) for name, one in zip(names, rows, strict=True))
            yield HFTensor(f"{hf_name}.{kind}", shape, tuple(slices))


def equal_rows(n_rows: int, n_parts: int) -> list[tuple[int, int]]:
    """First row and row after the last of each of `n_parts` equal parts."""
    each = n_rows // n_parts
    return [(i * each, (i + 1) * each) for i in range(n_parts)]


def norm(name: str, hf_name: str, width: int, bias: bool = True) -> Iterator[HFTensor]:
    """The weight of a norm, and its bias where it has one."""
    for kind in ("weight", "bias") if bias else ("weight",):
        yield HFTensor(f"{hf_name}.{kind}", (width,), (TensorSlice(f"{name}.{kind}"),))


def tensor(name: str, hf_name: str, *shape: int) -> HFTensor:
    """A tensor that is one parameter."""
    return HFTensor(hf_name, shape, (TensorSlice(name),))
