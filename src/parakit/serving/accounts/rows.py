"""A row of the ledger: one request, while it runs and as it is stored."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from parakit.common.files import JsonObject
from parakit.serving.accounts.prices import FREE, Price
from parakit.serving.accounts.progress_file import Progress, ProgressFile

RowOutcome = Literal["running", "finished", "cancelled", "failed", "refused", "interrupted"]
ENDED: tuple[RowOutcome, ...] = ("finished", "cancelled", "failed", "refused", "interrupted")
OUTCOMES: tuple[RowOutcome, ...] = ("running", *ENDED)
COLUMNS = (
    "request_id, key_id, model, started_at, clock, instance, slot, sequence, prompt_tokens, cached_tokens,"
    " completion_tokens, input_usd, cached_usd, output_usd, price_date, nano_usd, seconds, outcome"
)
_N_COLUMNS = COLUMNS.count(",") + 1


@dataclass
class RequestRow:
    """What a request has computed so far, and at which price. `slot`: in the progress file, -1 for none."""

    request_id: str
    key_id: int
    model: str
    price: Price
    started_at: float
    clock: float
    progress_file: ProgressFile | None
    slot: int
    sequence: int
    counted: Progress = field(default_factory=Progress)
    outcome: RowOutcome = "running"
    _start: float = field(default_factory=time.monotonic)

    @classmethod
    def marker(cls) -> RequestRow:
        """Stands in the queue for "all before this"; never written."""
        return cls("", -1, "", FREE, 0.0, 0.0, None, -1, 0)

    @property
    def is_marker(self) -> bool:
        return self.key_id < 0

    @property
    def nano_usd(self) -> int:
        """The charge for what was counted so far."""
        return self.price.nano_usd(
            self.counted.prompt_tokens, self.counted.cached_tokens, self.counted.completion_tokens
        )

    @property
    def tokens(self) -> int:
        """Tokens that count for a quota: prompt, cached or not, and completion."""
        return self.counted.prompt_tokens + self.counted.completion_tokens

    def count(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> None:
        """Set the totals of what has gone through the model so far. Cheap enough for every token; does nothing once
        the row is closed.
        """
        if self.outcome != "running":
            return
        self.counted = Progress(
            prompt_tokens, cached_tokens, completion_tokens, time.monotonic() - self._start
        )
        self._store()

    def _store(self) -> None:
        if self.progress_file is not None and self.slot >= 0:
            with contextlib.suppress(
                OSError
            ):  # the counts are in memory, too, and closing the row writes those
                self.progress_file.write(self.slot, self.sequence, self.counted)

    def end(self, outcome: RowOutcome) -> None:
        """End the row; its duration is that of the monotonic clock. A kill before the row is closed leaves this outcome."""
        seconds = time.monotonic() - self._start
        self.counted = replace(self.counted, seconds=seconds, outcome=OUTCOMES.index(outcome))
        self.outcome = outcome
        self._store()

    def copy(self) -> RequestRow:
        """As it is now, for the writing thread."""
        return replace(self)

    def as_json(self) -> JsonObject:
        """The columns by name."""
        return dict(zip(COLUMNS.split(", "), self.values(), strict=True))

    def values(self) -> tuple[object, ...]:
        """The columns' values."""
        return (
            self.request_id,
            self.key_id,
            self.model,
            self.started_at,
            self.clock,
            self.progress_file.instance if self.progress_file else "",
            self.slot,
            self.sequence,
            self.counted.prompt_tokens,
            self.counted.cached_tokens,
            self.counted.completion_tokens,
            str(self.price.input),
            str(self.price.cached),
            str(self.price.output),
            self.price.date,
            self.nano_usd,
            self.counted.seconds,
            self.outcome,
        )


def write_row(connection: sqlite3.Connection, row: RequestRow) -> bool:
    """Insert a row, or close the one that runs under its id, inside a transaction. False where it changes nothing: a
    closed row is never changed again.
    """
    return write_values(connection, row.values())


def write_values(connection: sqlite3.Connection, values: Sequence[object]) -> bool:
    """As `write_row`, from the columns' values."""
    row = dict(zip(COLUMNS.split(", "), values, strict=True))
    written = connection.execute(
        f"INSERT INTO requests ({COLUMNS}) VALUES ({', '.join('?' * _N_COLUMNS)})"
        " ON CONFLICT (request_id) DO UPDATE SET prompt_tokens=excluded.prompt_tokens,"
        " cached_tokens=excluded.cached_tokens, completion_tokens=excluded.completion_tokens,"
        " nano_usd=excluded.nano_usd, seconds=excluded.seconds, outcome=excluded.outcome"
        " WHERE requests.outcome='running' AND excluded.outcome<>'running'",
        tuple(values),
    )
    if written.rowcount < 1:
        return False
    if row["outcome"] != "running":
        tokens = int(row["prompt_tokens"]) + int(row["completion_tokens"])  # type: ignore[call-overload]
        connection.execute(
            "INSERT INTO hours VALUES (?, ?, ?, ?) ON CONFLICT (key_id, hour) DO UPDATE SET"
            " tokens=tokens+excluded.tokens, nano_usd=nano_usd+excluded.nano_usd",
            (row["key_id"], int(row["clock"] // 3600), tokens, row["nano_usd"]),  # type: ignore[operator]
        )
    return True
