"""Which kind each tensor of a file gets, for the types of whole files that people know: `Q8_0`, `Q4_K_M` ...

As llama.cpp chooses them: norms, biases, routers and learned positions stay float32. The matrix that gives the logits,
which may be the tied embedding, is kept finer. `Q4_K_M` is 4 bits, and 6 in the values and the second feed-forward
matrices of half the layers: the first eighth, the last, and every third between them. Rows that do not divide into a
kind's blocks take the next kind of 32 weights a block, and float16 where not even these fit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, get_args

from parakit.checkpoints.gguf.dequantization import BLOCKS
from parakit.checkpoints.gguf.families import EMBEDDING, OUTPUT
from parakit.checkpoints.gguf.writer import TensorPlan

GGUFType = Literal["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M"]
GGUF_TYPES: tuple[GGUFType, ...] = get_args(GGUFType)
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7, "Q4_K_M": 15, "BF16": 32}
"""`general.file_type`"""
_FALLBACK = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
_EXACT = re.compile(r"(?:.*_norm|.*ffn_gate_inp|position_embd)\.weight|.*\.bias|rope_.*")
_LAYER = re.compile(r"blk\.(\d+)\.(\w+)\.weight")
_EIGHT_EXPERTS = 8  # Mixtral's: a matrix of attention is small next to those, and is kept finer


def plan_tensors(
    tensors: Sequence[tuple[str, tuple[int, ...]]], file_type: GGUFType, n_layers: int, n_experts: int
) -> list[TensorPlan]:
    """The kind of every tensor, given as name and shape in llama.cpp's terms."""
    head = OUTPUT if any(name == OUTPUT for name, _ in tensors) else EMBEDDING
    plans = []
    for name, shape in tensors:
        if len(shape) == 1 or _EXACT.fullmatch(name):
            kind = "F32"
        elif file_type in ("F32", "F16", "BF16"):
            kind = file_type
        elif name == head:
            kind = "Q8_0" if file_type == "Q8_0" else "Q6_K"
        else:
            kind = _layer_kind(name, file_type, n_layers, n_experts)
        plans.append(TensorPlan(name, shape, _fitting(kind, shape[-1])))
    return plans


def _layer_kind(name: str, file_type: GGUFType, n_layers: int, n_experts: int) -> str:
    match = _LAYER.fullmatch(name)
    layer, part = (int(match[1]), match[2]) if match else (0, "")
    if file_type != "Q4_K_M":
        return "Q8_0" if n_experts == _EIGHT_EXPERTS and part in ("attn_k", "attn_v") else file_type
    if part in ("attn_k", "attn_v") and n_experts == _EIGHT_EXPERTS:
        return "Q8_0"
    if part == "attn_v" or part.startswith("ffn_down"):
        return "Q6_K" if _is_finer(layer, n_layers) else "Q4_K"
    if part == "attn_qkv" or (part == "attn_output" and n_experts == _EIGHT_EXPERTS):
        return "Q5_K"
    return "Q4_K"


def _is_finer(layer: int, n_layers: int) -> bool:
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2


def _fitting(kind: str, row: int) -> str:
    if row % BLOCKS[kind][0]:
        kind = _FALLBACK.get(kind, kind)
    return kind if row % BLOCKS[kind][0] == 0 else "F16"
