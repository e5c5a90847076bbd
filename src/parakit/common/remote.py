"""Files on object storage (`s3://bucket/folder`, `gs://`, `az://` and what else fsspec knows), only where a user names them.

Keys and endpoints come from where the storage's own tools take them (for S3 AWS_ENDPOINT_URL, AWS_PROFILE and the like).
An object store has no rename: the lineage of an artifact is written last and removed first, so a folder without one is no
artifact yet. `local_view` is a folder of this machine with the small files of a remote artifact; its large files stay
where they are, and are read by range (`remote_array`) or as a stream.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import JsonObject, cache_folder, sha256_file, write_json_atomic

VIEW = "remote.json"
SMALL_BYTES = 2**20
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://")
_LAST = "lineage.json"
_LARGE_FORMATS = (".bin", ".jsonl")


@dataclass(frozen=True)
class RemoteFile:
    """A file on object storage: its address, its size in bytes, and what changes with its content (an ETag or a time)."""

    url: str
    n_bytes: int
    version: str


def is_remote(path: str | Path) -> bool:
    """Whether a path is an address such as s3://bucket/folder."""
    return isinstance(path, str) and _ADDRESS.match(path) is not None


def list_files(url: str) -> list[RemoteFile]:
    """The file at `url`, or all files below it, by name. `UserError` where there is none, or the storage refuses."""
    with _named_errors(url):
        system, path = _filesystem(url)
        found = system.find(path, detail=True)
        scheme = url.partition("://")[0]
        files = [
            RemoteFile(f"{scheme}://{str(name).lstrip('/')}", int(info["size"] or 0), _version(info))
            for name, info in sorted(found.items())
            if info["type"] == "file" and not str(name).endswith("/")
        ]
    if not files:
        raise UserError(f"{url}: no such file or folder", "check the address, and the keys of the storage")
    return files


def exists(url: str) -> bool:
    """Whether there is such a file."""
    with _named_errors(url):
        system, path = _filesystem(url)
        return bool(system.exists(path))


def read_range(url: str, ranges: list[tuple[int, int]]) -> list[bytes]:
    """The bytes of the file at `url` from each start to before each end, fetched at once."""
    with _named_errors(url):
        system, path = _filesystem(url)
        parts = system.cat_ranges(
            [path] * len(ranges), [a for a, _ in ranges], [b for _, b in ranges], on_error="raise"
        )
    return [bytes(part) for part in parts]


@contextlib.contextmanager
def opened(url: str) -> Iterator[IO[bytes]]:
    """The bytes of the file at `url` as a stream, a block of some megabytes at a time."""
    with _named_errors(url):
        system, path = _filesystem(url)
        with system.open(path, "rb") as stream:
            yield stream


def download(url: str, path: Path) -> None:
    """Copy the file at `url` to `path`."""
    with opened(url) as stream, open(path, "wb") as file:
        shutil.copyfileobj(stream, file, 2**22)


@contextlib.contextmanager
def uploading(output: str, overwrite: bool = False) -> Iterator[str]:
    """The folder to write for `output`: itself, or for an address one of this machine that is copied there afterwards.

    An artifact that is there already is a `UserError` unless `overwrite`. A run that was killed finds the folder again.
    """
    if not is_remote(output):
        yield output
        return
    url = output.rstrip("/")
    if exists(f"{url}/{_LAST}") and not overwrite:
        raise UserError(
            f"{output}: exists already", "choose another address, or pass --overwrite to replace it"
        )
    staging = (
        cache_folder() / "uploads" / hashlib.sha256(url.encode()).hexdigest()[:16] / url.rpartition("/")[2]
    )
    shutil.rmtree(staging, ignore_errors=True)  # of an upload that failed; parts of a corpus are next to it
    staging.parent.mkdir(parents=True, exist_ok=True)
    yield str(staging)
    upload(staging, url)
    shutil.rmtree(staging.parent)


def upload(folder: Path, url: str) -> None:
    """Copy an artifact folder to `url`, in the place of one that is there."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    with _named_errors(url):
        system, target = _filesystem(url)
        if system.exists(f"{target}/{_LAST}"):
            system.rm_file(f"{target}/{_LAST}")
            old = {str(name) for name in system.find(target)} - {f"{target}/{name}" for name in names}
            for name in sorted(old):
                system.rm_file(name)
        for name in sorted(names, key=lambda name: name == _LAST):
            system.put_file(str(folder / name), f"{target}/{name}")
            n_bytes, n_there = (folder / name).stat().st_size, system.info(f"{target}/{name}")["size"]
            if n_bytes != n_there:
                raise OSError(f"{name} has {n_there} bytes there, and {n_bytes} here")


def local_view(url: str) -> Path:
    """A folder with the small files of the artifact at `url`, checked by their sha256, and a list of its large ones."""
    url = url.rstrip("/")
    folder = (
        cache_folder() / "remote" / hashlib.sha256(url.encode()).hexdigest()[:16] / url.rpartition("/")[2]
    )
    if not exists(f"{url}/{_LAST}"):
        raise UserError(
            f"{url}: not a Parakit artifact: it has no {_LAST}", "name a folder that a parakit command wrote"
        )
    with opened(f"{url}/manifest.json") as stream:
        manifest = stream.read()
    if (folder / VIEW).is_file() and (folder / "manifest.json").read_bytes() == manifest:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes(manifest)
    large: dict[str, int] = {}
    for name, record in json.loads(manifest)["files"].items():
        if record["size"] > SMALL_BYTES and name.endswith(_LARGE_FORMATS):
            large[name] = record["size"]
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        download(f"{url}/{name}", folder / name)
        if sha256_file(folder / name) != record["sha256"]:
            raise CorruptArtifact(
                f"{url}/{name}: its content has changed since it was written (sha256 differs)",
                "upload it again",
            )
    write_json_atomic(folder / VIEW, {"url": url, "large": large})
    return folder


def view_of(folder: Path) -> JsonObject | None:
    """The address and the large files of a folder that `local_view` made; None for another folder."""
    if not (folder / VIEW).is_file():
        return None
    view: JsonObject = json.loads((folder / VIEW).read_text(encoding="utf-8"))
    return view


def _filesystem(url: str) -> tuple[Any, str]:
    scheme = url.partition("://")[0]
    if scheme in ("http", "https"):
        raise UserError(
            f"{url}: a page of the web is no storage of files",
            "list such addresses in a file, and name urls:FILE",
        )
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(url)
    except ImportError as error:
        raise UserError(
            f"{url}: reading {scheme}:// needs a library that is missing ({error})",
            "pip install 'parakit[remote]' for S3; for other storage see docs/clusters.md",
        ) from None
    except ValueError as error:
        raise UserError(f"{url}: {error}", "addresses look like s3://bucket/folder") from None
    return system, str(path)


def _version(info: JsonObject) -> str:
    return str(
        next((info[key] for key in ("ETag", "etag", "mtime", "LastModified", "created") if info.get(key)), "")
    )


@contextlib.contextmanager
def _named_errors(url: str) -> Iterator[None]:
    """Errors of the storage, whose libraries have classes of their own, as `UserError` with the address."""
    try:
        yield
    except (UserError, AssertionError, NameError, KeyboardInterrupt):
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}".split("\n")[0][:300]
        raise UserError(
            f"{url}: cannot be reached or read ({why})",
            "check the address, the network and the keys of the storage",
        ) from None
