"""A corpus: documents, deduplicated, in three splits, with a report of everything that was read and left out.

Each split is JSON lines of {"text", "source", "n_bytes"}. The same input gives the same bytes, whatever the order in
which its files were created. All documents of a text go to one split (`split_assignment`); the documents are written to a
temporary file first, because the splits follow from all texts together. Where whole texts cannot fill the splits, regions of
them do, and long documents are cut finer until these have enough; the report gives the length used.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from parakit.common.artifacts import Lineage, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, write_json_atomic
from parakit.common.progress import Bar
from parakit.data.config import TextConfig
from parakit.data.documents import Document
from parakit.data.duplicates.digest_set import DigestSet
from parakit.data.duplicates.text_groups import Sketch, near_duplicate_groups
from parakit.data.mixing import source_caps
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents
from parakit.data.repeated_lines import LineCounter
from parakit.data.sources import GeneratedSource
from parakit.data.split_assignment import (
    LAST_RESORT,
    MIN_PIECES,
    SplitAssignment,
    TextUnit,
    assign_regions,
    assign_splits,
    region_split,
)
from parakit.data.splits import SPLITS, split_path, writing_splits

FINEST_CHARS = 250  # documents are not cut shorter than this to fill a split
N_LARGEST = 10  # files that the report names
FACTS = ("splits", "split_by", "texts_in_two_splits", "n_files", "largest_files", "lines")
"""Keys of the report that the doctor checks; token shards of the corpus have them too."""


@dataclass
class _Texts:
    """The texts of a corpus, before they are split."""

    report: ReadReport = field(default_factory=ReadReport)
    units: list[TextUnit] = field(default_factory=list)
    sketches: list[Sketch] = field(default_factory=list)
    lines: LineCounter = field(default_factory=LineCounter)
    n_templated: int = 0

    def begin(self, document: Document, held_out: bool) -> TextUnit:
        self.units.append(TextUnit(document.digest, document.file, held_out, group=len(self.units)))
        return self.units[-1]


def prepare_corpus(
    config: TextConfig,
    path: str | Path,
    overwrite: bool = False,
    progress: Bar | None = None,
    source: GeneratedSource[Document] | None = None,
) -> Path:
    """Read the text of `config`, or generate that of `source`, deduplicate and split it, and write it to the artifact
    folder `path` (kind "corpus").

    Raises `UserError` for input that cannot be read, and for less text than `min_corpus_bytes`; then nothing is
    written. `progress` counts bytes.
    """
    if not config.paths and source is None:
        raise UserError("no text was given", "name files or folders to read (paths), or generate the primer")
    values = config.model_dump(mode="json") | ({source.name: source.config} if source else {})
    lineage = Lineage("corpus", config=values, seed=source.seed if source else None)
    with writing_artifact(path, lineage, overwrite) as folder:
        collected = folder / "collected"
        max_chars = config.max_document_chars
        texts = _collect(collected, config, source, progress)
        _check_size(texts, config)
        assignment = assign_splits(texts.units, *_fractions(config))
        while assignment is None:
            if _longest(texts) >= MIN_PIECES or max_chars // 2 < FINEST_CHARS or source:
                assignment = _regions(texts, config, source)
                break
            max_chars //= 2
            texts = _collect(collected, config.replace(max_document_chars=max_chars), None, None)
        written = _write_splits(folder, collected, texts, assignment, config)
        if source:  # its kinds of text are no files
            written |= {"n_files": 0, "largest_files": []}
        collected.unlink()
        lineage.result = {"max_document_chars": max_chars} | _counts(texts.report)
        lineage.result |= {name: written[name] for name in ("splits", "split_by")}
        report = {"splits": written["splits"], "max_document_chars": max_chars} | texts.report.to_dict()
        report |= written | {"lines": texts.lines.to_dict(), "templated_texts": texts.n_templated}
        write_json_atomic(folder / "report.json", report)
    return Path(path)


def iter_corpus(path: str | Path, split: str) -> Iterator[Document]:
    """Stream one split (`train`, `validation` or `test`) of a corpus folder."""
    with open(split_path(path, "corpus", split), "rb") as file:
        for line in file:
            yield Document(**json.loads(line))


def _fractions(config: TextConfig) -> tuple[float, float]:
    return 0.0 if config.validation_paths else config.validation_fraction, config.test_fraction


def _longest(texts: _Texts) -> int:
    return max((unit.n_pieces for unit in texts.units if not unit.held_out), default=0)


def _collect(
    path: Path, config: TextConfig, source: GeneratedSource[Document] | None, progress: Bar | None
) -> _Texts:
    """Write every document that is kept to `path`, each after the index of its text."""
    texts = _Texts()
    files_read, held_out, known = DigestSet(), DigestSet(), DigestSet()
    with open(path, "w", encoding="utf-8", newline="\n") as file:

        def keep(document: Document, index: int) -> None:
            row = {"text": document.text, "source": document.source, "n_bytes": document.n_bytes}
            file.write(f"{index}\t{json.dumps(row, ensure_ascii=False)}\n")
            unit = texts.units[index]
            unit.n_bytes += document.n_bytes
            unit.n_pieces += 1
            texts.lines.add(document.text)
            if progress:
                progress.advance(document.n_bytes)

        report = texts.report
        held = read_documents(config, report, paths=config.validation_paths, seen=files_read)
        for index, document in _in_texts(held, texts, True, source):
            if held_out.add(document.digest) or not config.deduplicate:
                keep(document, index)
            else:
                report.duplicates += 1
        documents = (
            _counted(source.generate(), report) if source else read_documents(config, report, seen=files_read)
        )
        for index, document in _in_texts(documents, texts, False, source):
            if document.digest in held_out:
                report.validation_duplicates += 1
            elif config.deduplicate and not known.add(document.digest):
                report.duplicates += 1
            else:
                keep(document, index)
    if not source:
        groups, texts.n_templated = near_duplicate_groups(texts.sketches)
        for unit, group in zip(texts.units, groups.tolist(), strict=True):
            unit.group = group
    return texts


def _in_texts(
    documents: Iterable[Document], texts: _Texts, held_out: bool, source: GeneratedSource[Document] | None
) -> Iterator[tuple[int, Document]]:
    """Each document with the index of its text. A text is a file or a row; a generated document is one of its own."""
    last: tuple[int, str] | None = None
    for document in documents:
        key = (texts.report.files, document.source)
        if key != last or (source and not held_out):
            texts.begin(document, held_out)
            texts.sketches.append(Sketch())
        last = key
        if not source:
            texts.sketches[-1].add(document.text)
        yield len(texts.units) - 1, document


def _counted(documents: Iterable[Document], report: ReadReport) -> Iterator[Document]:
    for document in documents:
        report.documents += 1
        report.bytes += document.n_bytes
        yield document


def _regions(texts: _Texts, config: TextConfig, source: GeneratedSource[Document] | None) -> SplitAssignment:
    """Regions of the longest texts, or of few short texts a whole one; `UserError` where a split stays empty."""
    fractions = _fractions(config)
    n = _longest(texts)
    made = {region_split(piece, n, *fractions) for piece in range(n)}
    wanted = {"train", *(name for name, f in zip(SPLITS[1:], fractions, strict=True) if f)}
    if source or not wanted <= made:
        if assignment := assign_splits(texts.units, *fractions, least_room=LAST_RESORT):
            return assignment
        raise _empty_split_error(sorted(wanted - {"train"}), texts, config)
    return assign_regions(texts.units)


def _write_splits(
    folder: Path, collected: Path, texts: _Texts, assignment: SplitAssignment, config: TextConfig
) -> JsonObject:
    """Copy the documents to their splits; returns what the report says about these."""
    splits = {split: {"documents": 0, "bytes": 0, "sources": 0} for split in SPLITS}
    gap, capped, similar = ({"documents": 0, "bytes": 0} for _ in range(3))
    by_file, seen, groups = Counter[str](), set[tuple[str, int]](), set[tuple[str, int]]()
    pieces = Counter[int]()
    caps = _caps(texts, assignment, config)
    with writing_splits(folder) as outputs, open(collected, encoding="utf-8", newline="\n") as file:
        for line in file:
            number, _, row = line.partition("\t")
            index = int(number)
            unit = texts.units[index]
            document = Document(**json.loads(row))
            split = assignment.splits[index]
            if split is None and index not in assignment.dropped:
                split = region_split(pieces[index], unit.n_pieces, *_fractions(config))
                pieces[index] += 1
            if index in assignment.dropped or split is None:
                counts: dict[str, int] = similar if index in assignment.dropped else gap
            elif split == "train" and _position(document) >= caps.get(unit.file, 1.0):
                counts = capped
            else:
                outputs[split].write(row)
                counts = splits[split]
                if (split, index) not in seen:
                    seen.add((split, index))
                    counts["sources"] += 1
                    groups |= {(split, unit.group)} if assignment.by == "text" else set()
                if split == "train":
                    by_file[unit.file] += document.n_bytes
            counts["documents"] += 1
            counts["bytes"] += document.n_bytes
    return {
        "splits": splits,
        "split_by": assignment.by,
        "gap": gap,
        "near_duplicates": similar,
        "over_max_source_share": capped,
        "texts_in_two_splits": sum(n > 1 for n in Counter(group for _, group in groups).values()),
        "n_files": len(by_file),
        "largest_files": largest(by_file, "bytes"),
        "near_duplicate_texts": sum(unit.group != i for i, unit in enumerate(texts.units)),
    }


def largest(by_file: Counter[str], unit: str) -> list[JsonObject]:
    """The largest files, each with its size in `unit` and its share of all."""
    total = max(1, by_file.total())
    return [
        {"file": name, unit: n, "share": round(n / total, 4)} for name, n in by_file.most_common(N_LARGEST)
    ]


def _caps(texts: _Texts, assignment: SplitAssignment, config: TextConfig) -> dict[str, float]:
    """The part of its documents that a file keeps in the training split, for files that are cut down."""
    if config.max_source_share is None:
        return {}
    sizes = Counter[str]()
    for i, unit in enumerate(texts.units):
        if assignment.splits[i] in (None, "train") and i not in assignment.dropped:
            sizes[unit.file] += unit.n_bytes
    return source_caps(sizes, config.max_source_share)


def _position(document: Document) -> float:
    """Where a document is in a fixed random order, in [0, 1): of other digits than the split's."""
    return int(document.digest[-13:], 16) / 2**52


