"""A corpus: documents, deduplicated, in three splits, with a report of everything that was read and left out.

Each split is JSON lines of {"text", "source", "n_bytes"}. The same input gives the same bytes, whatever the order in
which its files were created. In a small corpus long documents are cut finer until every requested split has a document,
and the report gives the length used; a document's split still depends on its text alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from parakit.common.artifacts import Lineage, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, write_json_atomic
from parakit.common.progress import Bar
from parakit.data.config import TextConfig
from parakit.data.deduplication import DigestSet
from parakit.data.documents import Document
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents
from parakit.data.sources import GeneratedSource
from parakit.data.splits import SPLITS, split_of, split_path, writing_splits

FINEST_CHARS = 250  # documents are not cut shorter than this to fill a split


@dataclass
class _Result:
    report: ReadReport = field(default_factory=ReadReport)
    splits: dict[str, dict[str, int]] = field(
        default_factory=lambda: {split: {"documents": 0, "bytes": 0} for split in SPLITS}
    )

    def n_bytes(self) -> int:
        return sum(counts["bytes"] for counts in self.splits.values())


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
        max_chars = config.max_document_chars
        result = _write_splits(folder, config, source, progress)
        _check_size(result, config)
        while empty := _empty_splits(result, config):
            max_chars //= 2
            if source or max_chars < FINEST_CHARS:
                raise _empty_split_error(empty, result, config)
            result = _write_splits(folder, config.replace(max_document_chars=max_chars), None, None)
        lineage.result = {"max_document_chars": max_chars, "splits": result.splits} | _counts(result.report)
        report = {"splits": result.splits, "max_document_chars": max_chars} | result.report.to_dict()
        write_json_atomic(folder / "report.json", report)
    return Path(path)


def iter_corpus(path: str | Path, split: str) -> Iterator[Document]:
    """Stream one split (`train`, `validation` or `test`) of a corpus folder."""
    with open(split_path(path, "corpus", split), "rb") as file:
        for line in file:
            yield Document(**json.loads(line))


def _write_splits(
    folder: Path, config: TextConfig, source: GeneratedSource[Document] | None, progress: Bar | None
) -> _Result:
    result = _Result()
    files_read, held_out, known = DigestSet(), DigestSet(), DigestSet()
    with writing_splits(folder) as outputs:
        for document in read_documents(config, result.report, paths=config.validation_paths, seen=files_read):
            if held_out.add(document.digest) or not config.deduplicate:
                _write(document, "validation", outputs, result, progress)
            else:
                result.report.duplicates += 1
        validation_fraction = 0.0 if config.validation_paths else config.validation_fraction
        for document in (
            _counted(source.generate(), result.report)
            if source
            else read_documents(config, result.report, seen=files_read)
        ):
            digest = document.digest
            if digest in held_out:
                result.report.validation_duplicates += 1
            elif config.deduplicate and not known.add(digest):
                result.report.duplicates += 1
            else:
                split = split_of(digest, validation_fraction, config.test_fraction)
                _write(document, split, outputs, result, progress)
    return result


def _counted(documents: Iterable[Document], report: ReadReport) -> Iterator[Document]:
    for document in documents:
        report.documents += 1
        report.bytes += document.n_bytes
        yield document


def _write(
    document: Document, split: str, outputs: Mapping[str, IO[str]], result: _Result, progress: Bar | None
) -> None:
    row = {"text": document.text, "source": document.source, "n_bytes": document.n_bytes}
    outputs[split].write(json.dumps(row, ensure_ascii=False) + "\n")
    result.splits[split]["documents"] += 1
    result.splits[split]["bytes"] += document.n_bytes
    if progress:
        progress.advance(document.n_bytes)


def _empty_splits(result: _Result, config: TextConfig) -> list[str]:
    fractions = {"train": 1.0, "validation": config.validation_fraction, "test": config.test_fraction}
    if config.validation_paths:
        fractions["validation"] = 1.0
    return [
        split for split, fraction in fractions.items() if fraction and not result.splits[split]["documents"]
    ]


def _check_size(result: _Result, config: TextConfig) -> None:
    """The least size of the text as a whole; later stages check their own needs, such as a full batch."""
    n_bytes = result.n_bytes() - (result.splits["validation"]["bytes"] if config.validation_paths else 0)
    if n_bytes >= config.min_corpus_bytes:
        return
    n_duplicates = result.report.duplicates + result.report.validation_duplicates
    duplicates = f" without {n_duplicates} duplicate documents" if n_duplicates else ""
    raise UserError(
        f"the corpus has {n_bytes:,} bytes{duplicates}, and {config.min_corpus_bytes:,} are the least",
        "give more text, or lower min_corpus_bytes if you mean it",
    )


def _empty_split_error(empty: list[str], result: _Result, config: TextConfig) -> UserError:
    n_documents = sum(counts["documents"] for counts in result.splits.values())
    fractions = f"validation_fraction = {config.validation_fraction}, test_fraction = {config.test_fraction}"
    return UserError(
        f"{n_documents} documents ({result.n_bytes():,} bytes) leave {' and '.join(empty)} empty",
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
