"""A set of examples: deduplicated, split into train, validation and test, as an artifact folder.

The digest of the input (the text, the words, the source) decides the split, so one input is never in two splits with two
answers, and further rows move none. Files named for validation or test are those splits, row for row, and their inputs
are not trained on. Where a small set leaves validation empty, its fraction is doubled up to a half; the report gives the
fraction used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from parakit.common.artifacts import Lineage, open_artifact, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, read_json, write_json_atomic
from parakit.common.progress import Bar
from parakit.common.settings import closest_match
from parakit.data.duplicates.digest_set import DigestSet
from parakit.data.examples.formats import ExampleRow, TaskFormat, get_task_format, row_labels
from parakit.data.examples.readers import read_examples
from parakit.data.examples.statistics import SplitStatistics
from parakit.data.row_report import RowReport
from parakit.data.sources import GeneratedSource, Source, record_source
from parakit.data.splits import SPLITS, split_of, split_path, writing_splits

EXAMPLE_SPLITS = SPLITS


def prepare_examples(
    source: Source[ExampleRow],
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
    """Read examples of `task` from files (see `read_examples`), or generate them, into the artifact folder `path` (kind
    "examples"). Examples that a generator holds out are the test split, unless `test` names files.

    `labels` are those of classify, multi_label and tag, in order; by default the sorted labels of the train split.
    `columns` names the columns of tables without a header. `reverse` swaps source and target. `progress` counts examples.
    Raises `UserError` where a row is no example, where a label is not known, and where a split stays empty.
    """
    format = get_task_format(task)
    if reverse and format.name != "translate":
        raise UserError(f"{task} has no source and target to swap", "leave `reverse` out")
    files: dict[str, list[str]] = {"validation": list(validation), "test": list(test)}
    config = {"task": task, "validation_fraction": validation_fraction, "test_fraction": test_fraction}
    lineage = Lineage(
        "examples", config | {"files": files, "labels": labels and list(labels), "reverse": reverse}
    )
    record_source(lineage, source)
    if columns is not None:
        lineage.config["columns"] = list(columns)
    with writing_artifact(path, lineage, overwrite) as folder:
        fraction = 0.0 if validation else validation_fraction
        test_share = 0.0 if test else test_fraction

        def write(bar: Bar | None) -> JsonObject:
            reader = _ExampleReader(format, source, files, columns, reverse, RowReport())
            return _ExampleWriter(reader, labels, fraction, test_share).write(folder, bar)

        report = write(progress)
        while fraction and fraction < 0.5 and not report["splits"]["validation"]["examples"]:
            fraction = min(0.5, 2 * fraction)
            report = write(None)
        _check_filled(report, validation_fraction, test_fraction)
        write_json_atomic(folder / "report.json", report)
        lineage.result = report
    return Path(path)


def iter_examples(path: str | Path, split: str) -> Iterator[ExampleRow]:
    """Stream the rows of one split (`train`, `validation` or `test`) of an examples folder."""
    with open(split_path(path, "examples", split, EXAMPLE_SPLITS), "rb") as file:
        for line in file:
            yield json.loads(line)


def load_examples_report(path: str | Path) -> JsonObject:
    """The report that `prepare_examples` wrote: `task`, `labels`, and counts by split."""
    return read_json(open_artifact(path, "examples").path / "report.json")


@dataclass(frozen=True)
class _ExampleReader:
    """The rows of the source and of the files named for a split, each with its location."""

    format: TaskFormat
    source: Source[ExampleRow]
    files: Mapping[str, Sequence[str]]  # of validation and test
    columns: Sequence[str] | None
    reverse: bool
    report: RowReport

    def rows(self) -> Iterable[tuple[str, ExampleRow]]:
        """Rows whose digest decides the split."""
        if isinstance(self.source, GeneratedSource):
            return self._numbered(self.source.name, self.source.generate())
        return self._read(self.source)

    def held_out_rows(self, split: str) -> Iterable[tuple[str, ExampleRow]]:
        """Rows of `split` whatever their digest."""
        if split == "test" and isinstance(self.source, GeneratedSource) and not self.files[split]:
            return self._numbered(self.source.name, self.source.held_out() if self.source.held_out else ())
        return self._read(self.files[split])

    def _numbered(self, name: str, rows: Iterable[ExampleRow]) -> Iterator[tuple[str, ExampleRow]]:
        return ((f"{name}, row {n}", self._oriented(row)) for n, row in enumerate(rows, 1))

    def _read(self, paths: Sequence[str]) -> Iterator[tuple[str, ExampleRow]]:
        for path in paths:
            empty = True
            for where, row in read_examples(path, self.format.name, self.columns, self.report):
                empty = False
                yield where, self._oriented(row)
            if empty:
                raise UserError(f"{path}: no rows found", f"a row looks like {self.format.sample_row}")

    def _oriented(self, row: ExampleRow) -> ExampleRow:
        return {"source": row["target"], "target": row["source"]} if self.reverse else row


class _ExampleWriter:
    """Reads everything once, writes the three splits, and counts."""

    def __init__(
        self,
        reader: _ExampleReader,
        labels: Sequence[str] | None,
        validation_fraction: float,
        test_fraction: float,
    ) -> None:
        self.reader, self.format, self.labels = reader, reader.format, labels
        self.validation_fraction, self.test_fraction = validation_fraction, test_fraction
        self.rows, self.inputs, self.held_out = DigestSet(), DigestSet(), DigestSet()
        self.n_duplicates = self.n_conflicts = self.n_also_held_out = 0
        self.statistics = {split: SplitStatistics() for split in EXAMPLE_SPLITS}
        # split -> label -> where it first occurs
        self.first_seen: dict[str, dict[str, str]] = {split: {} for split in EXAMPLE_SPLITS}

    def write(self, folder: Path, progress: Bar | None) -> JsonObject:
        """Fill `folder`, and return the report. `progress` counts examples."""
        with writing_splits(folder, EXAMPLE_SPLITS) as outputs:
            for split, where, row in self._assigned():
                outputs[split].write(json.dumps(row, ensure_ascii=False) + "\n")
                self.statistics[split].add(row)
                for label in row_labels(row):
                    self.first_seen[split].setdefault(label, where)
                    if self.labels is not None and label not in self.labels:
                        raise _unknown_label(label, where, self.labels, "the labels given")
                if progress:
                    progress.advance(1)
        return self._report()

    def _assigned(self) -> Iterator[tuple[str, str, ExampleRow]]:
        """(split, where, row) of every row that is written."""
        for split in ("test", "validation"):
            for where, row in self.reader.held_out_rows(split):
                self.held_out.add(_digest(row, self.format.input_keys))
                yield split, where, row
        for where, row in self.reader.rows():
            digest = _digest(row, self.format.input_keys)
            if digest in self.held_out:
                self.n_also_held_out += 1
            elif self._is_new(row):
                yield split_of(digest, self.validation_fraction, self.test_fraction), where, row

    def _is_new(self, row: ExampleRow) -> bool:
        """Counts duplicates, and inputs that occurred with another answer."""
        if not self.rows.add(_digest(row, self.format.keys)):
            self.n_duplicates += 1
            return False
        if not self.inputs.add(_digest(row, self.format.input_keys)):
            self.n_conflicts += self.format.one_answer
        return True

    def _report(self) -> JsonObject:
        labels = sorted(self.first_seen["train"]) if self.labels is None else list(self.labels)
        for split in ("validation", "test"):
            for label, where in self.first_seen[split].items():
                if label not in labels:
                    raise _unknown_label(label, where, labels, "those of the train split")
        n_needed = {"label": 2, "tags": 2, "labels": 1}.get(self.format.answer, 0)
        if len(labels) < n_needed:
            given = f"only the label {labels[0]!r}" if labels else "no label"
            raise UserError(f"there is {given} to train on", f"give rows of {n_needed} labels at least")
        return {
            "task": self.format.name,
            "labels": labels,
            "splits": {split: statistics.to_dict() for split, statistics in self.statistics.items()},
            "duplicates": self.n_duplicates,
            "conflicting": self.n_conflicts,
            "also_held_out": self.n_also_held_out,
            **self.reader.report.to_dict(),
            "validation_fraction": self.validation_fraction,
            "test_fraction": self.test_fraction,
        }


def _digest(row: ExampleRow, keys: Sequence[str]) -> str:
    values = json.dumps([row.get(key) for key in keys], ensure_ascii=False)
    return hashlib.sha256(values.encode()).hexdigest()


def _unknown_label(label: str, where: str, labels: Sequence[str], known_as: str) -> UserError:
    close = closest_match(label, labels)
    hint = f"did you mean {close!r}?" if close else "correct it, or name all labels with `labels`"
    return UserError(
        f"{where}: label {label!r} is none of {known_as} ({', '.join(map(repr, labels[:20]))})", hint
    )


def _check_filled(report: JsonObject, validation_fraction: float, test_fraction: float) -> None:
    n = {split: facts["examples"] for split, facts in report["splits"].items()}
    fractions = {"train": 1.0, "validation": validation_fraction, "test": test_fraction}
    elsewhere = (
        f" ({report['also_held_out']} more are in the held-out files)" if report["also_held_out"] else ""
    )
    for split, fraction in fractions.items():
        if fraction and not n[split]:
            raise UserError(
                f"{sum(n.values())} different examples{elsewhere} leave {split} empty",
                "give more examples, name files for it, or set its fraction to 0",
            )
