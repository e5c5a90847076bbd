"""Cost against length: memory and time of full, local, linear and low-rank attention for 256 to 16,384 tokens.

One attention layer, one row, float32; a process of its own for each kind and length. "forward" is a pass in inference
mode, "train" a pass forward and backward. Memory is what the process's peak rose by during the first pass. The
exponent is the slope of a least-squares line through (log length, log cost) from 1,024 tokens on, where what every
call costs no longer counts. "all scores formed" is full attention without a fused kernel. Writes
results/attention_length.json and docs/attention-length.png.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import resource
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, interleaved, run_process
from benchmarks.pictures import draw_cost_against_length
from benchmarks.registry import NO_TARGET, Figures, benchmark

PICTURE = ROOT / "docs" / "attention-length.png"
LENGTHS = (256, 512, 1024, 2048, 4096, 8192, 16_384)
FITTED_FROM = 1024
MODES, COSTS = ("forward", "train"), ("milliseconds", "mebibytes")
SHAPE = {
    "vocab_size": 1,
    "d_model": 256,
    "n_layers": 1,
    "n_heads": 4,
    "n_kv_heads": 4,
    "head_dim": 64,
    "d_ff": 1,
}
WINDOW, LOW_RANK_LEN = 256, 128
NO_CAP = 1e9  # scores are formed to be capped, and this cap changes none
KINDS: Mapping[str, dict[str, Any]] = {
    "full": {},
    "local": {"sliding_window": WINDOW},
    "linear": {"attention": "linear"},
    "low rank": {"attention": "low_rank", "low_rank_len": LOW_RANK_LEN},
    "full, causal": {"causal": True},
    "local, causal": {"causal": True, "sliding_window": WINDOW},
    "linear, causal": {"causal": True, "attention": "linear"},
    "all scores formed": {"attention_soft_cap": NO_CAP},
}
LIMITS = {kind: NO_TARGET if kind.startswith(("full", "all")) else "<= 1.2" for kind in KINDS}
LONGEST = {"all scores formed": 4096}  # four times the length, sixteen times the memory


@benchmark("attention_length", {
    **{f"*.{kind}.exponent.milliseconds": (limit, f"{{0}}, {kind}: exponent of time in length")
       for kind, limit in LIMITS.items()},
    **{f"*.{kind}.exponent.mebibytes": (NO_TARGET, f"{{0}}, {kind}: exponent of memory in length") for kind in LIMITS},
})  # fmt: skip
def attention_length(
    *,
    lengths: tuple[int, ...] = LENGTHS,
    kinds: tuple[str, ...] = tuple(KINDS),
    rounds: int = 3,
    seconds: float = 1.0,
    threads: int = len(os.sched_getaffinity(0)),
) -> Figures:
    """Every kind at every length; `seconds` is how long one measurement repeats a pass."""
    common = {"seconds": seconds, "threads": threads}
    sides = {
        f"{kind} {n}": partial(_in_a_process, {"kind": kind, "n_tokens": n} | common)
        for n in lengths
        for kind in kinds
        if n <= LONGEST.get(kind, n)
    }
    measured = interleaved(sides, rounds)
    figures: Figures = {
        "shape": SHAPE | {"window": WINDOW, "low_rank_len": LOW_RANK_LEN, "rows": 1, "threads": threads}
    }
    for mode in MODES:
        figures[mode] = {kind: _of_kind(measured, mode, kind, lengths) for kind in kinds}
    if sum(n >= FITTED_FROM for n in lengths) >= 2:
        draw_cost_against_length(PICTURE, figures, kinds, COSTS, MODES)
    return figures


def _of_kind(measured: Mapping[str, Figures], mode: str, kind: str, lengths: Sequence[int]) -> Figures:
    """Costs by length, and their exponents."""
    rows = {n: measured[f"{kind} {n}"] for n in lengths if f"{kind} {n}" in measured}
    found: Figures = {"exponent": {}}
    for cost in COSTS:
        found[cost] = {str(n): row[f"{mode} {cost}"] for n, row in rows.items()}
        found["exponent"][cost] = exponent({n: row[f"{mode} {cost}"]["median"] for n, row in rows.items()})
    return found


def exponent(costs: Mapping[int, float]) -> float | None:
    """The slope of log cost against log length, by least squares; None from fewer than two lengths."""
    points = [(math.log(n), math.log(cost)) for n, cost in costs.items() if n >= FITTED_FROM and cost > 0]
    if len(points) < 2:
        return None
    slope, _ = statistics.linear_regression(*zip(*points, strict=True))
    return round(slope, 3)


def _in_a_process(job: Mapping[str, Any]) -> Figures:
    command = [sys.executable, "-m", "benchmarks.speed.attention_length", json.dumps(job)]
    return run_process(command, environment={"OMP_NUM_THREADS": str(job["threads"])}).figures


def measure(kind: str, n_tokens: int, seconds: float, threads: int) -> Figures:
    """One layer at one length: in each mode the memory of the first pass and the median time of the others."""
    import torch

    from parakit.model.config import DecoderConfig, EncoderConfig
    from parakit.model.layers.blocks import Block

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    choices = dict(KINDS[kind])
    causal = choices.pop("causal", False)
    of_family = DecoderConfig if causal else EncoderConfig
    config = of_family(**SHAPE | choices, positions="none", query_key_norm=False, max_seq_len=n_tokens)
    layer = Block(config, 0, causal).attention
    for weight in layer.parameters():
        torch.nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)

    def forward(n: int) -> None:
        with torch.inference_mode():
            layer(torch.randn(1, n, config.d_model), None, None, None)

    def train(n: int) -> None:
        layer(torch.randn(1, n, config.d_model), None, None, None).square().mean().backward()
        layer.zero_grad()

    found: Figures = {}
    for mode, one_pass in zip(MODES, (forward, train), strict=True):
        one_pass(min(64, n_tokens))  # what libraries set up once is not the layer's
        before = _forget_peak()
        one_pass(n_tokens)
        found[f"{mode} mebibytes"] = max((_peak() - before) / 2**20, 2**-10)
        times: list[float] = []
        while sum(times) < seconds or len(times) < 3:
            started = time.perf_counter()
            one_pass(n_tokens)
            times.append(time.perf_counter() - started)
        found[f"{mode} milliseconds"] = 1e3 * statistics.median(times)
    return found


def _forget_peak() -> int:
    """Bytes in use now; on Linux the peak starts again from here, and freed memory goes back to the system."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return _peak()
    return _status("VmRSS")


def _peak() -> int:
    """The most bytes that were in use."""
    if Path("/proc/self/status").exists():
        return _status("VmHWM")
    per_unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * per_unit


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":  # the process that measures
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