def _check_size(texts: _Texts, config: TextConfig) -> None:
    """The least size of the text as a whole; later stages check their own needs, such as a full batch."""
    n_bytes = sum(unit.n_bytes for unit in texts.units if not unit.held_out)
    if n_bytes >= config.min_corpus_bytes:
        return
    n_duplicates = texts.report.duplicates + texts.report.validation_duplicates
    duplicates = f" without {n_duplicates} duplicate documents" if n_duplicates else ""
    raise UserError(
        f"the corpus has {n_bytes:,} bytes{duplicates}, and {config.min_corpus_bytes:,} are the least",
        "give more text, or lower min_corpus_bytes if you mean it",
    )


def _empty_split_error(empty: list[str], texts: _Texts, config: TextConfig) -> UserError:
    n_documents = sum(unit.n_pieces for unit in texts.units)
    n_bytes = sum(unit.n_bytes for unit in texts.units)
    fractions = f"validation_fraction = {config.validation_fraction}, test_fraction = {config.test_fraction}"
    return UserError(
        f"{n_documents} documents ({n_bytes:,} bytes) leave {' and '.join(empty)} empty",
        f"name files with validation_paths, change the fractions (now {fractions}), or give more text",
    )


def _counts(report: ReadReport) -> JsonObject:
    """The counts that the lineage records."""
    names = (
        "files",
        "documents",
        "bytes",
        "bad_bytes",
        "duplicates",
        "validation_duplicates",
        "headers_stripped",
    )
    return {name: getattr(report, name) for name in names} | {"skipped": dict(sorted(report.skipped.items()))}
