"""A million short documents deduplicated by `parakit text`: exact and near duplicates, in a process of its own.

The documents have 40 to 110 words, as frequent as those of a language; a tenth are versions of earlier ones in which 5 to 20
% of the words are exchanged, put in or taken out, and a hundredth are copies. Measured are the time from the command to the
corpus on disk, the peak memory of the process, and what was found.

Also shown: the near duplicates alone, against datasketch's MinHash and LSH (128 hash functions, word pairs) on the first
documents, in seconds a document.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import paired, run_parakit, work_folder
from benchmarks.registry import NO_TARGET, Figures, benchmark
from parakit.common.files import read_json
from parakit.data.duplicates.near_duplicate_finder import NearDuplicateFinder

VOCABULARY = [f"w{i}" for i in range(50_000)]
_WEIGHTS = list(itertools.accumulate(1 / (i + 3) for i in range(len(VOCABULARY))))
SIMILARITY = 0.35


@benchmark("deduplication", {
    "seconds": ("<= 900", "seconds to deduplicate 1,000,000 short documents with parakit text"),
    "peak_memory_gib": ("<= 4", "GiB of memory at most meanwhile"),
    "recall": (">= 0.95", "share of the versions of documents (5-20 % of the words edited) that are found"),
    "precision": (">= 0.99", "share of the documents left out that are versions"),
    "finder.ratio.seconds_a_document": (NO_TARGET, "seconds a document to find near duplicates, over datasketch's"),
})  # fmt: skip
def deduplication(
    *, documents: int = 1_000_000, peer_documents: int = 2_000, repeats: int = 3, folder: Path | None = None
) -> Figures:
    """This many documents; `folder` is where they and the corpus are written."""
    with work_folder(folder) as place:
        n_versions = _write(place / "in" / "rows.jsonl", documents)
        run = run_parakit(
            "text", place / "in", "--clean", "near_duplicates", "--output", place / "corpus", "--overwrite", timeout=7200
        )  # fmt: skip
        report = read_json(place / "corpus" / "report.json")
        found, right = _count_found(place / "corpus", documents)
    texts = list(itertools.islice((text for text, _ in _documents(peer_documents)), peer_documents))
    return {
        "n_documents": documents,
        "n_cores": len(os.sched_getaffinity(0)),
        "seconds": round(run.seconds, 1),
        "processor_seconds": round(run.processor_seconds, 1),
        "peak_memory_gib": round(run.peak_memory_mib / 1024, 3),
        "n_exact": report["duplicates"],
        "n_versions": n_versions,
        "n_removed": found,
        "recall": round(right / n_versions, 4),
        "precision": round(right / max(1, found), 4),
        "finder": paired(lambda: _timed(_find, texts), lambda: _timed(_find_with_datasketch, texts), repeats),
    }


def _documents(n: int) -> Iterator[tuple[str, int]]:
    """`n` documents, each with the number of its original: its own, -1 for a copy, another for a version."""
    rng = random.Random(0)
    recent: list[tuple[int, list[str]]] = []
    for number in range(n):
        kind = rng.random() if recent else 1.0
        if kind < 0.11:
            original, words = rng.choice(recent)
            if kind < 0.01:
                yield " ".join(words), -1
                continue
            share = rng.uniform(0.05, 0.2)
            edited = itertools.chain.from_iterable(_edited(word, share, rng) for word in words)
            yield " ".join(edited), original
            continue
        words = rng.choices(VOCABULARY, cum_weights=_WEIGHTS, k=rng.randint(40, 110))
        if len(recent) < 10_000:
            recent.append((number, words))
        elif rng.random() < 0.1:
            recent[rng.randrange(len(recent))] = (number, words)
        yield " ".join(words), number


def _edited(word: str, share: float, rng: random.Random) -> tuple[str, ...]:
    if rng.random() >= share:
        return (word,)
    other = rng.choice(VOCABULARY)
    return ((), (other,), (word, other))[rng.randrange(3)]


def _write(path: Path, n: int) -> int:
    """The documents as rows; returns the number of versions among them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    n_versions = 0
    with open(path, "w", encoding="utf-8") as file:
        for number, (text, original) in enumerate(_documents(n)):
            file.write(json.dumps({"text": text}) + "\n")
            n_versions += original not in (number, -1)
    return n_versions


def _count_found(corpus: Path, n: int) -> tuple[int, int]:
    """Documents that are in no split although they are no copies, and how many of them are versions."""
    kept = bytearray(n + 1)
    for split in ("train", "validation", "test"):
        with open(corpus / f"{split}.jsonl", encoding="utf-8") as file:
            for line in file:
                kept[int(json.loads(line)["source"].rpartition(":")[2])] = 1
    removed = right = 0
    for number, (_, original) in enumerate(_documents(n)):
        if not kept[number + 1] and original != -1:
            removed += 1
            right += original != number
    return removed, right


def _timed(find: object, texts: list[str]) -> dict[str, float]:
    start = time.perf_counter()
    find(texts)  # type: ignore[operator]
    return {"seconds_a_document": (time.perf_counter() - start) / len(texts)}


def _find(texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        finder = NearDuplicateFinder(Path(folder), SIMILARITY)
        for text in texts:
            finder.add(text)
        finder.finish()


def _find_with_datasketch(texts: list[str]) -> None:
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=SIMILARITY, num_perm=128)
    for number, text in enumerate(texts):
        words = text.split()
        sketch = MinHash(num_perm=128)
        sketch.update_batch([" ".join(words[i : i + 2]).encode() for i in range(len(words) - 1)])
        index.query(sketch)
        index.insert(number, sketch)
