"""One row a request, written once and durable, whatever ends the request or its process."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from parakit.common import UserError
from parakit.serving.accounts.accounts import Accounts
from parakit.serving.accounts.database import open_database
from parakit.serving.accounts.errors import LedgerUnavailable, QuotaExceeded
from parakit.serving.accounts.keys import LOCAL, KeyHolder, Quota
from parakit.serving.accounts.prices import Price, PriceTable
from parakit.serving.accounts.progress_file import progress_path
from parakit.serving.accounts.recovery import close_interrupted
from parakit.serving.generation.call import GenerationCall, Usage

PRICE = Price(Decimal("0.15"), Decimal("0.075"), Decimal("0.6"), "2026-11")


def call_of(request_id: str) -> GenerationCall:
    return GenerationCall(model="tiny", request_id=request_id)


@pytest.fixture
def accounts(tmp_path: Path):
    opened = Accounts(tmp_path / "accounts.sqlite", PriceTable({"tiny": PRICE}))
    yield opened
    opened.close()


def rows(
    path: Path,
    columns: str = "request_id, outcome, prompt_tokens, cached_tokens, completion_tokens, nano_usd",
):
    with sqlite3.connect(path) as connection:
        found = connection.execute(f"SELECT {columns} FROM requests ORDER BY request_id").fetchall()
    connection.close()
    return found


async def served(
    accounts: Accounts,
    call: GenerationCall,
    counts=(10, 4, 6),
    error: BaseException | None = None,
    account=LOCAL,
):
    async with accounts.meter(account, call) as row:
        for n in range(counts[2] + 1):
            row.count(Usage(counts[0], counts[1], n))
        if error is not None:
            raise error


def test_a_request_is_charged_once_however_it_ends(accounts):
    async def run():
        await served(accounts, call_of("finished"))
        for name, error in (("cancelled", asyncio.CancelledError()), ("failed", RuntimeError("x"))):
            with pytest.raises(type(error)):
                await served(accounts, call_of(name), error=error)
        with pytest.raises(UserError):
            await served(accounts, call_of("refused"), counts=(0, 0, 0), error=UserError("too long"))

    asyncio.run(run())
    accounts.ledger.flush()
    # 6 prompt tokens at 0.15, 4 cached at 0.075, 6 completion tokens at 0.6 dollars a million: 4.8 microdollars
    nano = round((6 * 0.15 + 4 * 0.075 + 6 * 0.6) * 1000)
    assert nano == 4800
    assert rows(accounts.path) == [
        ("cancelled", "cancelled", 10, 4, 6, nano),
        ("failed", "failed", 10, 4, 6, nano),
        ("finished", "finished", 10, 4, 6, nano),
        ("refused", "refused", 0, 0, 0, 0),
    ]


def test_a_row_is_there_before_its_request_computes(accounts):
    async def run():
        async with accounts.meter(LOCAL, call_of("a")):
            assert rows(accounts.path)[0][:2] == ("a", "running")

    asyncio.run(run())


def test_a_closed_row_never_changes(accounts):
    async def run():
        async with accounts.meter(LOCAL, call_of("a")) as row:
            row.count(Usage(5, 0, 2))
        row.count(Usage(50, 0, 20))
        row.finish(Usage(50, 0, 20), "failed")
        accounts.ledger.flush()
        with pytest.raises(ValueError, match="in the ledger already"):
            await served(accounts, call_of("a"))
        accounts.ledger.flush()

    asyncio.run(run())
    assert rows(accounts.path) == [("a", "finished", 5, 0, 2, 1950)]
    assert accounts.connection.execute("SELECT sum(tokens), sum(nano_usd) FROM hours").fetchone() == (7, 1950)


def test_many_requests_at_once_keep_their_counts_apart(accounts):
    async def run():
        await asyncio.gather(*(served(accounts, call_of(f"{n:04d}"), (n, n // 2, n % 7)) for n in range(300)))

    asyncio.run(run())
    accounts.ledger.flush()
    assert [row[2:5] for row in rows(accounts.path)] == [(n, n // 2, n % 7) for n in range(300)]
    assert len(accounts.ledger.progress._free) == 1024  # every slot is free again


def test_a_request_cancelled_before_its_row_is_written_is_closed(accounts):
    async def run():
        task = asyncio.create_task(served(accounts, call_of("a")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    accounts.ledger.flush()
    assert [row[1] for row in rows(accounts.path)] == ["cancelled"]


KILLED = """
import asyncio, os, signal, sys
from parakit.serving.accounts.accounts import Accounts
from parakit.serving.accounts.keys import LOCAL
from tests.serving.accounts.test_ledger import PRICE, call_of, PriceTable, Usage, served

