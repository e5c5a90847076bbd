"""What running requests have computed so far, in a file that outlives a killed process.

Each running request has a slot of 64 bytes; a count is one write of 41 bytes into the system's cache (about 2
microseconds, no commit, no flush), so it can be updated with every token. After a SIGKILL the next reader of the
accounts finds the exact counts there. The file is written in full at the start: a count cannot fail on a disk that has
become full since. A lock next to it shows whether its process lives.
"""

from __future__ import annotations

import contextlib
import glob
import os
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from parakit.common.errors import UserError
from parakit.common.locks import hold_lock

_SLOT = struct.Struct(
    "<QQQQdB"
)  # the row's sequence number, prompt, cached and completion tokens, seconds, outcome
SLOT_BYTES, FIRST_SLOTS = 64, 1024


@dataclass(frozen=True)
class Progress:
    """Counts of one running request."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    outcome: int = 0
    """An index into `rows.OUTCOMES`: how the request has ended, where its row was not closed any more; 0: it ran."""


class ProgressFile:
    """The file of one running server. Used by one thread at a time per slot; slots are taken and freed under the GIL."""

    def __init__(self, accounts: Path) -> None:
        self.instance = uuid.uuid4().hex
        self.path = progress_path(accounts, self.instance)
        self._lock = contextlib.ExitStack()
        self._lock.enter_context(hold_lock(_lock_path(self.path), f"{self.path}: process {{}} writes it"))
        try:
            self._file = os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600)
            os.write(self._file, bytes(FIRST_SLOTS * SLOT_BYTES))
            os.fsync(self._file)
        except OSError:
            self._lock.close()
            raise
        self._free = list(range(FIRST_SLOTS - 1, -1, -1))
        self._n_slots = FIRST_SLOTS

    def take(self) -> int:
        """A slot for a request; the file grows where all are in use. Raises `OSError` where the disk is full."""
        if not self._free:
            new = self._n_slots
            os.pwrite(self._file, bytes(SLOT_BYTES), new * SLOT_BYTES)
            self._n_slots += 1
            return new
        return self._free.pop()

    def free(self, slot: int) -> None:
        """Return a slot, once the row of its request is committed."""
        self._free.append(slot)

    def write(self, slot: int, sequence: int, progress: Progress) -> None:
        """Store the counts of a request."""
        content = _SLOT.pack(
            sequence,
            progress.prompt_tokens,
            progress.cached_tokens,
            progress.completion_tokens,
            progress.seconds,
            progress.outcome,
        )
        os.pwrite(self._file, content, slot * SLOT_BYTES)

    def close(self) -> None:
        """Remove the file; every row of it is closed."""
        os.close(self._file)
        self.path.unlink(missing_ok=True)
        self._lock.close()


@contextlib.contextmanager
def dead_instance(accounts: Path, instance: str) -> Iterator[dict[int, tuple[int, Progress]] | None]:
    """The counts that a dead server left, by slot with the row's sequence number, or None while it lives (or where the
    system has no locks, so that nobody knows). The file is removed at the end.
    """
    path = progress_path(accounts, instance)
    try:
        with hold_lock(_lock_path(path), "process {} is running") as sure:
            if not sure:
                yield None
                return
            content = path.read_bytes() if path.exists() else b""
            slots = {}
            for slot in range(len(content) // SLOT_BYTES):
                sequence, *counts = _SLOT.unpack_from(content, slot * SLOT_BYTES)
                slots[slot] = (sequence, Progress(*counts))
            yield slots
            path.unlink(missing_ok=True)
    except UserError:
        yield None


def stored_instances(accounts: Path) -> list[str]:
    """The servers, running or dead, whose files are next to the database."""
    prefix = progress_path(accounts, "").name
    return [file.name.removeprefix(prefix) for file in accounts.parent.glob(f"{glob.escape(prefix)}*")]


def progress_path(accounts: Path, instance: str) -> Path:
    """Where a server's counts are: next to the database."""
    return accounts.with_name(f"{accounts.name}-progress-{instance}")


def _lock_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")
