"""The weights of a model under llama.cpp's names and in its order of rows: the inverse of `tensors`.

Names and shapes are known before any weight is touched, as the header of a file needs them. A layer's experts, separate
in a folder, are stacked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from parakit.checkpoints.gguf.families import GGUFFamily
from parakit.common.errors import UserError
from parakit.common.files import JsonObject


@dataclass(frozen=True, slots=True)
class GGUFName:
    """Where a published tensor goes: the name in the file, what it is in a layer, and the number of an expert."""

    name: str
    part: str
    kind: str
    expert: int | None = None


class GGUFNames:
    """The names of one family's tensors in a file, by their published names."""

    def __init__(self, family: GGUFFamily) -> None:
        self._trunk = {hf: part for part, hf in family.trunk.items()}
        self._layer = {hf: part for part, hf in family.layer.items()}
        self._experts: dict[str, dict[str, str]] = {}  # what is before the number -> what is after it -> part
        for part, hf in family.experts.items():
            before, after = hf.split("{}")
            self._experts.setdefault(before, {})[after.removeprefix(".")] = part
        self._in_layer = re.compile(
            re.escape(family.layer_prefix).replace(r"\{\}", r"(\d+)") + r"(.+)\.(weight|bias)"
        )

    def of(self, hf_name: str) -> GGUFName:
        """Raises `UserError` for a tensor that the family does not have."""
        if match := self._in_layer.fullmatch(hf_name):
            layer, inner, kind = match.groups()
            for before, parts in self._experts.items():
                if inner.startswith(before):
                    number, _, rest = inner.removeprefix(before).partition(".")
                    if number.isdigit() and rest in parts:
                        part = parts[rest]
                        return GGUFName(f"blk.{layer}.{part}.{kind}", part, kind, int(number))
            if inner in self._layer:
                part = self._layer[inner]
                return GGUFName(f"blk.{layer}.{part}.{kind}", part, kind)
        stem, _, kind = hf_name.rpartition(".")
        if stem in self._trunk:
            return GGUFName(f"{self._trunk[stem]}.{kind}", self._trunk[stem], kind)
        raise UserError(
            f"the tensor {hf_name!r} has no name in llama.cpp",
            "export a plain folder instead: parakit export MODEL --output FOLDER",
        )


def gguf_shapes(
    names: GGUFNames, tensors: Iterable[tuple[str, tuple[int, ...]]], family: GGUFFamily
) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the file, from the published ones, in their order."""
    shapes: dict[str, tuple[int, ...]] = {}
    for hf_name, shape in tensors:
        place = names.of(hf_name)
        if place.kind == "weight" and place.part in family.transposed:
            shape = shape[::-1]
        if place.expert is None:
            shapes[place.name] = shape
        else:
            shapes[place.name] = (max(place.expert + 1, shapes.get(place.name, (0,))[0]), *shape)
    return shapes


def gguf_weights(
    names: GGUFNames,
    tensors: Iterable[tuple[str, np.ndarray]],
    shapes: Mapping[str, tuple[int, ...]],
    family: GGUFFamily,
    config: JsonObject,
) -> Iterator[tuple[str, np.ndarray]]:
    """Float32 weights of every tensor of the file; a stack of experts when its last one has come."""
    stacks: dict[str, list[np.ndarray]] = {}
    for hf_name, weights in tensors:
        place = names.of(hf_name)
        if place.expert is not None:
            stack = stacks.setdefault(place.name, [])
            stack.append(weights)
            if len(stack) == shapes[place.name][0]:
                yield place.name, np.stack(stacks.pop(place.name))
            continue
        yield place.name, _as_stored(weights, place, family, config)
    assert not stacks, list(stacks)


def _as_stored(weights: np.ndarray, place: GGUFName, family: GGUFFamily, config: JsonObject) -> np.ndarray:
    if family.interleaved and place.part in ("attn_q", "attn_k"):
        n_heads = config["num_attention_heads" if place.part == "attn_q" else "num_key_value_heads"]
        return join_halves(weights, n_heads)
    if place.kind == "weight" and place.part in family.transposed:
        return weights.T
    if place.part.endswith("norm") and family.norm_offset:
        return weights + np.float32(family.norm_offset)
    return weights


def join_halves(weights: np.ndarray, n_heads: int) -> np.ndarray:
    """Rows (or biases) of each head in llama.cpp's order, in pairs of one from each half: the inverse of
    `tensors.split_halves`.
    """
    halves = weights.reshape(n_heads, 2, -1, *weights.shape[1:])  # (heads, 2, head_dim / 2, inputs)
    return halves.swapaxes(1, 2).reshape(weights.shape)
