"""Accounts as the server uses them: who sends a request, whether the quota allows it, and its row in the ledger."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from parakit.common.errors import UserError
from parakit.serving.accounts.database import default_accounts_path, open_database
from parakit.serving.accounts.errors import RequestRefused, Unauthorized
from parakit.serving.accounts.keys import LOCAL, Account, find_key, has_active_key, looks_like_key
from parakit.serving.accounts.ledger import Ledger, OnFailure
from parakit.serving.accounts.prices import PriceTable
from parakit.serving.accounts.quota_check import QuotaCheck
from parakit.serving.accounts.rows import RequestRow


class Metered(Protocol):
    """What a request must have to be metered: its id is new for each request, a client's retry included."""

    @property
    def model(self) -> str: ...
    @property
    def request_id(self) -> str: ...


class Accounts:
    """Keys, quotas and the ledger of one server. `require_key`: refuse requests without a key from this machine, too."""

    def __init__(
        self,
        path: str | Path | None = None,
        prices: PriceTable | None = None,
        on_ledger_failure: OnFailure = "stop",
        require_key: bool = False,
    ) -> None:
        self.path = Path(path) if path is not None else default_accounts_path()
        self.prices = prices or PriceTable()
        self.require_key = require_key
        self.ledger = Ledger(self.path, on_ledger_failure)
        self.connection = open_database(self.path)  # of the event loop; it only reads
        self.quota_check = QuotaCheck(self.connection, self.ledger)

    def has_key(self) -> bool:
        """Whether a key exists that is not revoked."""
        return has_active_key(self.connection)

    def authenticate(self, key: str | None) -> Account:
        """The account of a key, or `LOCAL` without one where that is allowed. Raises `Unauthorized`. The table is read
        each time, so a key is refused as soon as it is revoked.
        """
        if key is None or not (self.require_key or looks_like_key(key)):
            if self.require_key:
                raise Unauthorized(
                    "this server needs an API key",
                    "send it as `Authorization: Bearer KEY`, or as `x-api-key`",
                )
            return LOCAL
        found = find_key(self.connection, key)
        if found is None or found.revoked_at is not None:
            raise Unauthorized(
                "the API key is unknown or revoked",
                "use another; the owner of the server makes one with `parakit keys add`",
            )
        return found.account

    @contextlib.asynccontextmanager
    async def meter(self, account: Account, call: Metered, route: str = "") -> AsyncIterator[RequestRow]:
        """The row of a request, committed before the block starts and closed once when it ends: `finished`, `cancelled`,
        `refused` or `failed` by how. Inside, `row.count(...)` sets what has gone through the model. Raises
        `QuotaExceeded` or `LedgerUnavailable` before the block.
        """
        row = self.ledger.new_row(
            call.request_id, account.key_id, call.model, route, self.prices.find(call.model)
        )
        try:
            self.quota_check.admit(account)
        except RequestRefused:
            self.ledger.close(row, "refused")
            raise
        await self.ledger.open(row)
        try:
            yield row
        except (asyncio.CancelledError, GeneratorExit):
            self.ledger.close(row, "cancelled")
            raise
        except BaseException as error:
            refused = (
                isinstance(error, UserError) and not row.tokens
            )  # found wrong before it computed anything
            self.ledger.close(row, "refused" if refused else "failed")
            raise
        self.ledger.close(row, "finished")

    def stop(self) -> None:
        """Write what is left and close the files."""
        self.ledger.stop()
        self.connection.close()
