"""Artifact folders, written atomically, each with its lineage and a manifest of sha256 sums.

`writing_artifact` yields a temporary sibling, which becomes the artifact only when the block succeeds, so no artifact is
ever half written; one process at a time writes an artifact. `lineage.json` records kind, parents, settings and result;
`manifest.json` lets `open_artifact` detect a flipped bit. The digest is the sha256 of the manifest and of the reproducible
part of the lineage.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel

from parakit.common.errors import CorruptArtifact, UnexpectedFile, UserError
from parakit.common.files import (
    JsonObject,
    disk_errors,
    fsync_file,
    fsync_folder,
    is_file,
    is_plain_name,
    read_json,
    sha256_file,
    write_json_atomic,
)
from parakit.common.hardware import describe_hardware, parakit_version
from parakit.common.json_reading import shown
from parakit.common.locks import output_lock, partial_folder
from parakit.common.remote import VIEW, is_remote, local_view, view_of
from parakit.common.settings import config_digest

LINEAGE, MANIFEST = "lineage.json", "manifest.json"
BUILD, RECIPE = "build.json", "recipe.json"  # in the folder of a build
RUN, PLAN = "run.json", "plan.json"  # in the folder of a run's checkpoints
_RESTORE = "restore it from a copy, or delete the folder and run the stage again"


class FileRecord(BaseModel):
    """A file in a manifest."""

    sha256: str
    size: int


class ManifestRecord(BaseModel):
    """`manifest.json`."""

    files: dict[str, FileRecord]


class ParentRecord(BaseModel):
    """A parent in `lineage.json`."""

    kind: str
    digest: str
    path: str


class LineageRecord(BaseModel):
    """`lineage.json`, as far as Parakit reads it."""

    kind: str
    digest: str
    parents: list[ParentRecord]
    config: JsonObject
    seconds: float
    result: JsonObject
    version: str | None = None
    seed: int | None = None
    hardware: JsonObject | None = None
    created: str | None = None


@dataclass
class Lineage:
    """The kind of an artifact, its settings and its parents. `result` may be filled until the writing block ends."""

    kind: str
    config: JsonObject = field(default_factory=dict)
    parents: list[str | Path] = field(default_factory=list)
    seed: int | None = None
    result: JsonObject = field(default_factory=dict)
    run: str | None = None
    """The run directory's name of what was trained; no part of the digest."""


@dataclass(frozen=True)
class Artifact:
    """An opened artifact folder."""

    path: Path
    kind: str
    digest: str
    lineage: JsonObject


def require_new_output(path: str | Path | None, *, overwrite: bool = False) -> None:
    """`UserError` for an output folder that is there already, before the work for it begins."""
    if path is not None and not overwrite and Path(path).exists():
        raise UserError(f"{path}: exists already", "choose another folder, or pass --overwrite to replace it")


def work_folder(out: Path) -> Path:
    """The folder next to `out` in which an interrupted run leaves what it has done."""
    return out.parent / f".{out.name}.work"


