"""Accounts as the server uses them: who sends a request, whether the quota allows it, and its row in the ledger."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from parakit.common.errors import UserError
from parakit.serving.accounts.database import default_accounts_path, open_database
from parakit.serving.accounts.errors import RequestRefused, Unauthorized
from parakit.serving.accounts.keys import LOCAL, KeyHolder, digest, find_key, has_active_key, looks_like_key
from parakit.serving.accounts.ledger import Ledger, OnFailure
from parakit.serving.accounts.prices import PriceTable
from parakit.serving.accounts.quota_check import QuotaCheck
from parakit.serving.accounts.rows import RequestRow, RowOutcome
from parakit.serving.generation.call import GenerationCall, Usage


class MeteredRow:
    """The open row of a request."""

    def __init__(self, ledger: Ledger, row: RequestRow) -> None:
        self.ledger, self.row = ledger, row

    def count(self, usage: Usage) -> None:
        """Set what has gone through the model so far; a kill charges the last of these. Cheap enough for every token."""
        self.row.count(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)

    def finish(self, usage: Usage, outcome: RowOutcome) -> None:
        """Close the row with its final counts; a second call does nothing."""
        self.count(usage)
        self.ledger.close(self.row, outcome)


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

    async def authenticate(self, request: Any) -> KeyHolder:
        """The account of an HTTP request, as `security.authentication` found it before any route ran."""
        account: KeyHolder = request.scope["state"]["account"]
        return account

    def account_of(self, key: str | None) -> KeyHolder:
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
        return self.account_of_digest(digest(key))

    def account_of_digest(self, key_digest: bytes) -> KeyHolder:
        """As `account_of`, from what is stored of a key."""
        found = find_key(self.connection, key_digest)
        if found is None or found.revoked_at is not None:
            raise Unauthorized(
                "the API key is unknown or revoked",
                "use another; the owner of the server makes one with `parakit keys add`",
            )
        return found.account

    @contextlib.asynccontextmanager
    async def meter(self, account: KeyHolder, call: GenerationCall) -> AsyncIterator[MeteredRow]:
        """The row of a request, committed before the block starts and closed once: by `row.finish`, or when the block ends,
        as `finished`, `cancelled`, `refused` or `failed` by how. Raises `QuotaExceeded` or `LedgerUnavailable` before
        the block.
        """
        row = self.ledger.new_row(call.request_id, account.key_id, call.model, self.prices.find(call.model))
        try:
            self.quota_check.admit(account)
        except RequestRefused:
            self.ledger.close(row, "refused")
            raise
        await self.ledger.open(row)
        try:
            yield MeteredRow(self.ledger, row)
        except (asyncio.CancelledError, GeneratorExit):
            self.ledger.close(row, "cancelled")
            raise
        except BaseException as error:
            # a user's mistake that was found before anything was computed
            refused = isinstance(error, UserError) and not row.tokens
            self.ledger.close(row, "refused" if refused else "failed")
            raise
        self.ledger.close(row, "finished")

    def close(self) -> None:
        """Write what is left and close the files."""
        self.ledger.stop()
        self.connection.close()
