"""Whether the search for contamination finds items of public suites that are planted in other text, and nothing else.

The items are of eleven suites (`items`), the other text is books and encyclopaedia articles. Items are planted
once each, at a random place, verbatim but for capitals, white space, punctuation and line breaks; whole, or only their
question. Recall is the share of the planted items that are found, of those whose question is long enough to tell; false
positives are all items that the text without plants is found to have, real quotations included. Reworded items, in which
some words are other ones, show what is not found. Time and memory are those of a process that searches `megabytes` of text
for all items.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.harness import DATA, ROOT, run_process, work_folder
from benchmarks.quality.leaks.items import VERBATIM, reword, shuffle_sentences, suite_items
from benchmarks.registry import NO_TARGET, Figures, benchmark
from parakit.data.documents import Document
from parakit.evaluation.contamination.search import ItemSearch
from parakit.evaluation.results import Item

DOCUMENT = 20_000  # characters
Change = Callable[[str, random.Random], str]


@benchmark("contamination", {
    "verbatim.recall": (">= 0.99", "share of planted items of public suites that are found, whatever their punctuation"),
    "false_positives.share": ("<= 0.01", "share of the items that books and articles are found to have"),
    "reworded.1 in 20 words.recall": (NO_TARGET, "share found of items in which one word in 20 is another one"),
    "reworded.1 in 5 words.recall": (NO_TARGET, "share found of items in which one word in 5 is another one"),
    "speed.megabytes_per_second": (NO_TARGET, "MB of text searched a second for the items of eleven suites"),
    "speed.peak_memory_mib": (NO_TARGET, "MiB of memory at most meanwhile"),
})  # fmt: skip
def contamination(
    *, planted: int = 3_000, megabytes: int = 1_000, data: Path = DATA, folder: Path | None = None
) -> Figures:
    """Plant so many items for each kind of change, and search so many megabytes for the time; `data`: the public data."""
    suites = suite_items(data)
    documents = list(_documents(data))
    searched = _search(suites, documents)
    long_enough = {
        name: [item for item in items if item.id not in set(searched.too_short(name))]
        for name, items in suites.items()
    }
    vocabulary = " ".join(documents[:50]).split()
    figures: Figures = {
        "n_items": {name: len(items) for name, items in suites.items()},
        "n_too_short": {name: len(searched.too_short(name)) for name in suites},
        "text_megabytes": round(sum(len(text.encode()) for text in documents) / 1e6, 1),
        "false_positives": _false_positives(searched, long_enough),
        "verbatim": _recalls(suites, long_enough, documents, VERBATIM, planted),
    }
    reworded = {
        f"1 in {every} words": (lambda text, rng, every=every: reword(text, every, vocabulary, rng))
        for every in (20, 10, 5)
    }
    figures["reworded"] = {
        name: _recall(suites, long_enough, documents, change, planted)
        for name, change in {**reworded, "other order of clauses": shuffle_sentences}.items()
    }
    with work_folder(folder) as place:
        figures["speed"] = _speed(documents, place, megabytes, data)
    return figures


def _documents(data: Path) -> Iterator[str]:
    """Books and articles in pieces."""
    for path in sorted((data / "gutenberg").glob("*.txt.gz")):
        text = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
        yield from (text[at : at + DOCUMENT] for at in range(0, len(text), DOCUMENT))
    for path in sorted((data / "wikitext-2").rglob("*")):
        if path.suffix in (".txt", ".tokens", ".gz"):
            raw = path.read_bytes()
            text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8", "replace")
            yield from (text[at : at + DOCUMENT] for at in range(0, len(text), DOCUMENT))


def _search(suites: Mapping[str, Sequence[Item]], documents: Sequence[str]) -> ItemSearch:
    search = ItemSearch(suites)
    for _ in search.read(Document(text, str(number), len(text)) for number, text in enumerate(documents)):
        pass
    return search


def _false_positives(search: ItemSearch, long_enough: Mapping[str, Sequence[Item]]) -> Figures:
    by_suite = {name: len(search.touched(name)) for name in long_enough}
    n = sum(map(len, long_enough.values()))
    return {"share": round(sum(by_suite.values()) / n, 6), "n": n, "by_suite": by_suite}


def _recalls(
    suites: Mapping[str, Sequence[Item]],
    long_enough: Mapping[str, Sequence[Item]],
    documents: Sequence[str],
    changes: Mapping[str, Change],
    n: int,
) -> Figures:
    found = {name: _recall(suites, long_enough, documents, change, n) for name, change in changes.items()}
    n_planted = sum(one["n"] for one in found.values())
    recall = sum(one["n_found"] for one in found.values()) / n_planted
    return {"recall": round(recall, 5), "n": n_planted, "by_change": found}


def _recall(
    suites: Mapping[str, Sequence[Item]],
    long_enough: Mapping[str, Sequence[Item]],
    documents: Sequence[str],
    change: Change,
    n: int,
) -> Figures:
    """Plant `n` items, as many of each suite, every second one without its answer."""
    rng = random.Random(0)
    texts = list(documents)
    chosen = {
        name: rng.sample(items, min(n // len(suites), len(items))) for name, items in long_enough.items()
    }
    with_answer: dict[str, set[str]] = {}
    for name, items in chosen.items():
        for number, item in enumerate(items):
            whole = number % 2 == 0
            text = change(f"{item.prompt} {item.target}" if whole else item.prompt, rng)
            at = rng.randrange(len(texts))
            place = rng.randrange(len(texts[at]) + 1)
            place = texts[at].find(" ", place) if " " in texts[at][place:] else len(texts[at])
            texts[at] = f"{texts[at][:place]}\n{text}\n{texts[at][place:]}"
            if whole:
                with_answer.setdefault(name, set()).add(item.id)
    search = _search(suites, texts)
    n_found = n_most = n_answers = 0
    missed: dict[str, int] = {}
    for name, items in chosen.items():
        touched = search.touched(name)
        here = [item.id for item in items if item.id in touched]
        n_found += len(here)
        n_most += sum(touched[one].share >= 0.7 for one in here)
        n_answers += sum(touched[one].answer for one in here if one in with_answer.get(name, ()))
        missed |= {name: len(items) - len(here)} if len(here) < len(items) else {}
    n_planted = sum(map(len, chosen.values()))
    n_whole = sum(map(len, with_answer.values()))
    return {
        "recall": round(n_found / n_planted, 5),
        "n": n_planted,
        "n_found": n_found,
        "missed": missed,
        "share_most_words": round(n_most / n_planted, 5),
        "share_of_answers": round(n_answers / n_whole, 5),
    }


def _speed(documents: Sequence[str], place: Path, megabytes: int, data: Path) -> Figures:
    """Time and memory of a process that reads a file of text."""
    file, size, number = place / "text.jsonl", 0, 0
    with open(file, "w", encoding="utf-8") as out:
        while size < megabytes * 1e6:
            text = documents[number % len(documents)]
            out.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            size, number = size + len(text.encode()), number + 1
    command = [sys.executable, "-m", "benchmarks.quality.leaks.contamination", str(file), str(data)]
    run = run_process(command, environment={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"})
    file.unlink()
    return {"megabytes": round(size / 1e6), "peak_memory_mib": round(run.peak_memory_mib), **run.figures}


def _search_file(path: Path, data: Path) -> None:
    """What the process does whose time and memory are measured."""
    items = suite_items(data)
    started = time.process_time()
    search = ItemSearch(items)
    indexed, wall = time.process_time(), time.perf_counter()
    with open(path, encoding="utf-8") as lines:
        size = sum(
            search.read(
                Document(text, str(number), len(text.encode()))
                for number, text in enumerate(json.loads(line)["text"] for line in lines)
            )
        )
    figures = {
        "index_processor_seconds": round(indexed - started, 2),
        "megabytes_per_second": round(size / 1e6 / (time.perf_counter() - wall), 1),
        "megabytes_per_processor_second": round(size / 1e6 / (time.process_time() - indexed), 1),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    _search_file(Path(sys.argv[1]), Path(sys.argv[2]))