async def run():
    accounts = Accounts(sys.argv[1], PriceTable({"tiny": PRICE}))
    await served(accounts, call_of("before"))
    accounts.ledger.flush()
    async with accounts.meter(LOCAL, call_of("counted")) as one, accounts.meter(LOCAL, call_of("uncounted")):
        for n in range(1000):
            one.count(Usage(100, 40, n))
        await asyncio.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(run())
"""


def test_a_killed_server_owes_nothing_and_charges_what_it_computed(tmp_path):
    path = tmp_path / "accounts.sqlite"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], env=os.environ, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert [row[1] for row in rows(path)] == ["finished", "running", "running"]
    accounts = Accounts(path)
    accounts.close()
    nano = round(
        (60 * 0.15 + 40 * 0.075 + 999 * 0.6) * 1000
    )  # by the price of the row, not of the new server
    assert rows(path) == [
        ("before", "finished", 10, 4, 6, 4800),
        ("counted", "interrupted", 100, 40, 999, nano),
        ("uncounted", "interrupted", 0, 0, 0, 0),
    ]
    assert sorted(tmp_path.iterdir()) == [path]  # no progress file, lock or journal stays


def test_files_of_servers_that_were_killed_while_idle_are_removed(tmp_path):
    path = tmp_path / "accounts.sqlite"
    open_database(path).close()
    progress = progress_path(path, "dead")
    progress.write_bytes(bytes(1024))
    Accounts(path).close()
    assert sorted(tmp_path.iterdir()) == [path]


def test_rows_of_a_running_server_stay_open(accounts):
    async def run():
        async with accounts.meter(LOCAL, call_of("a")):
            other = open_database(accounts.path)
            assert close_interrupted(other, accounts.path) == 0
            other.close()

    asyncio.run(run())
    accounts.ledger.flush()
    assert [row[1] for row in rows(accounts.path)] == ["finished"]


def fill_disk(accounts: Accounts) -> None:
    """SQLite's error of a full disk, on the connection that writes."""
    accounts.ledger.flush()
    pages = accounts.ledger.connection.execute("PRAGMA page_count").fetchone()[0]
    accounts.ledger.connection.execute(f"PRAGMA max_page_count={pages}")


def free_disk(accounts: Accounts) -> None:
    accounts.ledger.connection.execute("PRAGMA max_page_count=1000000")


async def until_full(accounts: Accounts, prefix: str) -> list[str]:
    """Serve until the ledger cannot be written; the ids that were served."""
    names: list[str] = []
    while accounts.ledger.failure is None and len(names) < 500:
        names.append(f"{prefix}{len(names):03d}")
        await served(accounts, call_of(names[-1]))
        accounts.ledger.flush()
    return names


def test_a_full_disk_stops_serving_and_nothing_is_lost(accounts, caplog):
    fill_disk(accounts)

    async def run():
        names = []

        async def fill():
            while len(names) < 500:
                await served(accounts, call_of(f"{len(names):03d}"))
                names.append(f"{len(names):03d}")

        with pytest.raises(LedgerUnavailable, match="database or disk is full") as refused:
            await fill()
        assert refused.value.status == 503
        assert int(refused.value.headers["Retry-After"]) > 0
        free_disk(accounts)
        await served(accounts, call_of("after"))
        return names

    served_names = asyncio.run(run())
    accounts.ledger.flush()
    assert [row[0] for row in rows(accounts.path)] == [*served_names, "after"]
    assert {row[1] for row in rows(accounts.path)} == {"finished"}
    assert "the ledger cannot be written" in caplog.text


