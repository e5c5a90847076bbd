"""What the layers of a decoder read on calibration text, block by block, so that memory does not grow with depth.

The vectors before one block are held for all windows (N, T, D); a block is run on them as often as its layers need, then the
vectors move behind it. A `LayerGroup` is the layers of a block that read one tensor: queries, keys and values are one, and
share their statistics.

Shapes: N windows, T tokens, D width, B rows of a batch, I inputs of a layer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn

from parakit.model.heads import LanguageModel

TOKENS_PER_BATCH = 2048
LayerGroup = tuple[str, ...]
"""Names of layers inside a block that read the same tensor."""


class BlockInputs:
    """The vectors before `block`, for every window of `windows` (N, T)."""

    def __init__(self, model: LanguageModel, windows: Tensor) -> None:
        self.contexts: list[tuple[Any, ...]] = []
        self.batches: list[Tensor] = []  # (B, T, D)
        self._record_contexts(model, windows[:1])
        first = model.trunk.blocks[0]
        for rows in windows.split(max(1, TOKENS_PER_BATCH // windows.shape[1])):
            with _stopping_at(first, self.batches.append):
                model.trunk(rows)

    def run(self, number: int, block: nn.Module, batch: int) -> Tensor:
        """Block `number`, as `block` is now, on one batch."""
        result: Tensor = block(self.batches[batch], *self.contexts[number])
        return result

    def advance(self, number: int, block: nn.Module, names: Collection[str] = ()) -> list[dict[str, Tensor]]:
        """Move all batches behind block `number`; what its layers `names` read on the way, batch by batch."""
        found = []
        for batch in range(len(self.batches)):
            read, self.batches[batch] = layer_inputs(block, names, partial(self.run, number, block, batch))
            found.append(read)
        return found

    def stages(self, number: int, block: nn.Module, names: Collection[str]) -> list[LayerGroup]:
        """The layers `names` of a block by the tensor that they read. A layer that is not called is in none."""
        read: list[tuple[Tensor, list[str]]] = []

        def record(name: str) -> Callable[[Tensor], None]:
            def note(x: Tensor) -> None:
                for tensor, found in read:
                    if tensor is x:
                        found.append(name)
                        return
                read.append((x, [name]))

            return note

        handles = [_hook(block.get_submodule(name), record(name)) for name in names]
        block(self.batches[0][:1], *self.contexts[number])
        for handle in handles:
            handle.remove()
        return [tuple(found) for _, found in read]

    def _record_contexts(self, model: LanguageModel, row: Tensor) -> None:
        """What each block gets besides its vectors: positions and masks, the same for all rows."""
        handles = [
            block.register_forward_pre_hook(lambda _, inputs: self.contexts.append(inputs[1:]))
            for block in model.trunk.blocks
        ]
        model.trunk(row)
        for handle in handles:
            handle.remove()


class Hessians:
    """Sums over tokens of x x^T of what some layers read: `mean(name)` (I, I), float32."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.n_tokens: dict[str, int] = {}

    def add(self, name: str, x: Tensor, other: Tensor | None = None) -> None:
        """Count x (..., I), or the products of `other` with it: u x^T."""
        x = x.detach().flatten(0, -2).float()
        u = x if other is None else other.detach().flatten(0, -2).float()
        product = u.T @ x
        self.sums[name] = self.sums[name].add_(product) if name in self.sums else product
        self.n_tokens[name] = self.n_tokens.get(name, 0) + len(x)

    def mean(self, name: str) -> Tensor:
        """The mean over all tokens counted."""
        return self.sums[name] / self.n_tokens[name]


def layer_inputs(
    block: nn.Module, names: Collection[str], forward: Callable[[], Tensor]
) -> tuple[dict[str, Tensor], Tensor]:
    """What the layers `names` read in `forward`, by name, and its result."""
    found: dict[str, Tensor] = {}
    handles = [_hook(block.get_submodule(name), partial(found.__setitem__, name)) for name in names]
    result = forward()
    for handle in handles:
        handle.remove()
    return found, result


def input_of(block: nn.Module, name: str, forward: Callable[[], object]) -> Tensor:
    """What layer `name` reads in `forward`, which ends there."""
    found: list[Tensor] = []
    with _stopping_at(block.get_submodule(name), found.append):
        forward()
    return found[0]


class _Reached(Exception):
    """The forward pass went as far as it was needed."""


def _hook(module: nn.Module, read: Callable[[Tensor], object]) -> Any:
    return module.register_forward_pre_hook(lambda _, inputs: read(inputs[0]) and None)


@contextlib.contextmanager
def _stopping_at(module: nn.Module, read: Callable[[Tensor], object]) -> Iterator[None]:
    """`read` gets what `module` reads inside the block, and the forward pass ends there."""

    def note(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        read(inputs[0])
        raise _Reached

    handle = module.register_forward_pre_hook(note)
    try:
        yield
    except _Reached:
        pass
    finally:
        handle.remove()
