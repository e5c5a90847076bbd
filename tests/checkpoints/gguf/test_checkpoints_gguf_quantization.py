"""Quantized blocks against the `gguf` package, byte for byte, and K-quants by what they lose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType

from parakit.checkpoints.gguf.dequantization import BLOCKS, dequantize
from parakit.checkpoints.gguf.quantization import quantize
from parakit.checkpoints.gguf.reader import read_gguf
from parakit.checkpoints.gguf.tensor_types import GGUF_TYPES, plan_tensors
from parakit.common.errors import UserError


def some_weights(rows: int = 24) -> np.ndarray:
    """Rows of 256: normal, tiny, all of one sign, with outliers, and zeros."""
    weights = np.random.default_rng(0).standard_normal((rows, 256)).astype(np.float32)
    weights[1] *= 1e-6
    weights[2] = np.abs(weights[2])
    weights[3] = -np.abs(weights[3])
    weights[4, ::37] *= 40
    weights[5, :64] = 0
    weights[6] = 0
    return weights


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q5_0", "Q5_1"])
def test_bytes_are_those_of_the_gguf_package(kind: str) -> None:
    weights = some_weights()
    expected = gguf.quants.quantize(weights, GGMLQuantizationType[kind])
    assert quantize(weights, kind).tobytes() == np.ascontiguousarray(expected).tobytes()


@pytest.mark.parametrize(("kind", "bits"), [("Q4_K", 4), ("Q5_K", 5), ("Q6_K", 6)])
def test_k_quants_lose_less_than_plain_rounding(kind: str, bits: int) -> None:
    """The gguf package reads the blocks as Parakit does, and the error is that of a well chosen grid: of normal weights
    0.0052 of the variance in 4 bits (plain rounding, Q4_0, loses 0.0073), a quarter of it for every bit more.
    """
    weights = np.random.default_rng(1).standard_normal((64, 512)).astype(np.float32)
    packed = quantize(weights, kind)
    mine = dequantize(packed, kind)
    blocks = packed.reshape(-1, BLOCKS[kind][1])
    expected = gguf.quants.dequantize(blocks, GGMLQuantizationType[kind])
    assert np.array_equal(mine, expected.reshape(-1))
    error = float(np.square(mine.reshape(weights.shape) - weights).mean())
    assert error < 0.0052 / 4 ** (bits - 4)
    hard = some_weights()
    restored = dequantize(quantize(hard, kind), kind).reshape(hard.shape)
    assert np.isfinite(restored).all()
    assert np.array_equal(restored[6], hard[6])
    for row, back in zip(hard[[0, 2, 3, 4]], restored[[0, 2, 3, 4]], strict=True):
        assert np.linalg.norm(row - back) < 0.15 * np.linalg.norm(row)


def test_weights_beyond_float16_are_refused() -> None:
    weights = np.full((1, 256), 70_000, np.float32)
    for kind in ("F16", "Q8_0", "Q4_K"):
        with pytest.raises(UserError, match="70000"):
            quantize(weights, kind)
    assert len(quantize(weights, "BF16")) == 512


def test_rows_that_do_not_divide_take_another_kind() -> None:
    tensors = [("blk.0.ffn_down.weight", (8, 96)), ("blk.3.ffn_down.weight", (8, 96))]
    tensors += [
        ("blk.0.ffn_up.weight", (8, 40)),
        ("token_embd.weight", (50, 256)),
        ("output.weight", (50, 96)),
    ]
    kinds = {plan.name: plan.kind for plan in plan_tensors(tensors, "Q4_K_M", 8, 0)}
    assert kinds == {
        "blk.0.ffn_down.weight": "Q8_0",  # 6 bits in the first eighth, and 96 is no multiple of 256
        "blk.3.ffn_down.weight": "Q8_0",
        "blk.0.ffn_up.weight": "F16",  # 40 is no multiple of 32
        "token_embd.weight": "Q4_K",
        "output.weight": "Q8_0",
    }


@pytest.mark.long
@pytest.mark.parametrize("file_type", GGUF_TYPES)
def test_types_and_errors_are_llama_cpps(file_type: str, published_model: Callable[[str], Path]) -> None:
    """llama.cpp's own files of the real model. Its Q4_0 file was written with one type for all tensors."""
    folder = published_model("smollm2").parents[1] / "smollm2-gguf"
    if not folder.is_dir():
        pytest.skip(f"{folder}: no files of llama.cpp there")
    source, other = read_gguf(folder / "F32.gguf"), read_gguf(folder / f"{file_type}.gguf")
    plans = plan_tensors([(name, t.shape) for name, t in other.tensors.items()], file_type, 30, 0)
    differ = {p.name: p.kind for p in plans if p.kind != other.tensors[p.name].kind}
    assert differ == ({"token_embd.weight": "Q8_0"} if file_type == "Q4_0" else {})
    seen = set()
    for name, tensor in other.tensors.items():
        if (tensor.kind, tensor.shape) in seen or tensor.kind == "F32":
            continue
        seen.add((tensor.kind, tensor.shape))
        weights = source.weights(name)
        mine = dequantize(quantize(weights, tensor.kind), tensor.kind).reshape(weights.shape)
        errors = [float(np.square(one - weights).mean()) for one in (mine, other.weights(name))]
        assert errors[0] <= 1.02 * errors[1], (name, tensor.kind)
