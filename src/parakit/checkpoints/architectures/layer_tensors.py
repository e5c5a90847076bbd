"""Foreign tensors that come in pairs: a matrix or a norm, and its bias."""

from __future__ import annotations

from collections.abc import Iterator

from parakit.checkpoints.mapping import NamedTensor, Piece


def linear(ours: str, theirs: str, outputs: int, inputs: int, bias: bool = True) -> Iterator[NamedTensor]:
    """The matrix (outputs, inputs) of a linear layer, and its bias where it has one."""
    yield NamedTensor(f"{theirs}.weight", (outputs, inputs), (Piece(f"{ours}.weight"),))
    if bias:
        yield NamedTensor(f"{theirs}.bias", (outputs,), (Piece(f"{ours}.bias"),))


def stacked(ours: list[str], theirs: str, outputs: int, inputs: int, bias: bool) -> Iterator[NamedTensor]:
    """One matrix (outputs, inputs) that holds those of `ours`, all equally high, one below the other."""
    each = outputs // len(ours)
    rows = [(i * each, (i + 1) * each) for i in range(len(ours))]
    for kind, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
        if kind == "weight" or bias:
            pieces = (Piece(f"{name}.{kind}", part) for name, part in zip(ours, rows, strict=True))
            yield NamedTensor(f"{theirs}.{kind}", shape, tuple(pieces))


def norm(ours: str, theirs: str, width: int, bias: bool = True) -> Iterator[NamedTensor]:
    """The weight of a norm, and its bias where it has one."""
    for kind in ("weight", "bias") if bias else ("weight",):
        yield NamedTensor(f"{theirs}.{kind}", (width,), (Piece(f"{ours}.{kind}"),))


def table(ours: str, theirs: str, rows: int, columns: int) -> NamedTensor:
    """A table (rows, columns): an embedding, or positions."""
    return NamedTensor(theirs, (rows, columns), (Piece(ours),))
