"""Collecting the documents of a corpus in one file, before they are split, and what the split follows from: the texts that
they are parts of, with their sizes, digests and near-duplicates.

A text is a file or a row of one; a generated document is a text of its own. Where cleaning steps are set, the documents
are collected twice: as they were read, and as the steps left them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from parakit.common.files import JsonObject
from parakit.common.progress import Bar
from parakit.data.chunking import chunk
from parakit.data.cleaning.chain import CleaningChain
from parakit.data.collected import read_rows, write_row
from parakit.data.config import TextConfig
from parakit.data.documents import Document
from parakit.data.duplicates.digest_set import DigestSet
from parakit.data.duplicates.text_groups import SketchFile, near_duplicate_groups
from parakit.data.mixture import MAX_SOURCES
from parakit.data.parallel.parallel_cleaning import PartCleaner
from parakit.data.parallel.parallel_reading import PartReader
from parakit.data.parallel.task_runner import TaskRunner
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents
from parakit.data.repeated_lines import LineCounter
from parakit.data.sources import GeneratedSource
from parakit.data.split_assignment import TextUnit


@dataclass
class Texts:
    """The texts of a corpus, before they are split. `is_final`: cleaning steps do not follow."""

    report: ReadReport = field(default_factory=ReadReport)
    units: list[TextUnit] = field(default_factory=list)
    sketches: SketchFile = field(default_factory=SketchFile)
    lines: LineCounter = field(default_factory=LineCounter)
    n_templated: int = 0
    is_generated: bool = False
    is_final: bool = True
    cleaning: list[JsonObject] = field(default_factory=list)

    def begin(self, digest: str, file: str, held_out: bool, origin: int) -> None:
        """The next text, which is of `file` and begins with a document of this digest."""
        group = len(self.units)
        self.units.append(TextUnit(digest, file, held_out, group=group, origin=origin))
        self.sketches.begin()

    def longest(self) -> int:
        """The most pieces that a text has which may be split."""
        return max((unit.n_pieces for unit in self.units if not unit.held_out), default=0)

    def find_groups(self) -> None:
        """Put near-duplicates into one group."""
        if self.is_generated:
            return
        groups, self.n_templated = near_duplicate_groups(*self.sketches.read())
        for unit, group in zip(self.units, groups.tolist(), strict=True):
            unit.group = group


class DocumentWriter:
    """Writes documents, but for duplicates, and counts them for their texts."""

    def __init__(self, file: IO[str], texts: Texts, deduplicate: bool, progress: Bar | None = None) -> None:
        self._file, self._texts, self._deduplicate, self._progress = file, texts, deduplicate, progress
        self._held_out, self._known = DigestSet(), DigestSet()
        self._last: object = None

    def add(self, document: Document, key: object, held_out: bool, origin: int = 0) -> None:
        """`key` tells its text from the one before; None: it is one of its own. `origin`: the number of its source."""
        texts, digest = self._texts, document.digest  # it reads the whole text
        if key is None or key != self._last:
            texts.begin(digest, document.file, held_out, origin)
        self._last = key
        if texts.is_final and not texts.is_generated:
            texts.sketches.add(document.text)
        if held_out:
            if not self._held_out.add(digest) and self._deduplicate:
                texts.report.duplicates += 1
                return
        elif digest in self._held_out:
            texts.report.validation_duplicates += 1
            return
        elif self._deduplicate and not self._known.add(digest):
            texts.report.duplicates += 1
            return
        unit = texts.units[-1]
        write_row(self._file, len(texts.units) - 1, document)
        unit.n_bytes += document.n_bytes
        unit.n_pieces += 1
        if texts.is_final:
            texts.lines.add(document.text)
        if self._progress:
            self._progress.advance(document.n_bytes)


def collect(
    path: Path,
    config: TextConfig,
    source: GeneratedSource[Document] | None,
    progress: Bar | None,
    runner: TaskRunner | None = None,
) -> Texts:
    """Read, or generate, every document, and write those that are kept to `path`, cleaned. `runner` reads and cleans files
    in parts.
    """
    texts = Texts(
        sketches=SketchFile(path.parent), is_generated=source is not None, is_final=not config.cleaning
    )
    files_read, report = DigestSet(), texts.report
    read = PartReader(config, runner).read if runner else None
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        writer = DocumentWriter(file, texts, config.deduplicate, progress)
        held_out = config.validation_paths
        for document in read_documents(config, report, paths=held_out, seen=files_read, read=read):
            writer.add(document, (report.files, document.source), held_out=True, origin=MAX_SOURCES)
        if source:
            for document in _counted(source.generate(), report):
                writer.add(document, None, held_out=False)
        else:
            groups = [one.paths for one in config.sources] or [config.paths]
            for origin, paths in enumerate(groups):
                for document in read_documents(config, report, paths=paths, seen=files_read, read=read):
                    writer.add(document, (report.files, document.source), held_out=False, origin=origin)
    if texts.is_final:
        texts.find_groups()
        return texts
    return _cleaned(path, config, texts, runner)


def cut_finer(path: Path, texts: Texts, config: TextConfig, max_chars: int) -> Texts:
    """Collect the documents again in pieces of at most `max_chars`: read again where no step changed them, since the cuts
    of a whole text are steadier. Steps judge documents, not these pieces, so they do not run again.
    """
    if any(step["n_changed"] or step["n_left_out"] for step in texts.cleaning):
        return _collect_again(path, texts, config.deduplicate, max_chars)
    again = collect(path, config.replace(max_document_chars=max_chars, cleaning=()), None, None)
    again.cleaning = texts.cleaning
    return again


def _cleaned(path: Path, config: TextConfig, texts: Texts, runner: TaskRunner | None) -> Texts:
    """Run the cleaning steps over the documents in `path`; equal ones are found again among what they left."""
    folder = path.with_name("cleaning")
    chain = CleaningChain(config.cleaning, folder)
    chain.run(path, PartCleaner(runner) if runner else None)
    texts.cleaning = chain.report()
    shutil.rmtree(folder)
    return _collect_again(path, texts, config.deduplicate, None)


def _collect_again(path: Path, texts: Texts, deduplicate: bool, max_chars: int | None) -> Texts:
    """The texts of the documents in `path`, which is rewritten without duplicates, in pieces of `max_chars`."""
    again = Texts(
        sketches=SketchFile(path.parent),
        report=texts.report,
        is_generated=texts.is_generated,
        cleaning=texts.cleaning,
    )
    rewritten = path.with_name(f"{path.name}.again")
    with open(rewritten, "w", encoding="utf-8", newline="\n") as file:
        writer = DocumentWriter(file, again, deduplicate)
        for index, document in read_rows(path):
            for piece in _pieces(document, max_chars):
                writer.add(piece, index, texts.units[index].held_out, texts.units[index].origin)
    rewritten.replace(path)
    again.find_groups()
    return again


def _pieces(document: Document, max_chars: int | None) -> Iterator[Document]:
    if max_chars is None or len(document.text) <= max_chars:
        yield document
        return
    for text in chunk([document.text], max_chars):
        yield Document(text, document.source, len(text.encode()), document.steps)


def _counted(documents: Iterable[Document], report: ReadReport) -> Iterator[Document]:
    """The documents of a generator, counted as they are read."""
    for document in documents:
        report.documents += 1
        report.bytes += document.n_bytes
        yield document
