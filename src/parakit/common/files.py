"""Atomic writes, and the one place that translates what can fail in writing.

A write goes to a temporary sibling, is flushed to the disk and renamed over its target; then the folder is flushed, which
makes the rename durable. Two processes that write the same file leave one of the two results, whole; outputs that are
folders are locked (`locks`). Arrays are written by `write_array` and `save_array`, because numpy's own error on a full
disk has no error number, and tensors by `checkpoints.safetensors_io`, for the same reason.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.json_reading import parse_json, read_json_bytes
from parakit.common.locks import partial_file

if TYPE_CHECKING:
    import numpy as np

JsonObject = dict[str, Any]  # what is in a JSON file; the reader of a key checks its value


def cache_folder() -> Path:
    """The folder of compiled code and measurements: PARAKIT_CACHE, or `~/.cache/parakit`."""
    return Path(os.environ.get("PARAKIT_CACHE", Path.home() / ".cache" / "parakit"))


def sha256_file(path: str | Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_folder(path: str | Path) -> None:
    """Make renames and new names inside a folder durable. A no-op where folders cannot be opened."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def fsync_file(path: str | Path) -> None:
    """Flush one file's bytes to the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def writing_file(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a temporary sibling for writing; on success it replaces `path`, on an exception it is removed."""
    path = Path(path)
    with disk_errors(path):
        descriptor, temporary = partial_file(path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
            fsync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def write_text_atomic(path: str | Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with writing_file(path) as file:
        file.write(text.encode("utf-8"))


def write_json_atomic(path: str | Path, value: Any) -> None:
    """Write indented JSON, whole or not at all. NaN and infinity are errors: they are not JSON."""
    write_text_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path, shape: Any = Any) -> Any:
    """Read a JSON file; a missing or damaged one, or one of another shape, is a `UserError` that names it."""
    path = Path(path)
    return parse_json(read_json_bytes(path), path, shape)


def is_plain_name(name: str) -> bool:
    """Whether `name` is a relative path that stays in its folder and that a file system can hold."""
    parts = name.split("/")
    return all(
        part not in ("", ".", "..") and len(part.encode("utf-8", "replace")) <= 255 for part in parts
    ) and ("\0" not in name and "\\" not in name and len(name) <= 4000)


def is_file(path: Path) -> bool:
    """Whether there is such a file; False also for a path that cannot be one: too long, or a loop of links."""
    try:
        return path.is_file()
    except (OSError, ValueError, RuntimeError):
        return False


def write_array(file: IO[bytes], array: np.ndarray) -> None:
    """Append an array's bytes to a file."""
    file.write(array.tobytes())


def save_array(path: str | Path, array: np.ndarray) -> None:
    """Write an array in numpy's format (.npy)."""
    import numpy as np

    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    with open(path, "wb") as file:
        file.write(content.getbuffer())


def os_error(message: str, path: str | Path) -> OSError | None:
    """The error of the system that a library reports in words only, as Rust's "(os error 28)"; None for another."""
    found = re.search(r"\(os error (\d+)\)", message)
    return OSError(int(found[1]), os.strerror(int(found[1])), os.fspath(path)) if found else None


def write_checked_json(path: str | Path, value: Any) -> None:
    """Write JSON with the sha256 of its content, for a file outside of any artifact folder."""
    write_json_atomic(path, {"sha256": _content_sha256(value), "content": value})


def read_checked_json(path: str | Path, hint: str) -> Any:
    """Read what `write_checked_json` wrote; `CorruptArtifact` with `hint` where it is not as it was written."""
    try:
        stored = read_json(path)
    except CorruptArtifact as error:
        raise CorruptArtifact(error.message, hint) from None
    if not isinstance(stored, dict) or stored.get("sha256") != _content_sha256(stored.get("content")):
        raise CorruptArtifact(f"{path}: its content has changed since it was written (sha256 differs)", hint)
    return stored["content"]


def _content_sha256(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@contextlib.contextmanager
def disk_errors(path: str | Path, clean_up: Callable[[], None] | None = None) -> Iterator[None]:
    """Turn a full disk, a read-only folder or an I/O error while writing `path` into a `UserError` with a hint. Of nested
    blocks the outermost names its path, because inner paths are temporary. A file that cannot be read meanwhile is named.
    """
    try:
        yield
    except (OSError, UserError) as error:
        cause = error.__cause__ if isinstance(error, UserError) else error
        if clean_up:
            clean_up()
        if isinstance(cause, shutil.Error):  # of copying a folder: every file's, in words
            reason, number = str(cause.args[0][0][2]), None
        elif not isinstance(cause, OSError) or isinstance(cause, FileNotFoundError) or cause.errno is None:
            raise
        elif isinstance(error, OSError) and not _is_written(cause, Path(path)):
            raise UserError(
                f"{cause.filename}: cannot be read: {os.strerror(cause.errno)}",
                "make it readable or leave it out; nothing was written",
            ) from None
        else:
            reason, number = os.strerror(cause.errno), cause.errno
        raise UserError(
            f"{path}: cannot be written: {reason}",
            f"{_WAYS_OUT.get(number or 0, _OTHER_WAY_OUT)}; nothing that existed was changed, and the same command resumes",
        ) from cause


_OTHER_WAY_OUT = "free some space or choose another folder"
_WAYS_OUT = {
    errno.EIO: "the disk failed to store it: look at the system's log, or choose a folder on another disk",
    errno.EROFS: "the disk can only be read: choose a folder on another one",
    errno.EACCES: "change the permissions or choose another folder",
}
_OF_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def _is_written(error: OSError, path: Path) -> bool:
    """Whether an error in writing `path` is about it, about its folder or about an unfinished sibling of it: no other
    file is written meanwhile. An error that names no file is.
    """
    if error.errno in _OF_WRITING or not isinstance(error.filename, str):
        return True
    here, file = Path(os.path.abspath(path)), Path(os.path.abspath(error.filename))
    near = file.is_relative_to(here.parent) and file != here.parent
    inside = file.relative_to(here.parent).parts[0] if near else ""
    return here.is_relative_to(file) or inside == here.name or inside.startswith(f".{here.name}.")


def apply_changes(published: JsonObject, before: JsonObject, now: JsonObject) -> JsonObject:
    """`published` with what differs between `before` and `now`: a key that has another value is set, one that is gone is
    removed, and all others stay as they were published.
    """
    absent = object()
    patched = dict(published)
    for key in sorted(before.keys() | now.keys()):
        if before.get(key, absent) == now.get(key, absent):
            continue
        patched.pop(key, None)
        if key in now:
            patched[key] = now[key]
    return patched
