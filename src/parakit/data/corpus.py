"""A corpus: documents, deduplicated, in three splits, with a report of everything that was read and left out.

Each split is JSON lines of {"text", "source", "n_bytes"}, and "steps" where cleaning changed the text. The same input
gives the same bytes, whatever the order in which its files were created. All documents of a text go to one split
(`split_assignment`); the documents are written to a temporary file first (`collecting`), because the splits follow from all
texts together. Where whole texts cannot fill the splits, regions of them do, and long documents are cut finer until these
have enough; the report gives the length used.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from parakit.common.artifacts import Lineage, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, write_json_atomic
from parakit.common.progress import Bar
from parakit.common.remote import opened, view_of
from parakit.data.collecting import Texts, collect, cut_finer
from parakit.data.config import TextConfig
from parakit.data.documents import Document
from parakit.data.fetching.fetching import fetch_named
from parakit.data.parallel.task_runner import TaskRunner
from parakit.data.read_report import ReadReport
from parakit.data.sources import GeneratedSource
from parakit.data.split_assignment import (
    LAST_RESORT,
    MIN_PIECES,
    SplitAssignment,
    assign_regions,
    assign_splits,
    region_split,
)
from parakit.data.split_writing import fractions, write_documents
from parakit.data.splits import SPLITS, split_path

FINEST_CHARS = 250  # documents are not cut shorter than this to fill a split
FACTS = ("splits", "split_by", "texts_in_two_splits", "n_files", "largest_files", "lines")
"""Keys of the report that the doctor checks; token shards of the corpus have them too."""


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
    if source is None:
        fetch_named(config)
    values = config.model_dump(mode="json") | ({source.name: source.config} if source else {})
    lineage = Lineage("corpus", config=values, seed=source.seed if source else None)
    runner = None
    if source is None and (config.workers > 1 or config.executor != "local"):
        runner = TaskRunner(parts_folder(path), config.workers, config.executor, config.slurm_options)
    with writing_artifact(path, lineage, overwrite) as folder:
        collected = folder / "collected"
        max_chars = config.max_document_chars
        texts = collect(collected, config, source, progress, runner)
        _check_size(texts, config)
        assignment = assign_splits(texts.units, *fractions(config))
        while assignment is None:
            if texts.longest() >= MIN_PIECES or max_chars // 2 < FINEST_CHARS or source:
                assignment = _regions(texts, config, source)
                break
            max_chars //= 2
            texts = cut_finer(collected, texts, config, max_chars)
        written = write_documents(folder, collected, texts, assignment, config)
        if source:  # its kinds of text are no files
            written |= {"n_files": 0, "largest_files": []}
        collected.unlink()
        lineage.result = {"max_document_chars": max_chars} | _counts(texts.report)
        lineage.result |= {name: written[name] for name in ("splits", "split_by")}
        report = {"splits": written["splits"], "max_document_chars": max_chars} | texts.report.to_dict()
        report |= written | {"lines": texts.lines.to_dict(), "templated_texts": texts.n_templated}
        report |= {"cleaning": texts.cleaning} if config.cleaning else {}
        write_json_atomic(folder / "report.json", report)
    if runner:
        shutil.rmtree(runner.folder)
    return Path(path)


def parts_folder(path: str | Path) -> Path:
    """Where the parts of a corpus that several workers make are until it is finished: a run that was killed resumes there."""
    path = Path(path)
    return path.with_name(f"{path.name}.parts")


def iter_corpus(path: str | Path, split: str) -> Iterator[Document]:
    """Stream one split (`train`, `validation` or `test`) of a corpus folder."""
    file = split_path(path, "corpus", split)
    view = view_of(file.parent)
    with opened(f"{view['url']}/{file.name}") if view and not file.exists() else open(file, "rb") as lines:
        for line in lines:
            yield Document.from_row(line)


def _regions(texts: Texts, config: TextConfig, source: GeneratedSource[Document] | None) -> SplitAssignment:
    """Regions of the longest texts, or of few short texts a whole one; `UserError` where a split stays empty."""
    wanted_fractions = fractions(config)
    n = texts.longest()
    made = {region_split(piece, n, *wanted_fractions) for piece in range(n)}
    wanted = {"train", *(name for name, f in zip(SPLITS[1:], wanted_fractions, strict=True) if f)}
    if source or not wanted <= made:
        if assignment := assign_splits(texts.units, *wanted_fractions, least_room=LAST_RESORT):
            return assignment
        raise _empty_split_error(sorted(wanted - {"train"}), texts, config)
    return assign_regions(texts.units)


def _check_size(texts: Texts, config: TextConfig) -> None:
    """The least size of the text as a whole; later stages check their own needs, such as a full batch."""
    n_bytes = sum(unit.n_bytes for unit in texts.units if not unit.held_out)
    if n_bytes >= config.min_corpus_bytes:
        return
    n_duplicates = texts.report.duplicates + texts.report.validation_duplicates
    without = [f"{n_duplicates} duplicate documents"] if n_duplicates else []
    without += [
        f"{one['n_left_out']:,} documents that {one['step']} left out"
        for one in texts.cleaning
        if one["n_left_out"]
    ]
    less = f" without {' and '.join(without)}" if without else ""
    raise UserError(
        f"the corpus has {n_bytes:,} bytes{less}, and {config.min_corpus_bytes:,} are the least",
        "give more text, or lower min_corpus_bytes if you mean it",
    )


def _empty_split_error(empty: list[str], texts: Texts, config: TextConfig) -> UserError:
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
