"""SST-2 and CoLA as example files."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

N_VALIDATION = 500  # of CoLA's training sentences: its development sets are what is measured


@dataclass(frozen=True)
class Task:
    """A task's figure, and the splits that it is taken on, the most telling first."""

    figure: str
    measured: tuple[str, ...]


TASKS = {
    "sst2": Task("accuracy", ("test",)),
    "cola": Task("matthews", ("in_domain", "out_of_domain")),
}


def write_tasks(data: Path, work: Path) -> None:
    """Write TASK.SPLIT.jsonl for every task and split."""
    sst2, cola = data / "sst2", data / "cola"
    _write(work / "sst2.train.jsonl", _sst2(sst2 / "stsa.binary.train.gz"))
    _write(work / "sst2.validation.jsonl", _sst2(sst2 / "stsa.binary.dev"))
    _write(work / "sst2.test.jsonl", _sst2(sst2 / "stsa.binary.test"))
    train = list(_cola(cola / "in_domain_train.tsv.gz"))
    _write(work / "cola.train.jsonl", iter(train[N_VALIDATION:]))
    _write(work / "cola.validation.jsonl", iter(train[:N_VALIDATION]))
    _write(work / "cola.in_domain.jsonl", _cola(cola / "in_domain_dev.tsv"))
    _write(work / "cola.out_of_domain.jsonl", _cola(cola / "out_of_domain_dev.tsv"))


def read_split(work: Path, task: str, split: str) -> tuple[list[str], list[str]]:
    """Texts and labels of a split."""
    lines = (work / f"{task}.{split}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [row["text"] for row in rows], [row["label"] for row in rows]


def _lines(path: Path) -> list[str]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8", "replace")
    return [line for line in text.split("\n") if line.strip()]


def _sst2(path: Path) -> Iterator[tuple[str, str]]:
    """Lines of "1 text"."""
    for line in _lines(path):
        label, _, text = line.partition(" ")
        yield text, "positive" if label == "1" else "negative"


def _cola(path: Path) -> Iterator[tuple[str, str]]:
    """Lines of source, 0 or 1, the author's mark, sentence, tab between."""
    for line in _lines(path):
        _, label, _, text = line.split("\t", 3)
        yield text, "acceptable" if label == "1" else "unacceptable"


def _write(path: Path, rows: Iterator[tuple[str, str]]) -> None:
    lines = (json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in rows)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
