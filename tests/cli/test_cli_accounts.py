"""`parakit keys` and `parakit usage`: keys are shown once, and the sums are those of the rows."""

from __future__ import annotations

import asyncio
import csv
import io
import json

import pytest

from parakit.cli.main import main
from parakit.serving.accounts.accounts import Accounts
from parakit.serving.generation.call import GenerationCall
from tests.serving.accounts.test_ledger import PRICE, PriceTable, call_of, served


@pytest.fixture
def path(tmp_path, monkeypatch):
    file = tmp_path / "accounts.sqlite"
    monkeypatch.setenv("PARAKIT_ACCOUNTS", str(file))
    return file


def output(capsys, *argv: str) -> str:
    assert main([*argv]) == 0
    return capsys.readouterr().out


def test_a_key_is_printed_once_listed_without_it_and_revoked(path, capsys):
    key = output(capsys, "keys", "add", "alice", "--tokens-per-day", "100", "--usd-per-month", "2.5").strip()
    accounts = Accounts(path)
    assert accounts.account_of(key).quota.nano_usd_per_month == 2_500_000_000
    accounts.close()
    listed = output(capsys, "keys", "list") + output(capsys, "keys", "list", "--json")
    assert key not in listed
    (shown,) = json.loads(listed.splitlines()[-1])
    assert (shown["name"], shown["tokens_per_day"], shown["usd_per_month"]) == ("alice", 100, 2.5)
    output(capsys, "keys", "revoke", "alice")
    assert "revoked" in output(capsys, "keys", "list")
    assert main(["keys", "revoke", "alcie"]) == 2
    assert "did you mean 'alice'?" in capsys.readouterr().err


def test_usage_sums_by_key_model_and_day_in_three_formats(path, capsys):
    output(capsys, "keys", "add", "alice")
    accounts = Accounts(path, PriceTable({"tiny": PRICE}))
    alice = accounts.account_of(json.loads(output(capsys, "keys", "add", "bob", "--json"))["key"])

    async def run():
        for n in range(3):
            await served(accounts, call_of(f"l{n}"))
        await served(accounts, GenerationCall(model="=other", request_id="b"), account=alice)

    asyncio.run(run())
    accounts.close()
    rows = json.loads(output(capsys, "usage", "--by", "key", "model", "--json"))
    assert [(row["key"], row["model"], row["requests"], row["prompt_tokens"]) for row in rows] == [
        ("bob", "=other", 1, 10),
        ("local", "tiny", 3, 30),
    ]
    assert rows[1]["usd"] == pytest.approx(3 * 4800e-9, rel=1e-12)
    read = list(csv.DictReader(io.StringIO(output(capsys, "usage", "--csv", "--by", "model"))))
    assert [row["model"] for row in read] == ["'=other", "tiny"]  # no formula in a spreadsheet
    assert read[1]["completion_tokens"] == "18"
    table = output(capsys, "usage")
    assert "total" in table
    assert "0.000014" in table  # three requests of 4.8 microdollars; the other model is free
    assert json.loads(output(capsys, "usage", "--until", "2000-01-01", "--json")) == []
    assert output(capsys, "usage", "--key", "nobody") == "no requests\n"


@pytest.mark.parametrize(
    "argv",
    [
        ["usage", "--csv", "--json"],
        ["usage", "--since", "2026-02-02", "--until", "2026-02-01"],
        ["usage", "--by", "key", "key"],
        ["keys", "add", "a", "--tokens-per-day", "0"],
        ["keys", "add", "a", "--usd-per-month", "nan"],
        ["keys", "add", "a b"],
        ["keys", "remove", "a"],
    ],
)
def test_mistakes_are_refused(path, argv, capsys):
    assert main(argv) == 2
    assert capsys.readouterr().err.startswith("error: ")
