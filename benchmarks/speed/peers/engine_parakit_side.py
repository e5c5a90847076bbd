"""Parakit's side of `engine_cpu`: the functions that its commands call, one process a measurement."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.speed.peers.engine_work import Request, prompt_ids, requests, run_task


def _load(spec: dict[str, Any]) -> Any:
    import torch

    from parakit.checkpoints import load_model
    from parakit.model.quantized import QuantScheme, make_plan, quantize_modules

    torch.set_num_threads(spec["threads"])
    weights = spec["weights"]
    dtype = "float32" if weights == "fp32" else "bfloat16"
    model, _ = load_model(Path(spec["folder"]), dtype="float32" if weights.startswith("int") else dtype)
    if weights.startswith("int"):
        scheme = QuantScheme(bits=8) if weights == "int8" else QuantScheme(bits=4, quant_group_size=32)
        quantize_modules(model, make_plan(model, scheme, embeddings=scheme, head=scheme))
    return model.eval()


def generate(spec: dict[str, Any]) -> dict[str, Any]:
    """Greedy tokens after one prompt."""
    from parakit.inference.config import SamplingConfig
    from parakit.inference.generation.decoding import generate_ids

    model = _load(spec)
    prompt = prompt_ids(spec["n_prompt"], model.config.vocab_size)

    def run(n_new: int) -> tuple[float, list[int]]:
        config = SamplingConfig(temperature=0.0, max_new_tokens=n_new)
        started = time.perf_counter()
        ids = generate_ids(model, [prompt], config)[0]
        return time.perf_counter() - started, ids

    run(2)
    first = min(run(1)[0] for _ in range(2))
    total, ids = run(spec["n_new"])
    return {
        "prefill": len(prompt) / first,
        "decode": (len(ids) - 1) / (total - first),
        "token_ids": ids,
    }


def throughput(spec: dict[str, Any]) -> dict[str, Any]:
    """Many requests at once through the engine, and one after the other."""
    from parakit.inference.config import SamplingConfig
    from parakit.inference.engine import Engine, EngineConfig
    from parakit.inference.engine import Request as EngineRequest

    model = _load(spec)
    work = requests(model.config.vocab_size, spec["n_requests"], spec["longest"])
    n_new = sum(request.n_new for request in work)
    config = EngineConfig(memory_bytes=spec["memory_bytes"], share_prefixes=False)

    def run(together: bool) -> tuple[float, list[list[int]], float]:
        engine = Engine(model, None, config)

        def submit(request: Request) -> Any:
            sampling = SamplingConfig(temperature=0.0, max_new_tokens=request.n_new)
            return engine.submit(
                EngineRequest(token_ids=request.prompt, sampling=sampling, stop_ids=(), rules=None)
            )

        submit(Request(work[0].prompt[:2], 2))
        engine.run()
        started = time.perf_counter()
        handles = []
        for request in work:
            handles.append(submit(request))
            if not together:
                engine.run()
        engine.run()
        seconds = time.perf_counter() - started
        ids = [list(handle.completions[0].token_ids) for handle in handles]
        return seconds, ids, engine.memory_bound / spec["memory_bytes"]

    alone, alone_ids, _ = run(together=False)
    together, ids, share = run(together=True)
    differ = sum(a != b for a, b in zip(alone_ids, ids, strict=True))
    return {
        "together": n_new / together,
        "one_by_one": n_new / alone,
        "requests_that_differ": differ,
        "share_of_memory_bound": share,
        "token_ids": ids,
    }


def growth(spec: dict[str, Any]) -> dict[str, Any]:
    """Prefill and decoding against the length of the context and the number of rows."""
    from parakit.inference.speed import measure_speed, memory_bandwidth

    model = _load(spec)
    bandwidth = memory_bandwidth(model.lm_head.weight.device)

    def seconds(n_sequences: list[int], lengths: list[int]) -> list[dict[str, float]]:
        measured = measure_speed(
            model,
            n_sequences=n_sequences,
            prompt_lengths=lengths,
            n_new_tokens=spec["n_new"],
            bandwidth=bandwidth,
        )
        return [
            {
                "rows": speed.n_rows,
                "context": speed.n_prompt_tokens,
                "prefill": speed.n_rows * speed.n_prompt_tokens / speed.prefill_tokens_per_second,
                "step": speed.n_rows / speed.decode_tokens_per_second,
                "floor": speed.n_rows / speed.floor_tokens_per_second,
            }
            for speed in measured
        ]

    by_context = seconds([1], spec["contexts"])
    by_rows = seconds(spec["rows"], [spec["contexts"][0]])
    # other machines on the same memory slow it for seconds at a time: the floor is of the best moment seen
    best = max(bandwidth, memory_bandwidth(model.lm_head.weight.device))
    for point in (*by_context, *by_rows):
        point["floor"] *= bandwidth / best
    return {"by_context": by_context, "by_rows": by_rows, "bandwidth": best}


if __name__ == "__main__":
    run_task({"generate": generate, "throughput": throughput, "growth": growth}, sys.argv[1:])
