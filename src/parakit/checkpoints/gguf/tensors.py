"""The weights of a GGUF file under their published names and in their published order of rows."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from parakit.checkpoints.gguf.families import GGUFFamily
from parakit.checkpoints.gguf.reader import GGUFFile
from parakit.checkpoints.gguf.rope import ROPE_FACTORS
from parakit.common.errors import UserError
from parakit.common.files import JsonObject

_NAME = re.compile(
    r"(?:blk\.(?P<layer>\d{1,5})\.)?(?P<part>\w+)(?:\.(?P<expert>\d{1,5}))?\.(?P<kind>weight|bias)"
)
_READ_ELSEWHERE = {ROPE_FACTORS}


def published_tensors(
    file: GGUFFile, family: GGUFFamily, config: JsonObject
) -> Iterator[tuple[str, np.ndarray]]:
    """Published name and float32 weights of every tensor, one at a time; a stack of experts as one tensor each.
    `config` is the converted config.json. Raises `UserError` naming a tensor that the family does not have.
    """
    for name in file.tensors:
        if name in _READ_ELSEWHERE:
            continue
        match = _NAME.fullmatch(name)
        if match is None:
            raise _unknown(file, name)
        part, kind = match["part"], match["kind"]
        if match["layer"] is None:
            if part not in family.trunk or match["expert"]:
                raise _unknown(file, name)
            yield f"{family.trunk[part]}.{kind}", _without_offset(file.weights(name), part, family)
            continue
        prefix = family.layer_prefix.format(int(match["layer"]))
        if match["expert"] and f"{part}_exps" in family.experts:  # files from before experts were stacked
            hf_part = family.experts[f"{part}_exps"].format(int(match["expert"]))
            yield f"{prefix}{hf_part}.{kind}", file.weights(name)
        elif part in family.experts and not match["expert"]:
            for i, weights in enumerate(file.weights(name)):
                yield f"{prefix}{family.experts[part].format(i)}.{kind}", weights
        elif part in family.layer and not match["expert"]:
            weights = _as_published(file.weights(name), part, kind, family, config, name)
            yield f"{prefix}{family.layer[part]}.{kind}", weights
        else:
            raise _unknown(file, name)


def _as_published(
    weights: np.ndarray, part: str, kind: str, family: GGUFFamily, config: JsonObject, name: str
) -> np.ndarray:
    if family.interleaved and part in ("attn_q", "attn_k"):
        n_heads = config["num_attention_heads" if part == "attn_q" else "num_key_value_heads"]
        if n_heads < 1 or len(weights) % (2 * n_heads):
            raise UserError(
                f"tensor {name!r} has {len(weights)} rows, which {n_heads} heads do not share in pairs",
                "the file is damaged: fetch it again",
            )
        return split_halves(weights, n_heads)
    if kind == "weight" and part in family.transposed:
        return weights.T
    return _without_offset(weights, part, family)


def _without_offset(weights: np.ndarray, part: str, family: GGUFFamily) -> np.ndarray:
    return (
        weights - np.float32(family.norm_offset) if part.endswith("norm") and family.norm_offset else weights
    )


def split_halves(weights: np.ndarray, n_heads: int) -> np.ndarray:
    """Rows (or biases) of each head in the published order, first half of its features before the second; llama.cpp
    stores them in pairs, because it rotates neighbouring features.
    """
    pairs = weights.reshape(n_heads, -1, 2, *weights.shape[1:])  # (heads, head_dim / 2, 2, inputs)
    return pairs.swapaxes(1, 2).reshape(weights.shape)


def _unknown(file: GGUFFile, name: str) -> UserError:
    return UserError(
        f"{file.path}: holds the tensor {name!r}, which Parakit does not know for "
        f"{file.metadata.get('general.architecture')}",
        "import the model's original folder, if Parakit loads it",
    )
