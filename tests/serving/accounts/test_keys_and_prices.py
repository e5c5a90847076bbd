"""Keys are stored hashed and refused when revoked; prices are exact."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.common import CorruptArtifact, UserError
from parakit.serving.accounts.accounts import Accounts
from parakit.serving.accounts.database import default_accounts_path, open_database
from parakit.serving.accounts.errors import Unauthorized
from parakit.serving.accounts.keys import LOCAL, Quota, add_key, digest, find_key, list_keys, revoke_key
from parakit.serving.accounts.prices import FREE, Price, load_price_table
from tests.short_suite import examples


@pytest.fixture
def database(tmp_path):
    connection = open_database(tmp_path / "accounts.sqlite")
    yield connection
    connection.close()


def test_a_key_is_stored_as_its_digest_only(database, tmp_path):
    key = add_key(database, "laptop", Quota(tokens_per_day=5), studio=True)
    assert len(key) == len("parakit-") + 43  # 32 bytes in base64
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert key.encode() not in written
    assert hashlib.sha256(key.encode()).digest() in written
    found = find_key(database, digest(key))
    assert (found.account.name, found.account.quota, found.account.studio) == ("laptop", Quota(5), True)
    assert key.startswith(found.hint)
    assert len(found.hint) < 16
    assert find_key(database, digest(key + "a")) is None
    assert find_key(database, digest("parakit-\udcff")) is None  # a header of any bytes


def test_only_the_owner_may_read_the_file(database, tmp_path):
    mode = stat.S_IMODE(os.stat(tmp_path / "accounts.sqlite").st_mode)
    assert mode == 0o600


@pytest.mark.parametrize("name", ["", " ", "a b", "../x", "a" * 65, "local", "<b>", "=1+1", "\n"])
def test_bad_names_of_keys_are_refused(database, name):
    with pytest.raises(UserError):
        add_key(database, name, Quota())
    assert list_keys(database) == []


def test_names_are_not_used_twice_even_after_revoking(database):
    add_key(database, "a", Quota())
    revoke_key(database, "a")
    with pytest.raises(UserError, match="exists"):
        add_key(database, "a", Quota())
    with pytest.raises(UserError, match="revoked already"):
        revoke_key(database, "a")
    with pytest.raises(UserError, match="no key"):
        revoke_key(database, "b")


def test_a_revoked_key_is_refused_at_once_by_a_running_server(database, tmp_path):
    key = add_key(database, "a", Quota())
    accounts = Accounts(tmp_path / "accounts.sqlite")
    assert accounts.account_of(key).name == "a"
    revoke_key(database, "a")  # by another process
    with pytest.raises(Unauthorized) as refused:
        accounts.account_of(key)
    assert refused.value.status == 401
    assert key not in str(refused.value)
    accounts.close()


def test_without_a_key_only_where_that_is_allowed(tmp_path):
    accounts = Accounts(tmp_path / "accounts.sqlite")
    assert accounts.account_of(None) is LOCAL
    assert accounts.account_of("sk-any") is LOCAL  # clients send any word to a local server
    with pytest.raises(Unauthorized):
        accounts.account_of("parakit-of-another-server")
    accounts.require_key = True
    for key in (None, "sk-any", ""):
        with pytest.raises(Unauthorized):
            accounts.account_of(key)
    accounts.close()


@pytest.mark.parametrize("content", [b"not a database at all" * 100, None])
def test_a_file_that_is_no_database_of_accounts_is_refused_and_unchanged(tmp_path, content):
    path = tmp_path / "other.sqlite"
    if content is None:
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE mine (x)")
        other.close()
        content = path.read_bytes()
    else:
        path.write_bytes(content)
    with pytest.raises(CorruptArtifact, match=r"other\.sqlite"):
        open_database(path)
    if content.startswith(b"not"):
        assert path.read_bytes() == content


def test_a_newer_version_and_a_folder_that_cannot_be_made_are_refused(tmp_path):
    path = tmp_path / "accounts.sqlite"
    connection = open_database(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(UserError, match="newer Parakit"):
        open_database(path)
    with pytest.raises(UserError, match="cannot be opened"):
        open_database(path / "below" / "accounts.sqlite")


def test_the_default_place_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("PARAKIT_ACCOUNTS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_accounts_path() == tmp_path / "parakit" / "accounts.sqlite"
    monkeypatch.setenv("PARAKIT_ACCOUNTS", str(tmp_path / "x"))
    assert default_accounts_path() == tmp_path / "x"


counts = st.integers(0, 10**7)
usd = st.decimals(0, 1000, places=6)


@examples(300)
@given(counts, counts, counts, usd, usd, usd)
def test_a_charge_equals_exact_fractions(fresh, cached, completion, input, cached_usd, output):
    exact = (fresh * Fraction(input) + cached * Fraction(cached_usd) + completion * Fraction(output)) * 1000
    charged = Price(input, cached_usd, output).nano_usd(fresh + cached, cached, completion)
    assert charged == round(exact)  # Fraction rounds half to even, as the ledger does


def test_prices_by_model_adapter_and_default(tmp_path):
    file = tmp_path / "prices.yaml"
    file.write_text(
        "tokens:\n  base: {input: 1, cached: 0.5, output: 2, date: 2026-11}\n  base:law: {input: 3}\n  '*': {input: 0.1}\n"
    )
    table = load_price_table(str(file))
    assert table.find("base") == Price(Decimal("1.0"), Decimal("0.5"), Decimal("2.0"), "2026-11")
    assert table.find("base:law").input == 3
    assert table.find("base:law").cached == 3  # without a price of its own
    assert table.find("base:other") == table.find("base")
    assert table.find("else").input == Decimal("0.1")
    assert load_price_table(None).find("base") is FREE
    assert load_price_table("gpt-4o-mini").find("any").cached == Decimal("0.075")


@pytest.mark.parametrize("wanted", ["all", "gpt-4o-minni", "missing.yaml"])
def test_unknown_prices_are_refused(wanted):
    with pytest.raises(UserError):
        load_price_table(wanted)
