"""The engine, every way at once: `python -m tests.attacks.engine_exactness --n 1000 --seed 0`.

For every decoder architecture that Parakit loads, a tiny random model in float64 completes `n` greedy prompts, many of which
begin alike: alone, in batches of 1 to 8 rows, in chunks, streamed, over pages of random sizes with shared prefixes, in memory
so small that rows give way, and as several completions of one prompt. All must be the tokens of a whole pass without a cache.
Then `--soak` requests are submitted at random moments and half of them cancelled at random moments: at the end no page is held,
nothing waits or runs, every request that was not cancelled has its tokens, and memory has grown by less than 2 %. Prints a JSON
object; status 1 after a violation.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from parakit.common.seeds import rng
from parakit.inference.config import SamplingConfig
from parakit.inference.engine import Engine, EngineConfig, Request, RequestHandle
from parakit.inference.generation.decoding import generate_ids, stream_ids
from parakit.model.heads import LanguageModel
from tests.inference.engine.decoders import (
    LONGROPE,
    NAMES,
    check_by_whole_passes,
    random_prompts,
    tiny_decoder,
)

GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=6)
LONGEST = 36
Prompts = list[list[int]]


def random_engine(model: LanguageModel, generator: np.random.Generator) -> Engine:
    """Of random settings, every third in little memory."""
    page_size = int(generator.integers(1, 9))
    settings = EngineConfig(
        page_size=page_size,
        max_rows=int(generator.integers(1, 9)),
        max_step_tokens=int(generator.integers(1, 80)),
        share_prefixes=bool(generator.integers(0, 4)),
    )
    engine = Engine(model, config=settings)
    if generator.integers(0, 3) == 0:
        pages = -(-(LONGEST + GREEDY.max_new_tokens) // page_size) + 3
        bytes_of_pages = sum(group.page_bytes for group in engine.cache.groups) * (pages + 1)
        engine = Engine(model, config=settings.replace(memory_bytes=bytes_of_pages))
    return engine


def complete(engine: Engine, prompts: Prompts) -> Prompts:
    """The new tokens of each, all submitted at once."""
    handles = [engine.submit(Request(token_ids=prompt, sampling=GREEDY)) for prompt in prompts]
    engine.run()
    assert engine.statistics.n_pages_used == 0
    return [list(handle.completions[0].token_ids) for handle in handles]


def check_architecture(model: LanguageModel, n: int, seed: int) -> list[str]:
    """Complete `n` prompts in every way; what differs from whole passes."""
    generator = rng(seed, "ways")
    prompts = random_prompts(model.config, n, LONGEST, f"prompts {seed}")
    expected = generate_ids(model, prompts, GREEDY)
    check_by_whole_passes(model, prompts, expected)
    differences: list[str] = []

    def compare(way: str, found: Prompts, wanted: Prompts) -> None:
        differences.extend(f"{way}: {a} for {b}" for a, b in zip(found, wanted, strict=True) if a != b)

    start = 0
    while start < n:
        size = int(generator.integers(1, 9))
        part, wanted = prompts[start : start + size], expected[start : start + size]
        compare(f"batch of {size}", generate_ids(model, part, GREEDY), wanted)
        if start % 3 == 0:
            compare("streamed", [list(stream_ids(model, part[0], GREEDY))], wanted[:1])
        start += size
    for start in range(0, n, 50):
        engine = random_engine(model, generator)
        part, wanted = prompts[start : start + 50], expected[start : start + 50]
        compare(f"{engine.config}", complete(engine, part), wanted)
        compare(f"again, {engine.config}", complete(engine, part[::-1]), wanted[::-1])
        several = engine.submit(Request(token_ids=part[0], sampling=GREEDY, n=5))
        engine.run()
        compare("five of one", [list(c.token_ids) for c in several.completions], wanted[:1] * 5)
    return differences


def soak(model: LanguageModel, n: int, seed: int) -> dict[str, object]:
    """`n` requests, half of them cancelled at random moments; what went wrong, and how memory grew."""
    generator = rng(seed, "soak")
    prompts = random_prompts(model.config, n, LONGEST, f"soak {seed}")
    engine = Engine(
        model, config=EngineConfig(page_size=4, max_rows=6, max_step_tokens=40, memory_bytes=60_000)
    )
    doomed: list[tuple[int, RequestHandle]] = []  # with the step after which it is cancelled
    kept: dict[int, RequestHandle] = {}
    tokens: dict[
        int, list[list[int]]
    ] = {}  # of finished requests; their handles would count as memory of the engine
    memory: list[int] = []
    n_steps = 0
    for i, prompt in enumerate(prompts):
        handle = engine.submit(Request(token_ids=prompt, sampling=GREEDY, n=int(generator.integers(1, 3))))
        if i % 2:
            doomed.append((n_steps + int(generator.integers(0, 8)), handle))
        else:
            kept[i] = handle
        for _ in range(int(generator.integers(0, 5))):
            engine.step()
            n_steps += 1
            for at, late in doomed:
                if at <= n_steps:
                    engine.cancel(late)
            doomed = [(at, late) for at, late in doomed if at > n_steps]
        _collect(kept, tokens)
        if i >= n // 10 and i % max(1, n // 20) == 0:
            memory.append(resident_bytes())
    for _, handle in doomed:
        engine.cancel(handle)
    engine.run()
    _collect(kept, tokens)
    statistics = engine.statistics
    some = list(tokens)[:: max(1, len(tokens) // 200)]
    expected = generate_ids(model, [prompts[i] for i in some], GREEDY)
    wrong = [
        i for i, wanted in zip(some, expected, strict=True) if any(found != wanted for found in tokens[i])
    ]
    return {
        "requests": n,
        "cancelled": statistics.n_cancelled,
        "preempted": statistics.n_preempted,
        "pages_held": statistics.n_pages_used,
        "waiting_or_running": statistics.n_waiting + statistics.n_running,
        "unfinished": len(kept),
        "wrong": len(wrong),
        "slots_free": len(engine.cache._slots) == engine.config.max_rows,
        "memory_growth": round(memory[-1] / memory[0] - 1, 4) if memory else 0.0,
    }


def _collect(kept: dict[int, RequestHandle], tokens: dict[int, list[list[int]]]) -> None:
    """Move the finished requests from `kept` to `tokens`."""
    for i in [i for i, handle in kept.items() if handle.done]:
        tokens[i] = [list(completion.token_ids) for completion in kept.pop(i).completions]


def soak_violations(found: dict[str, object], largest_growth: float = 0.02) -> list[str]:
    """What the result of `soak` must not be."""
    zero = ("pages_held", "waiting_or_running", "unfinished", "wrong")
    violations = [f"{name} = {found[name]}" for name in zero if found[name]]
    if not found["slots_free"]:
        violations.append("a slot is not free")
    if float(str(found["memory_growth"])) > largest_growth:
        violations.append(f"memory grew by {found['memory_growth']}")
    return violations


def resident_bytes() -> int:
    """Memory of this process now; where the system does not say, the most so far."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    """The attack; see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1000, help="prompts of each architecture")
    parser.add_argument("--soak", type=int, default=2000, help="requests of the soak")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    started, violations, n_prompts = time.perf_counter(), [], 0
    for name, variant in [*((name, None) for name in NAMES), LONGROPE] if arguments.n else []:
        found = check_architecture(tiny_decoder(name, variant), arguments.n, arguments.seed)
        print(json.dumps({"architecture": name, "variant": variant, "differences": len(found)}), flush=True)
        violations += [f"{name}: {one}" for one in found]
        n_prompts += arguments.n
    soaked = {}
    if arguments.soak:
        for name in ("qwen3", "gemma2", "qwen3_5_text"):
            soaked[name] = soak(tiny_decoder(name), arguments.soak, arguments.seed)
            print(json.dumps({"soak": name, **soaked[name]}), flush=True)
            violations += [f"soak of {name}: {one}" for one in soak_violations(soaked[name])]
    print(
        json.dumps(
            {
                "prompts": n_prompts,
                "violations": len(violations),
                "examples": violations[:5],
                "minutes": round((time.perf_counter() - started) / 60, 1),
            }
        )
    )
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
