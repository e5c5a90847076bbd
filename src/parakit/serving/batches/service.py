"""The batches of a server: each runs in the background with a few lines at a time, next to the requests of others.

The state of a batch is on disk, and so is each answer: a server that starts with the same folder continues what was running.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.serving.batches.executor import LineExecutor
from parakit.serving.batches.lines import read_lines
from parakit.serving.batches.runner import BatchRun
from parakit.serving.batches.store import BATCH_ID, Descriptions, FileStore

N_AT_ONCE = 8  # lines of one batch: others want a place, too
RUNNING = ("validating", "in_progress", "finalizing", "cancelling")
FindAccount = Callable[[str], Any]
_logger = logging.getLogger("parakit.serving")


class BatchService:
    """Files and batches in a folder; None: a temporary one, which goes with the server."""

    def __init__(self, folder: str | Path | None, executor: LineExecutor) -> None:
        temporary = Path(tempfile.gettempdir()) / f"parakit-batches-{secrets.token_hex(12)}"
        self._temporary = temporary if folder is None else None  # made with the first file
        root = temporary if folder is None else Path(folder)
        self.files = FileStore(root / "files")
        self._batches = Descriptions(root / "batches", BATCH_ID)
        self._executor = executor
        self._runs: dict[str, tuple[BatchRun, asyncio.Task[None]]] = {}

    # --- batches
    def create(
        self, owner: str, account: Any, file_id: str, endpoint: str, metadata: JsonObject | None
    ) -> JsonObject:
        """Start a batch. `UserError` for a file whose lines are no requests to the endpoint."""
        lines = read_lines(self.files.lines(file_id), endpoint)
        now = int(time.time())
        batch: JsonObject = {
            "id": f"batch_{secrets.token_hex(12)}",
            "object": "batch",
            "endpoint": endpoint,
            "errors": None,
            "input_file_id": file_id,
            "completion_window": "24h",
            "status": "in_progress",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": now,
            "in_progress_at": now,
            "expires_at": now + 24 * 3600,
            "finalizing_at": None,
            "completed_at": None,
            "failed_at": None,
            "expired_at": None,
            "cancelling_at": None,
            "cancelled_at": None,
            "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
            "metadata": metadata,
        }
        self._batches.put(owner, batch)
        self._begin(owner, account, batch)
        return batch

    def get(self, owner: str, batch_id: str) -> JsonObject | None:
        """The batch as it is now; None where the owner has none of this id."""
        batch = self._batches.get(owner, batch_id)
        return None if batch is None else self._with_counts(batch)

    def all(self, owner: str) -> list[JsonObject]:
        """The owner's batches, newest first."""
        return [self._with_counts(batch) for batch in self._batches.all(owner)]

    def cancel(self, owner: str, batch: JsonObject) -> JsonObject:
        """Begin no further line of a batch; what is answered is kept."""
        if batch["status"] == "in_progress":
            batch |= {"status": "cancelling", "cancelling_at": int(time.time())}
            self._batches.put(owner, batch)
            if batch["id"] in self._runs:
                self._runs[batch["id"]][0].cancel()
        return batch

    def _with_counts(self, batch: JsonObject) -> JsonObject:
        if batch["id"] in self._runs:
            batch["request_counts"] = _counts(self._runs[batch["id"]][0])
        return batch

    # --- running
    def resume(self, find_account: FindAccount) -> int:
        """Continue the batches that a server before this one has left; returns how many."""
        left = [batch for batch in self._batches.all(None) if batch["status"] in RUNNING]
        for batch in left:
            owner = self._batches.owner(batch["id"])
            try:
                self._begin(owner, find_account(owner), batch)
            except (UserError, OSError) as error:
                self._fail(owner, batch, error)
        return len(left)

    def _begin(self, owner: str, account: Any, batch: JsonObject) -> None:
        lines = read_lines(self.files.lines(batch["input_file_id"]), batch["endpoint"])
        run = BatchRun(lines, self._batches.folder / f"{batch['id']}.answers", account)
        if batch["status"] == "cancelling":
            run.cancel()
        task = asyncio.create_task(self._run(owner, batch, run))
        self._runs[batch["id"]] = (run, task)

    async def _run(self, owner: str, batch: JsonObject, run: BatchRun) -> None:
        try:
            await run.run(self._executor, N_AT_ONCE)
            if not run.is_interrupted:  # else the next server continues
                await asyncio.to_thread(self._finish, owner, batch, run)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            _logger.error("batch failed", exc_info=error)
            self._fail(owner, batch, error)
        finally:
            self._runs.pop(batch["id"], None)

    def _finish(self, owner: str, batch: JsonObject, run: BatchRun) -> None:
        """Write the answers as files, and the state last."""
        rows, now = run.rows, int(time.time())
        for name, of_errors in (("output", False), ("error", True)):
            chosen = [row for row in rows if (row["error"] is not None) == of_errors]
            if chosen:
                content = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in chosen)
                title = f"{batch['id']}_{name}.jsonl"
                # after a kill right here the next run writes the same file
                kept = self.files.put(owner, title, "batch_output", content, of=title)
                batch[f"{name}_file_id"] = kept["id"]
        status = "cancelled" if run.is_cancelled and len(rows) < len(run.lines) else "completed"
        batch |= {"status": status, f"{status}_at": now, "finalizing_at": now, "request_counts": _counts(run)}
        self._batches.put(owner, batch)
        run.forget()

    def _fail(self, owner: str, batch: JsonObject, error: Exception) -> None:
        message = (
            error.message if isinstance(error, UserError) else "the server failed; its log has the reason"
        )
        fault = {"code": "failed", "message": message, "line": None, "param": None}
        batch |= {"status": "failed", "failed_at": int(time.time())}
        batch["errors"] = {"object": "list", "data": [fault]}
        self._batches.put(owner, batch)

    async def close(self) -> None:
        """End what runs; a server with the same folder continues it."""
        tasks = [task for _, task in self._runs.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


def _counts(run: BatchRun) -> JsonObject:
    rows = run.rows
    n_failed = sum(row["error"] is not None for row in rows)
    return {"total": len(run.lines), "completed": len(rows) - n_failed, "failed": n_failed}
