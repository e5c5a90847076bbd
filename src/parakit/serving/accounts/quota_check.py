"""Whether a key may send another request: of tokens in 24 hours, money in 30 days, requests in a minute.

Tokens and money come from the ledger's sums by hour, and from the rows that run: each request is admitted while the key is
below its limit, so a key can pass it by what its running requests still write. Requests a minute are counted in memory, by
the monotonic clock, for this server alone.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections import deque

from parakit.common.formatting import long_duration
from parakit.serving.accounts.errors import QuotaExceeded
from parakit.serving.accounts.keys import KeyHolder
from parakit.serving.accounts.ledger import Ledger
from parakit.serving.accounts.prices import NANO
from parakit.serving.accounts.rows import RequestRow

DAY_HOURS, MONTH_HOURS = 24, 30 * 24
HOUR, MINUTE = 3600, 60


class QuotaCheck:
    """Of one server; used by the event loop alone."""

    def __init__(self, connection: sqlite3.Connection, ledger: Ledger) -> None:
        self.connection = connection
        self.ledger = ledger
        self._recent: dict[int, deque[float]] = {}

    def admit(self, account: KeyHolder) -> None:
        """Count one request of this account; raises `QuotaExceeded` with the seconds to wait."""
        quota = account.quota
        if quota.tokens_per_day is not None:
            self._check(account, "tokens", DAY_HOURS, quota.tokens_per_day)
        if quota.nano_usd_per_month is not None:
            self._check(account, "nano_usd", MONTH_HOURS, quota.nano_usd_per_month)
        if quota.requests_per_minute is not None:
            self._check_rate(account, quota.requests_per_minute)

    def _check(self, account: KeyHolder, column: str, n_hours: int, limit: int) -> None:
        now = self.ledger.clock.now()
        hour = int(now // HOUR)
        live = self.ledger.live_rows(account.key_id)
        self.connection.execute("BEGIN")  # one snapshot: a row is among the sums or not
        used = self.connection.execute(
            f"SELECT hour, {column} FROM hours WHERE key_id=? AND hour>? ORDER BY hour",
            (account.key_id, hour - n_hours),
        ).fetchall()
        total = sum(int(getattr(row, column)) for row in live if not self._is_summed(row))
        self.connection.execute("COMMIT")
        total += sum(amount for _, amount in used)
        if total < limit:
            return
        wait, left = float(HOUR), total
        for past, amount in used:
            left -= amount
            wait = (past + n_hours) * HOUR - now
            if left < limit:
                break
        what, period = ("tokens", "24 hours") if column == "tokens" else ("dollars", "30 days")
        amounts = [f"{value:,}" if column == "tokens" else f"{value / NANO:,.2f}" for value in (total, limit)]
        raise QuotaExceeded(
            f"the key {account.name!r} has used {amounts[0]} of {amounts[1]} {what} in {period}",
            f"the oldest leave the window in {long_duration(wait)}; its owner can give another quota with a new key",
            retry_after=wait,
        )

    def _is_summed(self, row: RequestRow) -> bool:
        """Whether a closed row is committed already, although the ledger still has it among those that run."""
        if row.outcome == "running":
            return False
        found = self.connection.execute(
            "SELECT 1 FROM requests WHERE request_id=? AND outcome<>'running'", (row.request_id,)
        )
        return found.fetchone() is not None

    def _check_rate(self, account: KeyHolder, limit: int) -> None:
        recent = self._recent.setdefault(account.key_id, deque())
        now = time.monotonic()
        while recent and recent[0] <= now - MINUTE:
            recent.popleft()
        if len(recent) >= limit:
            wait = recent[len(recent) - limit] + MINUTE - now if limit else MINUTE
            raise QuotaExceeded(
                f"the key {account.name!r} has sent {len(recent)} requests of {limit} in a minute",
                f"wait {math.ceil(wait)} s",
                retry_after=wait,
            )
        recent.append(now)
