"""What has changed in the documents of an index since its last version, and reading what is new.

A file whose size and time are those that were recorded is not opened; else its content decides. A file that is there and
cannot be read keeps the passages that it had. Files that were read go through the cleaning steps together.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from parakit.assistants.retrieval.config import IndexConfig
from parakit.assistants.retrieval.passages import split_passages
from parakit.assistants.retrieval.store import IndexedFile, PassageStore
from parakit.common.errors import UserError
from parakit.common.files import sha256_file
from parakit.common.progress import Bar
from parakit.data.cleaning.chain import CleaningChain
from parakit.data.cleaning.repeated_lines import RepeatedLinesConfig
from parakit.data.collected import read_rows, write_row
from parakit.data.conversations.from_documents.passages import title_of
from parakit.data.documents import Document
from parakit.data.duplicates.decontamination import DecontaminationConfig
from parakit.data.duplicates.digest_set import DigestSet
from parakit.data.duplicates.near_duplicates import NearDuplicatesConfig
from parakit.data.duplicates.repeated_passages import RepeatedPassagesConfig
from parakit.data.page_marks import page_starts, pages_of
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_file
from parakit.data.readers.input_file import InputFile
from parakit.data.readers.inputs import check_paths, input_files

OVER_THE_CORPUS = (
    RepeatedLinesConfig,
    NearDuplicatesConfig,
    RepeatedPassagesConfig,
    DecontaminationConfig,
)
UNREADABLE = "cannot be read"
SETTLED_NS = 2 * 10**9  # a file that changed so shortly before it was read may change again at the same time
UNSETTLED = -1


@dataclass
class Changes:
    """Sources of files, in the order in which they are read. `unreadable` keep what the index has of them."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    touched: list[IndexedFile] = field(default_factory=list)
    to_read: list[tuple[InputFile, IndexedFile]] = field(default_factory=list)

    @property
    def any(self) -> bool:
        """Whether the index is another afterwards."""
        return bool(self.to_read or self.removed)

    def counts(self) -> dict[str, int]:
        """How many files of each kind."""
        names = ("added", "changed", "removed", "unchanged", "unreadable")
        return {name: len(getattr(self, name)) for name in names}


def find_changes(
    config: IndexConfig, known: Mapping[str, IndexedFile], report: ReadReport, read_all: bool
) -> Changes:
    """Compare the files of `config.paths` with those that are `known`; `read_all`: unchanged ones are read too."""
    _check_steps(config)
    text_config, changes, seen = config.text_config(), Changes(), DigestSet()
    check_paths(config.paths)
    sources: dict[str, Path] = {}
    for path in config.paths:
        for file in input_files(path, text_config, report, seen):
            if file.source in sources:
                raise UserError(
                    f"two documents are called {file.source}: {sources[file.source]} and {file.path}",
                    "index the folder above both",
                )
            sources[file.source] = file.path
            _compare(file, known.get(file.source), changes, read_all)
    changes.removed = [source for source in known if source not in sources]
    return changes


def _compare(file: InputFile, before: IndexedFile | None, changes: Changes, read_all: bool) -> None:
    try:
        record = _record(file, before)
    except OSError:
        changes.unreadable.append(file.source)
        return
    same = before is not None and before.sha256 == record.sha256
    if same and not read_all:
        changes.unchanged.append(file.source)
        if before != record:
            changes.touched.append(record)
        return
    (changes.unchanged if same else changes.changed if before else changes.added).append(file.source)
    changes.to_read.append((file, record))


def _record(file: InputFile, before: IndexedFile | None) -> IndexedFile:
    if file.remote:
        return IndexedFile(file.source, file.remote.n_bytes, 0, file.remote.version)
    facts = file.path.stat()
    if before and (before.size, before.mtime_ns) == (facts.st_size, facts.st_mtime_ns):
        return before
    settled = time.time_ns() - facts.st_mtime_ns > SETTLED_NS
    digest = sha256_file(file.path)
    return IndexedFile(file.source, facts.st_size, facts.st_mtime_ns if settled else UNSETTLED, digest)


def _check_steps(config: IndexConfig) -> None:
    for step in config.cleaning:
        if isinstance(step, OVER_THE_CORPUS):
            raise UserError(
                f"the cleaning step {step.step} compares documents with each other, and an index reads those that changed",
                "leave it out; equal passages are shown once",
            )


def write_changes(
    store: PassageStore, config: IndexConfig, changes: Changes, report: ReadReport, bar: Bar | None = None
) -> None:
    """Bring the database up to date."""
    with tempfile.TemporaryDirectory(prefix="parakit-index-") as folder:
        rows = Path(folder) / "rows.jsonl"
        _read(rows, config, changes, report, bar)
        if config.cleaning:
            CleaningChain(config.cleaning, Path(folder) / "cleaning").run(rows)
        with store.transaction():
            for source in changes.removed:
                store.remove_file(source)
            for record in changes.touched:
                store.touch_file(record)
            documents = _by_file(rows)
            unreadable = set(changes.unreadable)
            for number, (file, record) in enumerate(changes.to_read):
                if file.source not in unreadable:
                    store.write_file(record, _cut(documents.get(number, ()), config))


def _read(path: Path, config: IndexConfig, changes: Changes, report: ReadReport, bar: Bar | None) -> None:
    text_config = config.text_config()
    with open(path, "w", encoding="utf-8", newline="\n") as rows:
        for number, (file, record) in enumerate(changes.to_read):
            n_failed = report.skipped[UNREADABLE]
            for document in read_file(replace(file, mark_pages=True), text_config, report):
                write_row(rows, number, document)
            if report.skipped[UNREADABLE] > n_failed:
                _keep(changes, file.source)
            if bar:
                bar.advance(record.size)


def _keep(changes: Changes, source: str) -> None:
    for names in (changes.added, changes.changed, changes.unchanged):
        if source in names:
            names.remove(source)
    changes.unreadable.append(source)


def _by_file(rows: Path) -> dict[int, list[Document]]:
    """The documents of each file by its number. Memory: the text of what changed."""
    grouped = groupby(read_rows(rows), key=lambda row: row[0])
    return {number: [document for _, document in group] for number, group in grouped}


def _cut(documents: Sequence[Document], config: IndexConfig) -> Iterator[tuple[str, str, list]]:
    for marked in documents:
        text, starts = page_starts(marked.text)
        document = replace(marked, text=text)
        passages = split_passages(text, config.passage_chars, config.overlap_chars)
        if starts:
            passages = [replace(one, pages=tuple(pages_of(starts, one.begin, one.end))) for one in passages]
        yield document.source, title_of(document), passages
