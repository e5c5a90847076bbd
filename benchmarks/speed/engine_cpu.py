"""Prefill, decoding and throughput on a CPU against llama.cpp and transformers, at equal weights, prompts and threads.

The published 135M model and random weights of a 1.1B shape; prompts of 128 and 1,024 tokens, 256 new ones, greedy. Each
side is a process of its own, and the sides take turns. `--rows` chooses what is measured; with `--work` rows that were
measured before are kept, so that one can be measured at a time. `growth` draws docs/engine-growth.png.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import ROOT, interleaved, kept_or_measured, run_process, summary, work_folder
from benchmarks.pictures import draw_growth
from benchmarks.quality.real_models.data import find_source
from benchmarks.registry import NO_TARGET, Figures, benchmark
from benchmarks.speed.peers import engine_work, peers
from benchmarks.speed.peers.engine_work import WEIGHTS

PROMPTS, N_NEW = (128, 1024), 256
N_REQUESTS, LONGEST = 16, 256
CONTEXTS, ROWS = [128, 256, 512, 1024, 2048], [1, 2, 4, 8, 16]
MEMORY_BYTES = 2**30
WITH_TRANSFORMERS = ("fp32", "bf16")
SIZES = ("135m", "1b")
ALL_ROWS = (*(f"{size}-{weights}" for size in SIZES for weights in WEIGHTS), "throughput", "growth")
PICTURE = ROOT / "docs" / "engine-growth.png"


@benchmark("engine_cpu", {
    "*.fp32.*.decode_over_llama": (">= 0.97", "{0} model, fp32, prompt {1}: decoding over llama.cpp's"),
    "*.fp32.*.decode_over_transformers": (">= 2.5", "{0} model, fp32, prompt {1}: decoding over transformers'"),
    "*.bf16.*.decode_over_llama": (">= 1", "{0} model, bf16, prompt {1}: decoding over llama.cpp's"),
    "*.bf16.*.decode_over_transformers": (NO_TARGET, "{0} model, bf16, prompt {1}: decoding over transformers'"),
    "*.int8.*.decode_over_llama": (">= 1.6", "{0} model, int8, prompt {1}: decoding over llama.cpp's Q8_0"),
    "*.int4.*.decode_over_llama": (">= 1.2", "{0} model, int4, prompt {1}: decoding over llama.cpp's Q4_0"),
    "*.*.*.prefill_over_llama": (">= 1", "{0} model, {1}, prompt {2}: prefill over llama.cpp's"),
    "*.*.*.parakit.decode": (NO_TARGET, "{0} model, {1}, prompt {2}: decoding, tokens a second"),
    "throughput.over_one_by_one": (">= 4", "16 requests at once: tokens a second over one by one"),
    "throughput.over_transformers": (">= 1", "16 requests at once: over transformers' continuous batching"),
    "throughput.over_llama": (">= 1", "16 requests at once: over llama.cpp's 16 sequences"),
    "throughput.requests_that_differ": ("== 0", "16 requests at once: with other tokens than alone"),
    "throughput.share_of_memory_bound": ("<= 1", "16 requests at once: cache over its bound"),
    "growth.decode.share_of_floor_*": (NO_TARGET, "decoding, {0} tokens of context: share of the memory's floor"),
})  # fmt: skip
def engine_cpu(
    *, rows: Sequence[str] = ALL_ROWS, work: Path | None = None, repeats: int = 3, threads: int | None = None
) -> Figures:
    """`rows`: SIZE-WEIGHTS (135m or 1b; fp32, bf16, int8 or int4), throughput, growth."""
    if unknown := [row for row in rows if row not in ALL_ROWS]:
        raise SystemExit(f"no row is called {', '.join(unknown)}; known: {', '.join(ALL_ROWS)}")
    threads = threads or len(os.sched_getaffinity(0))
    figures: Figures = {}
    with work_folder(work) as folder:
        for row in ALL_ROWS:
            kept = folder / "measured" / f"{row}.json"
            if row not in rows and not kept.exists():
                continue
            measure = functools.partial(_measure, row, folder, repeats, threads)
            found = kept_or_measured(None if work is None else kept, measure)
            size, _, weights = row.partition("-")
            if weights:
                figures.setdefault(size, {})[weights] = found
            else:
                figures[row] = found
    return figures


def _measure(row: str, folder: Path, repeats: int, threads: int) -> Figures:
    if row == "throughput":
        return _throughput(
            {"threads": threads, "weights": "fp32"} | _files("135m", "fp32", folder, threads), repeats
        )
    if row == "growth":
        return _growth({"threads": threads, "weights": "fp32", "folder": str(model_folder("135m", folder))})
    size, weights = row.split("-")
    spec = {"threads": threads, "weights": weights, "n_new": N_NEW} | _files(size, weights, folder, threads)
    return {f"prompt_{n}": _generation(spec | {"n_prompt": n}, repeats) for n in PROMPTS}


def model_folder(size: str, folder: Path) -> Path:
    """In transformers' layout: the published model, dequantised and imported, or random weights."""
    found = folder / f"{size}-model"
    if (found / "config.json").exists():
        return found
    if size == "135m":
        from benchmarks.harness import run_parakit

        run_parakit("import", find_source("smollm2"), "--output", found)
    else:
        engine_work.write_random_model(found, engine_work.SHAPES[size])
    return found


