"""SST-2 and CoLA as example files, with all of their labels and with a few."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

N_VALIDATION = 500  # of CoLA's training sentences: its development sets are what is measured


@dataclass(frozen=True)
class Task:
    """A task's figure, the splits that it is taken on, the most telling first, and how many labels are few."""

    name: str
    figure: str
    measured: tuple[str, ...]
    few: tuple[int, ...] = ()


@dataclass(frozen=True)
class Labels:
    """A task's labels to learn from: all that there are, or `n` of them drawn at random."""

    task: Task
    folder: Path
    n: int | None = None

    @property
    def name(self) -> str:
        """Of its figures: sst2, sst2_500."""
        return self.task.name if self.n is None else f"{self.task.name}_{self.n}"

    @property
    def train(self) -> Path:
        """The file to train on."""
        return self.folder / f"{self.name}.train.jsonl"

    def file(self, split: str) -> Path:
        """The file of another split."""
        return self.folder / f"{self.task.name}.{split}.jsonl"


# Of 500 sentences of CoLA nothing is learned, by words alone either (Matthews -0.01).
TASKS = (
    Task("sst2", "accuracy", ("test",), few=(500,)),
    Task("cola", "matthews", ("in_domain", "out_of_domain")),
)


def write_tasks(data: Path, work: Path) -> list[Labels]:
    """Write TASK.SPLIT.jsonl for every task and split, and TASK_500.train.jsonl."""
    sst2, cola = data / "sst2", data / "cola"
    train = {
        "sst2": list(_sst2(sst2 / "stsa.binary.train.gz")),
        "cola": list(_cola(cola / "in_domain_train.tsv.gz")),
    }
    for rows in train.values():
        random.Random(0).shuffle(rows)  # CoLA's stand source by source
    _write(work / "sst2.validation.jsonl", _sst2(sst2 / "stsa.binary.dev"))
    _write(work / "sst2.test.jsonl", _sst2(sst2 / "stsa.binary.test"))
    _write(work / "cola.validation.jsonl", iter(train["cola"][:N_VALIDATION]))
    _write(work / "cola.in_domain.jsonl", _cola(cola / "in_domain_dev.tsv"))
    _write(work / "cola.out_of_domain.jsonl", _cola(cola / "out_of_domain_dev.tsv"))
    train["cola"] = train["cola"][N_VALIDATION:]
    sets = [Labels(task, work, n) for task in TASKS for n in (None, *task.few)]
    for labels in sets:
        _write(labels.train, iter(train[labels.task.name][: labels.n]))
    return sets


def read_file(path: Path) -> tuple[list[str], list[str]]:
    """Texts and labels of a file."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
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