def test_a_full_disk_may_be_served_through_with_a_warning(tmp_path, caplog):
    accounts = Accounts(tmp_path / "accounts.sqlite", on_ledger_failure="warn")
    fill_disk(accounts)

    async def run():
        names = await until_full(accounts, "a")
        await served(accounts, call_of("held"))
        accounts.ledger.flush()
        return names

    names = asyncio.run(run())
    assert accounts.ledger.n_held >= 2  # an opened and a closed row
    assert "serving goes on" in caplog.text
    free_disk(accounts)
    asyncio.run(served(accounts, call_of("then")))
    accounts.ledger.flush()
    assert [row[0] for row in rows(accounts.path)] == [*names, "held", "then"]
    fill_disk(accounts)
    asyncio.run(until_full(accounts, "u"))
    asyncio.run(served(accounts, call_of("lost"), (7, 0, 3)))
    with caplog.at_level(logging.ERROR):
        accounts.close()
    logged = [
        json.loads(r.getMessage().partition(": ")[2]) for r in caplog.records if r.levelno == logging.ERROR
    ]
    assert [
        (row["prompt_tokens"], row["completion_tokens"]) for row in logged if row["request_id"] == "lost"
    ][-1] == (7, 3)


def test_quotas_refuse_with_the_seconds_to_wait(accounts):
    async def run(account, n):
        for i in range(n):
            await served(accounts, call_of(f"{account.name}{i}"), account=account)
        accounts.ledger.flush()
        with pytest.raises(QuotaExceeded) as refused:
            await served(accounts, call_of(f"{account.name}-refused"), account=account)
        return refused.value

    by_rate = asyncio.run(run(KeyHolder(1, "rate", Quota(requests_per_minute=3)), 3))
    assert 55 <= int(by_rate.headers["Retry-After"]) <= 60
    by_tokens = asyncio.run(run(KeyHolder(2, "tokens", Quota(tokens_per_day=20)), 2))  # 16 tokens, then 32
    assert "32 of 20 tokens" in str(by_tokens)
    assert 22 * 3600 < int(by_tokens.headers["Retry-After"]) <= 24 * 3600
    by_money = asyncio.run(run(KeyHolder(3, "money", Quota(nano_usd_per_month=9600)), 2))
    assert 29 * 86400 < int(by_money.headers["Retry-After"]) <= 30 * 86400
    accounts.ledger.flush()
    outcomes = dict(row[:2] for row in rows(accounts.path))
    assert {name for name, outcome in outcomes.items() if outcome == "refused"} == {
        "rate-refused",
        "tokens-refused",
        "money-refused",
    }


def test_running_requests_count_for_a_quota(accounts):
    account = KeyHolder(1, "a", Quota(tokens_per_day=20))

    async def run():
        async with accounts.meter(account, call_of("long")) as row:
            row.count(Usage(15, 0, 5))
            with pytest.raises(QuotaExceeded):
                await served(accounts, call_of("next"), account=account)

    asyncio.run(run())


def test_a_used_quota_opens_again_when_the_oldest_use_leaves_the_window(accounts, monkeypatch):
    account = KeyHolder(1, "a", Quota(tokens_per_day=16))
    asyncio.run(served(accounts, call_of("a"), account=account))
    accounts.ledger.flush()
    with pytest.raises(QuotaExceeded) as refused:
        asyncio.run(served(accounts, call_of("b"), account=account))
    now = accounts.ledger.clock.now()
    monkeypatch.setattr(accounts.ledger.clock, "now", lambda: now + int(refused.value.headers["Retry-After"]))
    asyncio.run(served(accounts, call_of("c"), account=account))


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("SQLITE_FULL", "free some space"),
        ("SQLITE_BUSY_SNAPSHOT", "another process"),
        ("SQLITE_READONLY_DBMOVED", "allow the server's user"),
        ("SQLITE_CORRUPT", "restore the ledger"),
        ("SQLITE_IOERR_FSYNC", "the fault of the disk"),
        ("SQLITE_SCHEMA", "the server's log"),
    ],
)
def test_the_remedy_is_that_of_the_fault(accounts, code, remedy):
    error = sqlite3.OperationalError("it fails")
    error.sqlite_errorcode = getattr(sqlite3, code)
    refusal = accounts.ledger._unavailable(error)
    assert refusal.hint is not None
    assert remedy in refusal.hint
    for one, expected in (
        (OSError(28, "No space left"), "free some space"),
        (PermissionError(13, "no"), "allow"),
    ):
        assert expected in str(accounts.ledger._unavailable(one).hint)