def _files(size: str, weights: str, folder: Path, threads: int) -> dict[str, str]:
    """The folder, and the GGUF file with weights of the same kind."""
    model = model_folder(size, folder)
    plain, kind = folder / f"{size}-F32.gguf", WEIGHTS[weights]
    if not plain.exists():
        part = plain.with_suffix(".part")
        engine_work.write_gguf(model, part)
        part.replace(plain)
    wanted = folder / f"{size}-{kind}.gguf"
    if not wanted.exists():
        file_type = engine_work.LLAMA_FILE_TYPES[kind]
        _side(
            "llama",
            "quantize",
            {"gguf": str(plain), "to": str(wanted), "file_type": file_type, "threads": threads},
        )
    return {"folder": str(model), "gguf": str(wanted)}


def _side(name: str, task: str, spec: Mapping[str, Any]) -> Figures:
    """One measurement of one side, in a process of its own."""
    if name == "llama":
        script = Path(__file__).parent / "peers" / "llama_side.py"
        command: list[str | Path] = [peers.python_of("llama"), script]
    else:
        python = sys.executable if name == "parakit" else peers.python_of(name)
        command = [python, "-m", f"benchmarks.speed.peers.engine_{name}_side"]
    done = run_process(
        [*command, task, json.dumps(spec)], environment={"OMP_NUM_THREADS": str(spec["threads"])}
    )
    if not done.figures and task != "quantize":
        raise RuntimeError(f"{name} printed no figures for {task}")
    return done.figures


def _alternating(
    names: Sequence[str], task: str, specs: Mapping[str, Mapping[str, Any]], repeats: int
) -> tuple[dict[str, Figures], dict[str, list[Figures]]]:
    """Summaries of all sides' numbers, and the runs themselves in their order."""
    runs: dict[str, list[Figures]] = {name: [] for name in names}

    def side(name: str) -> Callable[[], Mapping[str, float]]:
        def run() -> Mapping[str, float]:
            found = _side(name, task, specs[name])
            runs[name].append(found)
            return {key: value for key, value in found.items() if isinstance(value, int | float)}

        return run

    return interleaved({name: side(name) for name in names}, repeats), runs


def _ratio(runs: Mapping[str, list[Figures]], peer: str, figure: str) -> Figures:
    pairs = zip(runs["parakit"], runs[peer], strict=True)
    return summary([one[figure] / other[figure] for one, other in pairs])


def _generation(spec: dict[str, Any], repeats: int) -> Figures:
    names = ["parakit", "llama"] + (["transformers"] if spec["weights"] in WITH_TRANSFORMERS else [])
    prompt = engine_work.prompt_ids(spec["n_prompt"], _vocab_size(spec["folder"]))
    specs = dict.fromkeys(names, spec) | {"llama": spec | {"prompt": prompt}}
    result, runs = _alternating(names, "generate", specs, repeats)
    for peer in names[1:]:
        for figure in ("decode", "prefill"):
            result[f"{figure}_over_{peer}"] = _ratio(runs, peer, figure)
        ids = zip(runs["parakit"][0]["token_ids"], runs[peer][0]["token_ids"], strict=True)
        result[f"equal_tokens_{peer}"] = {"of_256": sum(a == b for a, b in ids)}
    return result


def _vocab_size(folder: str) -> int:
    found = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    return int(found["vocab_size"])


def _throughput(spec: dict[str, Any], repeats: int) -> Figures:
    spec |= {"n_requests": N_REQUESTS, "longest": LONGEST, "memory_bytes": MEMORY_BYTES}
    work = engine_work.requests(_vocab_size(spec["folder"]), N_REQUESTS, LONGEST)
    names = ["parakit", "llama", "transformers"]
    specs = dict.fromkeys(names, spec) | {"llama": spec | {"requests": work}}
    result, runs = _alternating(names, "throughput", specs, repeats)
    parakit = runs["parakit"]
    return result | {
        "over_one_by_one": summary([run["together"] / run["one_by_one"] for run in parakit]),
        "over_llama": _ratio(runs, "llama", "together"),
        "over_transformers": _ratio(runs, "transformers", "together"),
        "requests_that_differ": max(run["requests_that_differ"] for run in parakit),
        "share_of_memory_bound": max(run["share_of_memory_bound"] for run in parakit),
    }


def _growth(spec: dict[str, Any]) -> Figures:
    """Least squares: prefill a + b n + c n^2 seconds, a decoding step a + b n, a batch's step a + b rows."""
    found = _side("parakit", "growth", spec | {"contexts": CONTEXTS, "rows": ROWS, "n_new": 32})
    curves = {
        "prefill": _fit(found["by_context"], "context", "prefill", 2),
        "decode": _fit(found["by_context"], "context", "step", 1),
        "batch": _fit(found["by_rows"], "rows", "step", 1),
    }
    draw_growth(PICTURE, found["by_context"], found["by_rows"], curves)
    shares = {
        f"share_of_floor_{point['context']}": point["floor"] / point["step"] for point in found["by_context"]
    }
    return {
        "prefill": curves["prefill"],
        "decode": curves["decode"] | shares,
        "batch": curves["batch"],
        "bandwidth": found["bandwidth"],
        "points": {"by_context": found["by_context"], "by_rows": found["by_rows"]},
    }


def _fit(points: Sequence[Mapping[str, float]], x: str, y: str, degree: int) -> dict[str, float]:
    """Coefficients of a polynomial by powers, relative errors weighing the same, and the largest relative error."""
    at, seconds = (np.array([point[name] for point in points], dtype=float) for name in (x, y))
    powers = np.vander(at, degree + 1, increasing=True)
    coefficients = np.linalg.lstsq(powers / seconds[:, None], np.ones_like(at), rcond=None)[0]
    error = np.abs(powers @ coefficients / seconds - 1).max()
    names = ("seconds", f"seconds_per_{x}", f"seconds_per_{x}_squared")
    return {name: float(f"{value:.4g}") for name, value in zip(names, coefficients, strict=False)} | {
        "largest_error": float(f"{error:.3g}")
    }
