"""Rows that a killed server left open: closed with the counts of its progress file, by the next who opens the accounts."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from parakit.serving.accounts.database import transaction
from parakit.serving.accounts.prices import Price
from parakit.serving.accounts.progress_file import Progress, dead_instance, stored_instances
from parakit.serving.accounts.rows import COLUMNS, OUTCOMES, write_values


def close_interrupted(connection: sqlite3.Connection, path: Path) -> int:
    """Close the open rows of dead servers, charged for what was computed, as `interrupted` unless they ended just before;
    returns how many. Rows of a
    server that runs stay open.
    """
    found = connection.execute("SELECT DISTINCT instance FROM requests WHERE outcome='running'")
    # and of those that were killed while nothing ran, the files
    instances = {instance for (instance,) in found.fetchall()} | set(stored_instances(path))
    n_closed = 0
    for instance in sorted(instances):
        with dead_instance(path, instance) as slots:
            if slots is None:
                continue
            with transaction(connection):
                rows = connection.execute(
                    f"SELECT {COLUMNS} FROM requests WHERE outcome='running' AND instance=?", (instance,)
                )
                for row in rows.fetchall():
                    n_closed += write_values(connection, _interrupted(row, slots))
    return n_closed


def _interrupted(values: tuple[Any, ...], slots: dict[int, tuple[int, Progress]]) -> tuple[Any, ...]:
    row: dict[str, Any] = dict(zip(COLUMNS.split(", "), values, strict=True))
    sequence, counted = slots.get(row["slot"], (0, Progress()))
    if sequence != row["sequence"]:  # killed before its first count; the slot has an older request's
        counted = Progress()
    price = Price.parse(row["input_usd"], row["cached_usd"], row["output_usd"], row["price_date"])
    row |= {
        "prompt_tokens": counted.prompt_tokens,
        "cached_tokens": counted.cached_tokens,
        "completion_tokens": counted.completion_tokens,
        "nano_usd": price.nano_usd(counted.prompt_tokens, counted.cached_tokens, counted.completion_tokens),
        "seconds": counted.seconds,
        "outcome": OUTCOMES[counted.outcome] if counted.outcome else "interrupted",
    }
    return tuple(row.values())
