"""A corpus of many files made by one process, by local processes and by Ray: the same bytes, and how long each takes.

The text is of public-domain books, whose paragraphs are drawn into documents of about 3 kB; a tenth are versions of earlier
ones with a paragraph exchanged. Every way is `parakit text` in a process of its own, with text repair, near duplicates and
the removal of personal data, so that reading, steps on one text and the four stages of MinHash are all run by tasks.
`megabytes` = 1000 is the size that a corpus of 100 GB is planned from.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
from pathlib import Path

from benchmarks.harness import DATA, ProcessRun, run_parakit, work_folder
from benchmarks.registry import NO_TARGET, Figures, benchmark
from parakit.common.files import read_json, sha256_file

STEPS = ("repair_text", "near_duplicates", "personal_data")
FILE_BYTES = 4 * 2**20


@benchmark("cluster", {
    "equal.*": ("== 1", "corpus by `{0}` with the bytes of a single process"),
    "seconds.*": (NO_TARGET, "seconds to make it: {0}"),
    "peak_memory_gib.*": (NO_TARGET, "GiB of memory of the largest process at most: {0}"),
})  # fmt: skip
def cluster(
    *, megabytes: int = 1_000, workers: int = 2, ray: bool = True, folder: Path | None = None
) -> Figures:
    """So many megabytes of text; `folder` is where they and the corpora are written."""
    with work_folder(folder) as place:
        n_bytes = _write(place / f"in-{megabytes}", megabytes * 1_000_000)
        ways = {"one process": (), "local processes": ("--workers", str(workers))}
        if ray:
            ways["ray"] = ("--workers", str(workers), "--executor", "ray")
        runs, digests = dict[str, ProcessRun](), dict[str, dict[str, str]]()
        for name, words in ways.items():
            out = place / name.replace(" ", "-")
            inputs = ("text", place / f"in-{megabytes}", "--output", out, "--overwrite")
            runs[name] = run_parakit(*inputs, *words, "--clean", *STEPS, timeout=36_000)
            digests[name] = _digests(out)
        report = read_json(place / "one-process" / "report.json")
    return {
        "megabytes": round(n_bytes / 1e6),
        "n_cores": len(os.sched_getaffinity(0)),
        "workers": workers,
        "documents": report["documents"],
        "left_out": {step["step"]: step["n_left_out"] for step in report["cleaning"]},
        "equal": {
            name: int(digests[name] == digests["one process"]) for name in ways if name != "one process"
        },
        "seconds": {name: round(run.seconds, 1) for name, run in runs.items()},
        "peak_memory_gib": {name: round(run.peak_memory_mib / 1024, 3) for name, run in runs.items()},
    }


def _write(folder: Path, n_bytes: int) -> int:
    """The documents as files of rows; returns their bytes. Files that are there already are kept."""
    if (folder.with_suffix(".done")).exists():
        return sum(path.stat().st_size for path in folder.iterdir())
    rng = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    paragraphs = [
        one.strip()
        for path in sorted((DATA / "gutenberg").glob("*.txt.gz"))
        for one in gzip.decompress(path.read_bytes()).decode(errors="replace").replace("\r", "").split("\n\n")
        if len(one) > 200
    ]
    recent: list[list[str]] = []
    total = number = 0
    while total < n_bytes:
        with open(folder / f"{number:05d}.jsonl", "w", encoding="utf-8") as file:
            size = 0
            while size < min(FILE_BYTES, n_bytes):
                document = _document(rng, paragraphs, recent)
                text = "\n\n".join(document) + f"\n\nWritten by reader{rng.randrange(10**6)}@example.org"
                size += file.write(json.dumps({"text": text}) + "\n")
        total, number = total + size, number + 1
    folder.with_suffix(".done").touch()
    return total


def _document(rng: random.Random, paragraphs: list[str], recent: list[list[str]]) -> list[str]:
    if recent and rng.random() < 0.1:
        version = list(rng.choice(recent))
        version[rng.randrange(len(version))] = _shuffled(rng, rng.choice(paragraphs))
        return version
    document = [_shuffled(rng, rng.choice(paragraphs)) for _ in range(rng.randint(4, 10))]
    if len(recent) < 10_000:
        recent.append(document)
    else:
        recent[rng.randrange(len(recent))] = document
    return document


def _shuffled(rng: random.Random, paragraph: str) -> str:
    """A paragraph of the same words: two documents that draw it are no versions of each other."""
    words = paragraph.split()
    rng.shuffle(words)
    return " ".join(words)


def _digests(corpus: Path) -> dict[str, str]:
    """sha256 of each file, and of the settings in its lineage, which has times too."""
    lineage = read_json(corpus / "lineage.json")
    config = json.dumps(lineage["config"], sort_keys=True).encode()
    names = [path.name for path in corpus.iterdir() if path.name not in ("lineage.json", "manifest.json")]
    return {name: sha256_file(corpus / name) for name in names} | {
        "config": hashlib.sha256(config).hexdigest()
    }
