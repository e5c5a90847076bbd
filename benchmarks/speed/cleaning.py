"""The steps that clean a corpus, against the same steps of datatrove on one core: megabytes a second, and equal decisions.

The texts: pieces of public sets (books, instructions, dialogues, programs), and the same pieces with faults planted, so that
each rule has something to leave out. Parakit runs each step as `parakit text` does; datatrove its filters and formatters
of the same names, in an environment of its own (`.peers/datatrove`), with spaCy's words. Documents whose decision differs
are counted; words are split by a pattern here, so a few near a threshold may.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import DATA, ROOT
from benchmarks.registry import NO_TARGET, Figures, benchmark
from parakit.data.cleaning.config import parse_step
from parakit.data.cleaning.steps import Removed

PEERS = Path(os.environ.get("PARAKIT_PEERS") or ROOT / ".peers")
RULES = ("gopher", "gopher_repetition", "c4", "fineweb")
SAME = ("repair_text", *RULES)  # steps that both have
OTHERS = ("language", "personal_data", "repeated_lines")
NAME_STEP = "personal_data:kinds=name"


@benchmark("cleaning", {
    "chain_speedup": (">= 1.5", "megabytes a second of the chain over those of datatrove's same steps, one core"),
    "agreement.*": (">= 0.99", "documents with the same decision as datatrove's filter: {0}"),
    "megabytes_per_second.*": (NO_TARGET, "megabytes a second of {0}"),
})  # fmt: skip
def cleaning(*, n_texts: int = 1000, repeats: int = 3) -> Figures:
    """Run every step on `n_texts` documents."""
    texts = list(dirty_texts(n_texts))
    n_bytes = sum(len(text.encode()) for text in texts)
    kept: dict[str, list[bool]] = {}
    runs: dict[str, list[float]] = {name: [] for name in (*SAME, *OTHERS, NAME_STEP)}
    peer_runs: dict[str, list[float]] = {name: [] for name in SAME}
    peer = None
    for _ in range(repeats):  # in turns, so that both sides have the same machine
        for name, measured in runs.items():
            taken, kept[name] = _run(f"quality:rules={name}" if name in RULES else name, texts)
            measured.append(taken)
        if peer := _peer(texts):
            for name, measured in peer_runs.items():
                measured.append(peer[name]["seconds"])
    seconds = {name: median(measured) for name, measured in runs.items()}
    speed = {
        name.replace(NAME_STEP, "names"): round(n_bytes / 1e6 / taken, 2) for name, taken in seconds.items()
    }
    figures: Figures = {
        "n_texts": len(texts),
        "megabytes": round(n_bytes / 1e6, 2),
        "megabytes_per_second": speed,
    }
    peer = _peer(texts)
    if peer:
        chains = [sum(runs[name][i] for name in SAME) for i in range(repeats)]
        peer_chains = [sum(peer_runs[name][i] for name in SAME) for i in range(repeats)]
        ratios = sorted(other / own for other, own in zip(peer_chains, chains, strict=True))
        figures["datatrove_megabytes_per_second"] = {
            name: round(n_bytes / 1e6 / median(measured), 2) for name, measured in peer_runs.items()
        }
        figures["chain_megabytes_per_second"] = round(n_bytes / 1e6 / median(chains), 2)
        figures["datatrove_chain_megabytes_per_second"] = round(n_bytes / 1e6 / median(peer_chains), 2)
        figures["chain_speedup"] = round(median(ratios), 2)
        figures["chain_speedup_spread"] = [round(ratios[0], 2), round(ratios[-1], 2)]
        figures["agreement"] = {
            name: sum(a == b for a, b in zip(kept[name], peer[name]["kept"], strict=True)) / len(texts)
            for name in RULES
        }
        figures["left_out"] = {name: kept[name].count(False) for name in RULES}
    return figures


def _run(step: str, texts: list[str]) -> tuple[float, list[bool]]:
    with tempfile.TemporaryDirectory() as folder:
        built: Any = parse_step(step).build(Path(folder))
        started = time.perf_counter()
        if hasattr(built, "add"):
            for index, text in enumerate(texts):
                built.add(index, text)
            built.finish()
            results = [built.apply(index, text) for index, text in enumerate(texts)]
        else:
            results = [built(text) for text in texts]
        return time.perf_counter() - started, [not isinstance(result, Removed) for result in results]


def _peer(texts: list[str]) -> dict[str, Any] | None:
    """datatrove's figures; None where its environment is not there."""
    python = PEERS / "datatrove" / "bin" / "python"
    if not python.exists():
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.jsonl"
        path.write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
        side = Path(__file__).parent / "peers" / "datatrove_side.py"
        done = subprocess.run(
            [python, side],
            input=json.dumps({"texts": str(path), "steps": list(SAME)}),
            capture_output=True,
            text=True,
            check=True,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )
    return json.loads(done.stdout.splitlines()[-1])


def dirty_texts(n: int, seed: int = 0) -> Iterator[str]:
    """`n` documents of the public sets, of every second one a version with a fault."""
    draw = random.Random(seed)
    pieces = list(_pieces(draw))
    faults: list[Callable[[str], str]] = [
        lambda text: text,
        lambda text: text[:200],
        lambda text: (text[:300] + "\n") * 8,
        lambda text: "\n".join(f"- {line}" for line in text.split(". ")),
        lambda text: text.replace(".", "..."),
        lambda text: text.replace(". ", " # "),
        lambda text: "\n".join(text.split()),
        lambda text: text.encode().decode("latin-1") if not text.isascii() else text + " caf\u00c3\u00a9",
        lambda text: text + "\nOur site uses cookies and javascript.\nLog in",
        lambda text: " ".join(f"{word} {i}" for i, word in enumerate(text.split())),
    ]
    for number in range(n):
        text = draw.choice(pieces)
        yield draw.choice(faults)(text) if number % 2 else text


def _pieces(draw: random.Random) -> Iterator[str]:
    for path in sorted((DATA / "gutenberg").glob("*.gz"))[:8]:
        book = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
        for _ in range(40):
            start = draw.randrange(len(book) - 6000)
            yield book[start : start + draw.randrange(500, 6000)]
    for name in ("dolly_hhrlhf_small", "hh_rlhf", "mbpp", "gsm8k"):
        for path in sorted((DATA / name).glob("*.jsonl*"))[:1]:
            with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
                rows = [json.loads(line) for _, line in zip(range(200), file, strict=False)]
            yield from ("\n".join(value for value in row.values() if isinstance(value, str)) for row in rows)
