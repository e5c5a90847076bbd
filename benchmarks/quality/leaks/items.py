"""Items of public suites, and what is done to them before they are planted into other text."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import random
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.quality.real_models.data import read_lines
from parakit.evaluation.results import Item

LETTERS = "ABCD"


def suite_items(data: Path) -> dict[str, list[Item]]:
    """By suite: question as a harness writes it, and right answer."""
    evaluation = data / "foundry_eval"
    found: dict[str, Iterator[tuple[str, str]]] = {
        "mmlu": _mmlu(data / "mmlu" / "mmlu.tar.gz"),
        "hellaswag": _hellaswag(data / "hellaswag" / "hellaswag_val_full.txt.bz2"),
        "gsm8k": (
            (f"Question: {row['question']}\nAnswer:", row["answer"])
            for row in read_lines(data / "gsm8k" / "test.jsonl.gz")
        ),
        "humaneval": (
            (row["prompt"], row["canonical_solution"])
            for row in read_lines(data / "humaneval" / "HumanEval.jsonl.gz")
        ),
        "mbpp": ((row["text"], row["code"]) for row in read_lines(data / "mbpp" / "mbpp.jsonl.gz")),
        "lambada": (
            (row["text"].rpartition(" ")[0], row["text"].rpartition(" ")[2])
            for row in read_lines(data / "lambada_openai" / "lambada_test.jsonl.gz")
        ),
        "truthfulqa": (
            (f"Q: {row['Question']}\nA:", row["Best Answer"])
            for row in _table(data / "truthfulqa" / "TruthfulQA.csv.gz")
        ),
    }  # fmt: skip
    for suite in ("arc_easy", "arc_challenge", "piqa", "boolq"):
        found[suite] = (
            (f"{row['query'].strip()}\nAnswer:", row["choices"][int(row["gold"])])
            for row in read_lines(evaluation / f"{suite}.jsonl.gz")
        )
    return {suite: list(_numbered(suite, rows)) for suite, rows in found.items()}


def _numbered(suite: str, rows: Iterator[tuple[str, str]]) -> Iterator[Item]:
    for number, (prompt, target) in enumerate(rows):
        yield Item(f"{suite}-{number}", prompt, target, "", {})


def _table(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _mmlu(path: Path) -> Iterator[tuple[str, str]]:
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.startswith("test/") else None
            if file is None or not member.name.endswith(".csv"):
                continue
            for question, *choices, answer in csv.reader(io.TextIOWrapper(file, "utf-8")):
                lines = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=True)]
                yield "\n".join([question, *lines, "Answer:"]), answer


def _hellaswag(path: Path) -> Iterator[tuple[str, str]]:
    lines = bz2.decompress(path.read_bytes()).decode().splitlines()
    for start in range(0, len(lines) - 5, 6):
        yield lines[start], lines[start + 2 + int(lines[start + 1])]


def _other_punctuation(text: str, rng: random.Random) -> str:
    return re.sub(r"[^\w\s]", lambda _: rng.choice((" ", " - ", "«", "...", " | ", "”")), text)


def _other_spaces(text: str, rng: random.Random) -> str:
    return re.sub(r"\s+", lambda _: rng.choice(("  ", "\t", "\u00a0", "\n", "\r\n", " \n\n ")), text)


def _line_breaks(text: str, rng: random.Random) -> str:
    width, words = rng.randint(3, 12), text.split()
    return "\n".join(" ".join(words[at : at + width]) for at in range(0, len(words), width))


VERBATIM: dict[str, Callable[[str, random.Random], str]] = {
    "as it is": lambda text, _: text,
    "capitals": lambda text, rng: text.upper() if rng.random() < 0.5 else text.title(),
    "white space": _other_spaces,
    "punctuation": _other_punctuation,
    "line breaks": _line_breaks,
    "all of these": lambda text, rng: _line_breaks(_other_punctuation(text.upper(), rng), rng),
}
"""Changes that leave an item's words as they are."""


def reword(text: str, every: int, vocabulary: list[str], rng: random.Random) -> str:
    """A mechanical paraphrase: one in `every` words, on average, is another one."""
    words = text.split()
    return " ".join(rng.choice(vocabulary) if rng.random() < 1 / every else word for word in words)


def shuffle_sentences(text: str, rng: random.Random) -> str:
    """The clauses of a text in another order."""
    parts = [part.strip() for part in re.split(r"[.,;:?!\n]+", text) if part.strip()]
    rng.shuffle(parts)
    return ". ".join(parts)