@contextlib.contextmanager
def resumable_output(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Hold the lock of `out` and yield its work folder, which is removed when the block succeeds and stays when it raises.
    `UserError` for an output that exists, and for one that another process is writing.
    """
    require_new_output(out, overwrite=overwrite)
    with disk_errors(out), output_lock(out):
        work = work_folder(out)
        yield work
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def writing_artifact(path: str | Path, lineage: Lineage, overwrite: bool = False) -> Iterator[Path]:
    """Yield a folder to fill; it becomes `path` when the block succeeds and is removed when it raises.

    An existing `path` is a `UserError` unless `overwrite`; the old folder stays until the new one is complete. So is a
    `path` that another process is writing; what a process that is gone left unfinished is removed.
    """
    path = Path(path)
    require_new_output(path, overwrite=overwrite)
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: is a file, but an artifact is a folder", "choose another name")
    if path.exists() and any(path.iterdir()) and not (path / LINEAGE).is_file():
        raise UserError(
            f"{path}: is not a Parakit artifact and is not replaced",
            "choose another folder, or empty it yourself",
        )
    started = time.monotonic()
    parents = [_parent(parent) for parent in lineage.parents]
    with contextlib.ExitStack() as stack:
        stack.enter_context(disk_errors(path))
        stack.enter_context(output_lock(path))
        folder = partial_folder(path)
        try:
            yield folder
            _finalize(folder, lineage, parents, time.monotonic() - started)
            os.chmod(folder, 0o755)
            _replace(folder, path)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def copy_artifact(source: Path, path: Path) -> None:
    """The artifact `source` at `path` too, in place of what is there: its files are hard links where the file system has
    them, and copies elsewhere. Files of an artifact are never written again, so neither changes with the other.
    """
    with disk_errors(path), output_lock(path):
        folder = partial_folder(path)
        try:
            shutil.copytree(source, folder, copy_function=link_or_copy, dirs_exist_ok=True)
            os.chmod(folder, 0o755)
            _replace(folder, path)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def link_or_copy(source: str, target: str) -> None:
    """A hard link where the file system has them, else a copy: for files of artifacts, which are never written again."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def open_artifact(path: str | Path, kind: str | Sequence[str] | None = None, verify: bool = True) -> Artifact:
    """Read an artifact's lineage and check every file against the manifest. Of one on object storage a folder of this
    machine with its small files is opened (see `remote`).

    Raises `UserError` when `path` is no artifact or of another kind, and `CorruptArtifact` naming the first file that is
    missing, extra or altered.
    """
    path = local_view(path) if isinstance(path, str) and is_remote(path) else Path(path)
    if not path.exists():
        raise UserError(
            f"{path}: no such folder", "check the path; `parakit show PATH` describes what a folder holds"
        )
    if not (path / LINEAGE).is_file():
        raise UserError(
            f"{path}: not a Parakit artifact: it has no {LINEAGE}",
            "point to a folder that a parakit command wrote",
        )
    if verify:
        verify_manifest(path)
    lineage = read_lineage(path)
    kinds = (kind,) if isinstance(kind, str) else kind
    if kinds and lineage["kind"] not in kinds:
        raise UserError(
            f"{path}: holds a {lineage['kind']}, but a {' or '.join(kinds)} is needed",
            "point to the right folder",
        )
    return Artifact(path, lineage["kind"], lineage["digest"], lineage)


def read_lineage(folder: str | Path) -> JsonObject:
    """The `lineage.json` of a folder; `CorruptArtifact` names a key that is missing or has another type."""
    lineage: JsonObject = read_json(Path(folder) / LINEAGE, LineageRecord)
    return lineage


def has_kind(folder: str | Path, kind: str) -> bool:
    """Whether a folder holds an artifact of this kind."""
    return (Path(folder) / LINEAGE).is_file() and read_lineage(folder)["kind"] == kind


def verify_manifest(path: str | Path, names: Collection[str] | None = None) -> None:
    """Compare every file of an artifact (or those of `names` that it was written with) with its recorded size and sha256;
    `CorruptArtifact` names the first that differs.
    """
    path = Path(path)
    recorded = _recorded(path / MANIFEST)
    elsewhere = (view_of(path) or {"large": {}})["large"]
    for name, (sha256, size) in recorded.items():
        if (names is not None and name not in names) or name in elsewhere:
            continue
        file = path / name
        if not is_file(file):
            raise CorruptArtifact(f"{file}: is missing", _RESTORE)
        if file.stat().st_size != size:
            raise CorruptArtifact(
                f"{file}: has {file.stat().st_size} bytes, but {size} were written", _RESTORE
            )
        if sha256_file(file) != sha256:
            raise CorruptArtifact(
                f"{file}: its content has changed since it was written (sha256 differs)", _RESTORE
            )
    if names is None and (extra := sorted(set(_files(path)) - set(recorded) - {MANIFEST, VIEW})):
        raise UnexpectedFile(f"{path / extra[0]}: does not belong to this artifact", "move it elsewhere")


@contextlib.contextmanager
def verified_meanwhile(path: str | Path) -> Iterator[None]:
    """Verify an artifact in a thread while the block reads it, which a second core makes free: hashing takes a second for
    each gigabyte or two. An error of verification comes in place of the block's own, which may be its consequence.
    """
    pool = ThreadPoolExecutor(1, "verify")
    verification = pool.submit(verify_manifest, path)
    pool.shutdown(wait=False)
    try:
        yield
    except Exception:
        verification.result()
        raise
    verification.result()


def _recorded(manifest: Path) -> dict[str, tuple[str, int]]:
    """sha256 and size by relative path, from a manifest."""
    if not is_file(manifest):
        raise CorruptArtifact(f"{manifest}: is missing", _RESTORE)
    record = read_json(manifest, ManifestRecord)
    files = record["files"]
    digest = config_digest({"files": files})  # of its own: else a flipped bit would be blamed on another file
    if record != {"files": files} and record != {"files": files, "sha256": digest}:
        raise CorruptArtifact(
            f"{manifest}: its content has changed since it was written (sha256 differs)", _RESTORE
        )
    if bad := next((name for name in files if not is_plain_name(name)), None):
        raise CorruptArtifact(f"{manifest}: lists {shown(bad)}, which is no file of its folder", _RESTORE)
    return {name: (entry["sha256"], entry["size"]) for name, entry in files.items()}


def _parent(path: str | Path) -> dict[str, str]:
    parent = open_artifact(path, verify=False)
    return {"kind": parent.kind, "digest": parent.digest, "path": str(parent.path)}


def _files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _finalize(folder: Path, lineage: Lineage, parents: list[dict[str, str]], seconds: float) -> None:
    """Write lineage and manifest, and flush all files to the disk."""
    files = {
        name: {"sha256": sha256_file(folder / name), "size": (folder / name).stat().st_size}
        for name in _files(folder)
    }
    reproducible = {
        "kind": lineage.kind,
        "config": lineage.config,
        "seed": lineage.seed,
        "parents": [p["digest"] for p in parents],
    }
    record = {
        "kind": lineage.kind,
        "digest": config_digest(reproducible | {"files": files}),
        "parents": parents,
        "config": lineage.config,
        "version": parakit_version(),
        "seed": lineage.seed,
        "hardware": describe_hardware(),
        "seconds": round(seconds, 3),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "result": lineage.result,
    }
    if lineage.run is not None:
        record["run"] = lineage.run
    write_json_atomic(folder / LINEAGE, record)
    files[LINEAGE] = {"sha256": sha256_file(folder / LINEAGE), "size": (folder / LINEAGE).stat().st_size}
    write_json_atomic(folder / MANIFEST, {"files": files, "sha256": config_digest({"files": files})})
    for name in files:
        fsync_file(folder / name)
    for inner in {folder / parent for name in files for parent in Path(name).parents}:
        fsync_folder(inner)


def _replace(folder: Path, path: Path) -> None:
    """Rename `folder` to `path`; an existing artifact there is swapped for it and then deleted."""
    if not path.exists():
        os.rename(folder, path)
        fsync_folder(path.parent)
        return
    if not _exchange(folder, path):  # without an atomic swap there is for a moment nothing at `path`
        old = partial_folder(path)
        os.rename(path, old)  # over the empty folder
        try:
            os.rename(folder, path)
        except BaseException:
            os.rename(old, path)
            raise
        folder = old
    fsync_folder(path.parent)
    shutil.rmtree(folder, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders atomically where the kernel can (Linux, renameat2 with RENAME_EXCHANGE); False elsewhere."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    cwd = -100  # AT_FDCWD: relative paths start at the working directory
    return renameat2 is not None and renameat2(cwd, os.fsencode(one), cwd, os.fsencode(other), 2) == 0
