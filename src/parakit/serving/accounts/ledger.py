"""The ledger: one row a request, written once, whatever ends the request.

A row is committed before its request computes anything, and closed with exact counts at the end. Between the two its counts
are in the progress file, so a killed server owes nothing: the next process that opens the accounts closes its rows as
`interrupted`. Writing happens in a thread, many rows to a commit; the event loop waits for a new row only (about a
millisecond), never for a disk.

What happens on a full disk is chosen: "stop" refuses new requests until rows can be written again, "warn" serves on, holds
the rows in memory, and logs how many there are. A row that cannot be held is logged in full.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from parakit.serving.accounts.clock import LedgerClock, instant
from parakit.serving.accounts.database import open_database, transaction
from parakit.serving.accounts.errors import LedgerUnavailable
from parakit.serving.accounts.prices import Price
from parakit.serving.accounts.progress_file import ProgressFile
from parakit.serving.accounts.recovery import close_interrupted
from parakit.serving.accounts.rows import RequestRow, RowOutcome, write_row

logger = logging.getLogger(__name__)
OnFailure = Literal["stop", "warn"]
MAX_BATCH, MAX_HELD = 1000, 100_000
RETRY_SECONDS, WARN_SECONDS = 1.0, 30.0


@dataclass
class _Write:
    """A row as it is to be written, and what happens then. `opens`: the request waits for it."""

    row: RequestRow
    opens: bool
    done: Callable[[Exception | None], None] | None = None


@dataclass
class Ledger:
    """Of one server. `connection` is used by the writing thread alone."""

    path: Path
    on_failure: OnFailure = "stop"
    failure: str | None = field(default=None, init=False)
    """Why rows cannot be written at the moment."""

    def __post_init__(self) -> None:
        self.connection = open_database(self.path)
        close_interrupted(self.connection, self.path)
        self.clock = LedgerClock(self.connection, instant())
        self.progress = ProgressFile(self.path)
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._held: list[_Write] = []
        self._live: dict[int, dict[str, RequestRow]] = {}
        self._sequence = 0
        self._warned = -WARN_SECONDS
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def new_row(self, request_id: str, key_id: int, model: str, price: Price) -> RequestRow:
        """A row that nothing knows yet. Raises `LedgerUnavailable` where its counts cannot be stored."""
        self._sequence += 1
        try:
            slot = self.progress.take()
        except OSError as error:
            if self.on_failure == "stop":
                raise self._unavailable(error) from error
            slot = -1
        return RequestRow(
            request_id,
            key_id,
            model,
            price,
            time.time(),
            self.clock.now(),
            self.progress,
            slot,
            self._sequence,
        )

    async def open(self, row: RequestRow) -> None:
        """Commit a row; its request may compute from then on. Raises `LedgerUnavailable` by the choice "stop"."""
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()

        def done(error: Exception | None) -> None:
            with contextlib.suppress(RuntimeError):  # the event loop has ended, and nobody waits
                loop.call_soon_threadsafe(_resolve, written, error)

        if self._live.setdefault(row.key_id, {}).setdefault(row.request_id, row) is not row:
            raise ValueError(f"request {row.request_id} runs already")
        self._queue.put(_Write(row.copy(), True, done))
        try:
            await written
        except asyncio.CancelledError:
            self.close(row, "cancelled")
            raise
        except Exception:
            self._forget(row)
            raise

    def close(self, row: RequestRow, outcome: RowOutcome) -> None:
        """Write the final counts, once: a second call does nothing. Returns at once."""
        if row.outcome != "running":
            return
        row.end(outcome)
        self._queue.put(_Write(row, False))

    def live_rows(self, key_id: int) -> list[RequestRow]:
        """The rows of a key whose counts are not committed yet."""
        return list(self._live.get(key_id, {}).values())

    def flush(self) -> None:
        """Wait until what was closed so far is written or held."""
        event = threading.Event()
        marker = RequestRow.marker()
        self._queue.put(_Write(marker, False, lambda error: event.set()))
        event.wait()

    def stop(self) -> None:
        """Write what is left and end the thread. Rows that cannot be written are logged in full."""
        if not self._thread.is_alive():
            return
        for row in [row for rows in self._live.values() for row in rows.values()]:
            self.close(row, "interrupted")
        self._queue.put(None)
        self._thread.join()
        for write in self._held:
            _log_unwritten(write.row)
        self.connection.close()
        self.progress.close()

    @property
    def n_held(self) -> int:
        """Rows in memory that cannot be written at the moment."""
        return len(self._held)

    def _run(self) -> None:
        running = True
        while running:
            batch = self._next_batch()
            running = None not in batch
            self._write([write for write in batch if write is not None])

    def _next_batch(self) -> list[_Write | None]:
        batch: list[_Write | None] = []
        try:
            batch.append(self._queue.get(timeout=RETRY_SECONDS if self._held else None))
            while len(batch) < MAX_BATCH and batch[-1] is not None:
                batch.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        return batch

    def _write(self, new: list[_Write]) -> None:
        writes = self._held + new
        try:
            with transaction(self.connection):
                applied = [write.row.is_marker or write_row(self.connection, write.row) for write in writes]
                self.clock.store(self.connection)
        except Exception as error:  # whatever it is, requests must not wait for a thread that has ended
            self._hold(new, error)
            return
        if self.failure:
            logger.warning("the ledger is written again: %d rows were held in memory", len(self._held))
        self.failure, self._held = None, []
        for write, was_new in zip(writes, applied, strict=True):
            if write.opens:
                known = (
                    None
                    if was_new
                    else ValueError(f"request {write.row.request_id} is in the ledger already")
                )
                _call(write, known)
            else:
                self._forget(write.row)
                _call(write, None)

    def _hold(self, new: list[_Write], error: Exception) -> None:
        self.failure = str(error)
        for write in new:
            if write.opens and self.on_failure == "stop":
                _call(write, self._unavailable(error))
                continue
            if not write.row.is_marker:
                if len(self._held) < MAX_HELD:
                    self._held.append(write)
                else:
                    _log_unwritten(write.row)
            _call(write, None)
        if time.monotonic() - self._warned >= WARN_SECONDS:
            self._warned = time.monotonic()
            consequence = "requests are refused" if self.on_failure == "stop" else "serving goes on"
            logger.warning(
                "the ledger cannot be written (%s): %s, %d rows wait in memory",
                error,
                consequence,
                len(self._held),
            )

    def _unavailable(self, error: Exception) -> LedgerUnavailable:
        hint = f"{_remedy(error)}; requests are served again by themselves"
        return LedgerUnavailable(f"the ledger cannot be written: {error}", hint, retry_after=30)

    def _forget(self, row: RequestRow) -> None:
        if row.is_marker:
            return
        self._live.get(row.key_id, {}).pop(row.request_id, None)
        slot, row.slot = row.slot, -1
        if slot >= 0:
            self.progress.free(slot)


def _resolve(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def _remedy(error: Exception) -> str:
    """What to do about a write that failed, by its cause: SQLite's code, or the system's."""
    code = getattr(error, "sqlite_errorcode", None)
    # the last byte is the kind of a fault; further ones tell where it occurred
    kind = (
        sqlite3.SQLITE_FULL
        if isinstance(error, OSError) and error.errno == errno.ENOSPC
        else code and code & 0xFF
    )
    remedies = {
        sqlite3.SQLITE_FULL: "free some space on the disk of the ledger",
        sqlite3.SQLITE_BUSY: "another process holds the ledger: end it, or wait until it is done",
        sqlite3.SQLITE_LOCKED: "another process holds the ledger: end it, or wait until it is done",
        sqlite3.SQLITE_READONLY: "allow the server's user to write the ledger and its folder",
        sqlite3.SQLITE_PERM: "allow the server's user to write the ledger and its folder",
        sqlite3.SQLITE_CANTOPEN: "allow the server's user to write the ledger and its folder",
        sqlite3.SQLITE_CORRUPT: "restore the ledger from a backup, or name another file with --accounts",
        sqlite3.SQLITE_NOTADB: "restore the ledger from a backup, or name another file with --accounts",
        sqlite3.SQLITE_IOERR: "look into the system's log for the fault of the disk",
    }
    if isinstance(error, PermissionError):
        kind = sqlite3.SQLITE_PERM
    return remedies.get(kind or 0, "see the server's log for the cause")


def _call(write: _Write, error: Exception | None) -> None:
    if write.done is not None:
        done, write.done = write.done, None  # a held row is written again later
        done(error)


def _log_unwritten(row: RequestRow) -> None:
    logger.error("a row that the ledger does not have: %s", json.dumps(row.as_json()))
