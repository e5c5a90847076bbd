"""Runs the lines of a batch, many at a time, the longest first; each answer is on disk before the next is counted.

The short lines come last, so that no long one runs alone at the end. A run that was killed is continued by running it again:
lines with an answer in the record are not computed twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from parakit.alignment.jsonl_cache import JsonlCache
from parakit.common.files import JsonObject
from parakit.serving.batches.executor import LineExecutor
from parakit.serving.batches.lines import BatchLine, LineResult

MAX_RETRIES = 100  # of a line that the queue has no place for
RETRY_SECONDS = 0.5
INTERRUPTIONS = ("shutting_down", "interrupted")  # codes of errors that say nothing about the line
OnResult = Callable[[JsonObject], object]


class BatchRun:
    """One batch: its lines, and the record of the answers at `path`."""

    def __init__(self, lines: Sequence[BatchLine], path: Path, account: Any = None) -> None:
        self.lines, self.account = lines, account
        self._record = JsonlCache(path)
        self.is_cancelled = self.is_interrupted = False

    @property
    def rows(self) -> list[JsonObject]:
        """The answers so far, in the order of the lines."""
        done = self._record.rows
        return [done[line.key]["row"] for line in self.lines if line.key in done]

    @property
    def n_failed(self) -> int:
        """Lines that were answered with an error."""
        return sum(row["error"] is not None for row in self.rows)

    async def run(self, executor: LineExecutor, n_at_once: int, on_result: OnResult | None = None) -> None:
        """Answer all lines that have no answer; returns early where `cancel` is called, and where the server shuts down,
        which leaves the rest to the next run.
        """
        missing = [line for line in self.lines if line.key not in self._record.rows]
        missing.sort(key=lambda line: len(str(line.body)), reverse=True)
        waiting = iter(missing)

        async def work() -> None:
            for line in waiting:
                if self.is_cancelled or self.is_interrupted:
                    return
                found = await self._answer(executor, line)
                if _code(found) in INTERRUPTIONS:
                    self.is_interrupted = True
                    return
                row = found.to_row()
                self._record.add([{"id": line.key, "row": row}])
                if on_result is not None:
                    on_result(row)

        await asyncio.gather(*(work() for _ in range(min(n_at_once, len(missing)))))

    async def _answer(self, executor: LineExecutor, line: BatchLine) -> LineResult:
        """The answer to a line; where the server is full, after a while."""
        for _ in range(MAX_RETRIES):
            found = await executor.answer(line, self.account)
            if _code(found) != "queue_full":
                break
            await asyncio.sleep(RETRY_SECONDS)
        return found

    def forget(self) -> None:
        """Remove the record; the answers are elsewhere by now."""
        self._record.path.unlink(missing_ok=True)

    def cancel(self) -> None:
        """Begin no further line; those that run are finished."""
        self.is_cancelled = True


def _code(found: LineResult) -> str | None:
    error = found.body.get("error")
    return error.get("code") if isinstance(error, dict) else None
