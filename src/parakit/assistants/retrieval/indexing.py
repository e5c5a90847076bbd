"""Making an index of documents, and bringing one up to date.

An index is an artifact: a new version is written next to it and takes its place at once, so a search that runs meanwhile
has the old version or the new one, whole. What did not change is carried over: passages with their ids, and their vectors.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from parakit.assistants.retrieval.changes import Changes, find_changes, write_changes
from parakit.assistants.retrieval.config import IndexConfig
from parakit.assistants.retrieval.encoders import PassageEncoder, find_encoder
from parakit.assistants.retrieval.store import DATABASE, PassageStore
from parakit.assistants.retrieval.vectors import VectorCache, build_vectors
from parakit.assistants.retrieval.words import build_words
from parakit.common.artifacts import (
    LINEAGE,
    MANIFEST,
    Artifact,
    Lineage,
    link_or_copy,
    open_artifact,
    writing_artifact,
)
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, is_file
from parakit.common.locks import output_lock
from parakit.common.progress import progress
from parakit.data.fetching.locations import is_on_network
from parakit.data.read_report import ReadReport

KIND = "index"
ENCODER = "encoder_record"
THRESHOLD = "threshold"


def index_documents(
    config: IndexConfig, out: str | Path, *, overwrite: bool = False, device: str = "auto"
) -> JsonObject:
    """Write the index `out` of the documents of `config`, or bring it up to date; returns the report.

    An index that is there keeps its settings where `config` sets none, and only files that were added, changed or removed
    are read; `overwrite` makes it from nothing. Without paths those of the index are read again. `UserError` for paths
    other than the index's own, and where no document is left.
    """
    out = Path(out)
    with output_lock(out):
        previous = _previous(out) if out.exists() else None
        before = None if overwrite or previous is None else settings_of(previous)
        config = _continued(config, before, out)
        encoder_folder = find_encoder(config.encoder)
        encoder = PassageEncoder.load(encoder_folder, device) if encoder_folder else None
        kept = previous if before else None
        report, read_all = ReadReport(), before is None or not config.reads_like(before)
        known = _known(kept)
        changes = find_changes(config, known, report, read_all)
        same_encoder = kept is not None and _digest_of(kept) == (encoder.digest if encoder else None)
        if kept and before == config and same_encoder and not changes.any:
            return kept.lineage["result"] | {"files": changes.counts(), "rebuilt": False}
        lineage = Lineage(KIND, _recorded(config, encoder_folder, encoder, kept))
        if encoder_folder and is_file(encoder_folder / LINEAGE):
            lineage.parents.append(encoder_folder)
        cache = out.with_name(f".{out.name}.vectors.sqlite")
        with writing_artifact(out, lineage, overwrite=True) as folder:
            carried = kept.path if kept and same_encoder else None
            lineage.result = _write(folder, config, changes, report, encoder, kept, carried, cache)
        for suffix in ("", "-wal", "-shm"):
            cache.with_name(cache.name + suffix).unlink(missing_ok=True)
        return lineage.result | {"rebuilt": True}


def store_threshold(path: str | Path, threshold: JsonObject | None) -> None:
    """Keep a fitted threshold with an index: a new version of it, whose files are those of the one before."""
    with output_lock(path):
        index = open_artifact(path, KIND, verify=False)
        lineage = Lineage(
            KIND,
            index.lineage["config"] | {THRESHOLD: threshold},
            [one["path"] for one in index.lineage["parents"] if is_file(Path(one["path"]) / LINEAGE)],
            result=index.lineage["result"] | {"seconds": _seconds(index)},
        )
        with writing_artifact(path, lineage, overwrite=True) as folder:
            shutil.copytree(
                index.path,
                folder,
                dirs_exist_ok=True,
                ignore=lambda _, names: {LINEAGE, MANIFEST} & set(names),
                copy_function=link_or_copy,
            )


def _seconds(index: Artifact) -> float:
    """What the index took, which a version with another threshold keeps."""
    return max(index.lineage["seconds"], index.lineage["result"].get("seconds", 0.0))


def settings_of(index: Artifact) -> IndexConfig:
    """The settings that an index was made with."""
    recorded = index.lineage["config"]
    values = {name: recorded[name] for name in IndexConfig.model_fields if name in recorded}
    return IndexConfig.parse(values, str(index.path))


def _previous(out: Path) -> Artifact | None:
    if not any(out.iterdir()) if out.is_dir() else False:
        return None
    return open_artifact(out, KIND, verify=False)


def _continued(config: IndexConfig, before: IndexConfig | None, out: Path) -> IndexConfig:
    """The settings of this run: those that are set, over those of the index."""
    paths = tuple(path if is_on_network(path) else os.path.abspath(path) for path in config.paths)
    if before is None:
        if not paths:
            raise UserError("no documents were given", "name files or folders, and the index with --output")
        return config.replace(paths=paths)
    if paths and not set(paths) >= set(before.paths):
        raise UserError(
            f"{out}: is an index of {', '.join(before.paths)}, which {', '.join(paths)} would replace",
            "name another --output, or pass --overwrite to make it from nothing; name the old paths too to keep them",
        )
    given = {name: getattr(config, name) for name in config.model_fields_set - {"paths"}}
    return before.replace(**given, **({"paths": paths} if paths else {}))


def _known(kept: Artifact | None) -> dict:
    if kept is None:
        return {}
    store = PassageStore(kept.path)
    try:
        return store.files()
    finally:
        store.close()


def _digest_of(index: Artifact) -> str | None:
    record = index.lineage["config"].get(ENCODER)
    return record["digest"] if record else None


def _recorded(
    config: IndexConfig, folder: Path | None, encoder: PassageEncoder | None, kept: Artifact | None
) -> JsonObject:
    record = None
    if encoder and folder:
        record = {"path": os.path.abspath(folder), "digest": encoder.digest, "width": encoder.width}
    same = kept is not None and _digest_of(kept) == (encoder.digest if encoder else None)
    threshold = kept.lineage["config"].get(THRESHOLD) if kept and same else None  # it is of these scores
    return config.model_dump(mode="json") | {ENCODER: record, THRESHOLD: threshold}


def _write(
    folder: Path,
    config: IndexConfig,
    changes: Changes,
    report: ReadReport,
    encoder: PassageEncoder | None,
    kept: Artifact | None,
    carried: Path | None,
    cache_path: Path,
) -> JsonObject:
    """Fill the folder of a version; returns its result."""
    if kept:
        shutil.copyfile(kept.path / DATABASE, folder / DATABASE)
    store = PassageStore(folder, writable=True)
    try:
        with progress("documents", sum(record.size for _, record in changes.to_read), "bytes") as bar:
            write_changes(store, config, changes, report, bar)
        ids = store.ids()
        if not ids:
            raise _nothing_left(config, kept, report)
        build_words(folder, list(store.texts()), config.language)
        n_computed = 0
        if encoder:
            cache = VectorCache(cache_path, encoder.digest)
            try:
                with progress("vectors", None, "passages") as bar:
                    n_computed = build_vectors(folder, store, encoder, cache, carried, bar)
            finally:
                cache.close()
        content = hashlib.sha256(b"".join(store.content())).hexdigest()
        return {
            "n_files": store.n_files(),
            "n_passages": len(ids),
            "content": content,
            "files": changes.counts(),
            "skipped": dict(report.skipped),
            "vectors_computed": n_computed,
        }
    finally:
        store.close()


def _nothing_left(config: IndexConfig, kept: Artifact | None, report: ReadReport) -> UserError:
    paths = ", ".join(config.paths)
    skipped = ", ".join(f"{reason}: {n}" for reason, n in sorted(report.skipped.items()))
    if kept is not None:
        n = kept.lineage["result"]["n_passages"]
        return UserError(
            f"{paths}: no document is left, and the index has {n:,} passages",
            "the index stays as it is; restore the documents, or delete the index where that is meant",
        )
    return UserError(
        f"{paths}: no text found{f'; left out: {skipped}' if skipped else ''}",
        "give files with text: see docs/text.md for the formats",
    )
