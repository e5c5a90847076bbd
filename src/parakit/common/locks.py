"""Locks of outputs, and temporary names next to them.

A process that writes `NAME` holds `.NAME.lock` next to it, and everything unfinished is called `.NAME.XXXXXXXX.partial`.
The system releases a lock when its owner ends, however it ends, so the holder of the lock of `NAME` knows that every
partial file next to it was left by a process that is gone. Where there are no such locks (Windows, some network disks)
nothing is checked and nothing is removed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from parakit.common.errors import UserError

PARTIAL, LOCK = ".partial", ".lock"
_held: set[tuple[Path, int]] = set()  # lock files of this process, by thread


@contextlib.contextmanager
def output_lock(path: str | Path) -> Iterator[None]:
    """Hold the lock of the output `path` and remove what dead processes left unfinished next to it. A lock that this
    thread holds already is taken again without effect. `UserError` naming the process that writes there now. Folders
    above `path` are made, and removed again where they stay empty.
    """
    absolute = Path(os.path.abspath(path))
    lock = absolute.with_name(f".{absolute.name}{LOCK}")
    key = (lock, threading.get_ident())
    if key in _held:
        yield
        return
    new = [folder for folder in absolute.parents if not folder.exists()]
    absolute.parent.mkdir(parents=True, exist_ok=True)
    try:
        with hold_lock(lock, f"{path}: process {{}} is already writing here") as sure:
            if sure:
                remove_partials(absolute.parent, absolute.name)
            _held.add(key)
            try:
                yield
            finally:
                _held.discard(key)
    finally:
        with contextlib.suppress(OSError):  # a folder that holds anything stays
            for folder in new:
                folder.rmdir()


@contextlib.contextmanager
def hold_lock(lock: Path, refusal: str) -> Iterator[bool]:
    """Hold the lock file `lock`, whose folder exists. Yields whether no other process can hold it, which is unknown where
    the system has no locks. `refusal` is the message of the `UserError`, with {} for the other process.
    """
    with contextlib.ExitStack() as stack:
        while True:
            file = stack.enter_context(open(lock, "a+", encoding="utf-8"))
            taken = _lock(file)
            if taken is False:
                file.seek(0)
                raise UserError(
                    refusal.format(file.read().strip() or "unknown"),
                    "wait for it, stop it, or choose another name",
                )
            if taken is None or _is_at(file, lock):  # else its last holder has just removed it
                break
        stack.callback(lock.unlink, missing_ok=True)
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), str(os.getpid()).encode())
        yield bool(taken)


def partial_folder(path: Path) -> Path:
    """A new folder for the unfinished content of `path`, next to it. The caller holds the lock of `path`, and renames or
    removes the folder.
    """
    return Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent))


def partial_file(path: Path) -> tuple[int, Path]:
    """A new file for the unfinished content of `path`: an open descriptor and its name."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent)
    return descriptor, Path(name)


def remove_partials(folder: Path, name: str | None = None) -> None:
    """Remove the unfinished files and folders of `name` in `folder`; the caller holds its lock. None: of every name, and
    their locks; the caller is the only one who writes in the folder.
    """
    prefix, suffixes = ("." if name is None else f".{name}."), (PARTIAL, *((LOCK,) if name is None else ()))
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            if not (entry.name.startswith(prefix) and entry.name.endswith(suffixes)) or entry.name == LOCK:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)


def _lock(file: IO[str]) -> bool | None:
    """True when the lock is taken, False while another holds it, None where there are no locks."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
