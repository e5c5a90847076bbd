"""A set of examples: exact duplicates left out, split into train, validation and test, as an artifact folder.

Split by the digest of what is asked (the text, the words, the source), so that one question is never on both
sides with two answers, and more rows never move those that are there. Files named for validation or test are
those splits, row for row, and no question of theirs is trained on. A small set whose validation would be empty
has its fraction doubled until it is not, up to a half, as conversations do; the report says which was used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parakit.common.artifacts import Lineage, open_artifact, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import read_json, write_json_atomic
from parakit.common.progress import Bar
from parakit.common.settings import closest_match
from parakit.data.config import PrimerConfig
from parakit.data.deduplication import DigestSet
from parakit.data.examples.formats import Row, Task, get_task_format, row_labels
from parakit.data.examples.readers import read_examples
from parakit.data.examples.statistics import SplitStatistics
from parakit.data.splits import SPLITS, split_of

EXAMPLE_SPLITS = SPLITS


def prepare_examples(
    source: Sequence[str] | PrimerConfig,
    task: str,
    path: str | Path,
    *,
    validation_fraction: float = 0.05,
    test_fraction: float = 0.0,
    validation: Sequence[str] = (),
    test: Sequence[str] = (),
    labels: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    reverse: bool = False,
    overwrite: bool = False,
    progress: Bar | None = None,
) -> Path:
    """Read examples of `task` from files (see `read_examples`), or generate the primer's, into the artifact folder
    `path` (kind "examples").

    `labels` are those of classify and tag, in order; without them, the sorted ones of the train split. `columns`
    names the columns of tables without a header. `reverse` swaps source and target. `progress` counts examples.
    Raises `UserError` where a row is no example, where a label is not known, and where a split stays empty.
    """
    kind = get_task_format(task)
    if reverse and kind.name != "translate":
        raise UserError(f"{task} has no source and target to swap", "leave `reverse` out")
    files: dict[str, list[str]] = {"validation": list(validation), "test": list(test)}
    config = {"task": task, "validation_fraction": validation_fraction, "test_fraction": test_fraction}
    lineage = Lineage(
        "examples", config | {"files": files, "labels": labels and list(labels), "reverse": reverse}
    )
    if isinstance(source, PrimerConfig):
        lineage.config["primer"], lineage.seed = source.model_dump(mode="json"), source.seed
    else:
        lineage.config["paths"] = list(source)
    if columns is not None:
        lineage.config["columns"] = list(columns)
    asked = _Asked(kind, source, files, labels, columns, reverse)
    with writing_artifact(path, lineage, overwrite) as folder:
        fraction = 0.0 if validation else validation_fraction
        report = _Writer(asked, fraction, 0.0 if test else test_fraction).write(folder, progress)
        while fraction and fraction < 0.5 and not report["splits"]["validation"]["examples"]:
            fraction = min(0.5, 2 * fraction)
            report = _Writer(asked, fraction, 0.0 if test else test_fraction).write(folder, None)
        _check_filled(report, validation_fraction, test_fraction)
        write_json_atomic(folder / "report.json", report)
        lineage.result = report
    return Path(path)


def iter_examples(path: str | Path, split: str) -> Iterator[Row]:
    """Stream the rows of one split (`train`, `validation` or `test`) of an examples folder."""
    if split not in EXAMPLE_SPLITS:
        raise UserError(f"{split!r} is no split", f"splits are {', '.join(EXAMPLE_SPLITS)}")
    with open(open_artifact(path, "examples").path / f"{split}.jsonl", "rb") as file:
        for line in file:
            yield json.loads(line)


def load_examples_report(path: str | Path) -> dict[str, Any]:
    """What `prepare_examples` found: `task`, `labels`, and counts by split."""
    return read_json(open_artifact(path, "examples").path / "report.json")


@dataclass(frozen=True)
class _Asked:
    """What `prepare_examples` was asked for."""

    task: Task
    source: Sequence[str] | PrimerConfig
    files: Mapping[str, Sequence[str]]  # of validation and test
    labels: Sequence[str] | None
    columns: Sequence[str] | None
    reverse: bool

    def rows(self) -> Iterable[tuple[str, Row]]:
        """Rows to split, with their places."""
        return (
            self._of_primer(self.source) if isinstance(self.source, PrimerConfig) else self._read(self.source)
        )

    def held_out_rows(self, split: str) -> Iterable[tuple[str, Row]]:
        """Rows that belong to `split` whatever their digest."""
        if split == "test" and isinstance(self.source, PrimerConfig) and not self.files[split]:
            return self._of_primer(self.source, held_out=True)
        return self._read(self.files[split])

    def _of_primer(self, config: PrimerConfig, held_out: bool = False) -> Iterator[tuple[str, Row]]:
        from parakit import primer

        rows = primer.generate_examples(config, self.task.name, held_out)
        return ((f"primer, row {n}", self._turned(row)) for n, row in enumerate(rows, 1))

    def _read(self, paths: Sequence[str]) -> Iterator[tuple[str, Row]]:
        for path in paths:
            empty = True
            for where, row in read_examples(path, self.task.name, self.columns):
                empty = False
                yield where, self._turned(row)
            if empty:
                raise UserError(f"{path}: no rows found", f"a row looks like {self.task.sample}")

    def _turned(self, row: Row) -> Row:
        return {"source": row["target"], "target": row["source"]} if self.reverse else row


class _Writer:
    """Reads everything once, writes the three splits, and counts."""

    def __init__(self, asked: _Asked, validation_fraction: float, test_fraction: float) -> None:
        self.asked, self.task = asked, asked.task
        self.validation_fraction, self.test_fraction = validation_fraction, test_fraction
        self.rows, self.questions, self.held_out = DigestSet(), DigestSet(), DigestSet()
        self.n_duplicates = self.n_conflicts = self.n_also_held_out = 0
        self.statistics = {split: SplitStatistics() for split in EXAMPLE_SPLITS}
        # split -> label -> where it was first met
        self.met: dict[str, dict[str, str]] = {split: {} for split in EXAMPLE_SPLITS}

    def write(self, folder: Path, progress: Bar | None) -> dict[str, Any]:
        """Fill `folder`, and return the report. `progress` counts examples."""
        with ExitStack() as stack:
            outputs = {
                split: stack.enter_context(
                    open(folder / f"{split}.jsonl", "w", encoding="utf-8", newline="\n")
                )
                for split in EXAMPLE_SPLITS
            }
            for split, where, row in self._divided():
                outputs[split].write(json.dumps(row, ensure_ascii=False) + "\n")
                self.statistics[split].add(row)
                for label in row_labels(row):
                    self.met[split].setdefault(label, where)
                    if self.asked.labels is not None and label not in self.asked.labels:
                        raise _unknown_label(label, where, self.asked.labels, "the labels given")
                if progress:
                    progress.advance(1)
        return self._report()

    def _divided(self) -> Iterator[tuple[str, str, Row]]:
        """(split, where, row) of every row that is kept."""
        for split in ("test", "validation"):
            for where, row in self.asked.held_out_rows(split):
                self.held_out.add(_digest(row, self.task.question_keys))
                yield split, where, row
        for where, row in self.asked.rows():
            question = _digest(row, self.task.question_keys)
            if question in self.held_out:
                self.n_also_held_out += 1
            elif self._is_new(row):
                yield split_of(question, self.validation_fraction, self.test_fraction), where, row

    def _is_new(self, row: Row) -> bool:
        """Counts duplicates, and questions that were met with another answer."""
        if not self.rows.add(_digest(row, self.task.keys)):
            self.n_duplicates += 1
            return False
        if not self.questions.add(_digest(row, self.task.question_keys)):
            self.n_conflicts += self.task.one_answer
        return True

    def _report(self) -> dict[str, Any]:
        labels = sorted(self.met["train"]) if self.asked.labels is None else list(self.asked.labels)
        for split in ("validation", "test"):
            for label, where in self.met[split].items():
                if label not in labels:
                    raise _unknown_label(label, where, labels, "those of the train split")
        if self.task.answer in ("label", "tags") and len(labels) < 2:
            found = f"only the label {labels[0]!r}" if labels else "no label"
            raise UserError(f"there is {found} to train on", "give rows of two labels at least")
        return {
            "task": self.task.name,
            "labels": labels,
            "splits": {split: statistics.to_dict() for split, statistics in self.statistics.items()},
            "duplicates": self.n_duplicates,
            "conflicting": self.n_conflicts,
            "also_held_out": self.n_also_held_out,
            "validation_fraction": self.validation_fraction,
            "test_fraction": self.test_fraction,
        }


def _digest(row: Row, keys: Sequence[str]) -> str:
    values = json.dumps([row.get(key) for key in keys], ensure_ascii=False)
    return hashlib.sha256(values.encode()).hexdigest()


def _unknown_label(label: str, where: str, labels: Sequence[str], known_as: str) -> UserError:
    close = closest_match(label, labels)
    hint = f"did you mean {close!r}?" if close else "correct it, or name all labels with `labels`"
    return UserError(
        f"{where}: label {label!r} is none of {known_as} ({', '.join(map(repr, labels[:20]))})", hint
    )


def _check_filled(report: dict[str, Any], validation_fraction: float, test_fraction: float) -> None:
    n = {split: facts["examples"] for split, facts in report["splits"].items()}
    wanted = {"train": 1.0, "validation": validation_fraction, "test": test_fraction}
    for split, fraction in wanted.items():
        if fraction and not n[split]:
            elsewhere = (
                f" ({report['also_held_out']} more are in the held-out files)"
                if report["also_held_out"]
                else ""
            )
            raise UserError(
                f"{sum(n.values())} different examples{elsewhere} leave {split} empty",
                "give more examples, name files for it, or set its fraction to 0",
            )
