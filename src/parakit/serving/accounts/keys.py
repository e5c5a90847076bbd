"""API keys: shown once, stored as a digest, with quotas.

A key is 256 random bits, so nobody can guess it or search for it, and one SHA-256 protects it: slow hashes (bcrypt,
scrypt) are for passwords, which people choose from few, and would cost each request a tenth of a second. A key is found by
its digest, so the time that the search takes reveals nothing of a key. A server reads the table with every request: a
revoked key is refused at once.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass

from parakit.common.errors import UserError
from parakit.common.settings import closest_match
from parakit.serving.accounts.database import transaction
from parakit.serving.accounts.prices import NANO

PREFIX = "parakit-"
N_BYTES = 32
_NAME = re.compile(r"[\w][\w.@+-]{0,63}", re.ASCII)
_COLUMNS = "key_id, name, hint, created_at, revoked_at, tokens_per_day, requests_per_minute, nano_usd_per_month, studio"


@dataclass(frozen=True)
class Quota:
    """What a key may use: of tokens in 24 hours, of requests in 60 seconds, of nano-dollars in 30 days. None: no limit."""

    tokens_per_day: int | None = None
    requests_per_minute: int | None = None
    nano_usd_per_month: int | None = None


@dataclass(frozen=True)
class KeyHolder:
    """Who sends a request: the holder of a key, or anyone on this machine (`LOCAL`, key 0)."""

    key_id: int
    name: str
    quota: Quota = Quota()
    studio: bool = False
    """May use the studio, which starts builds and deletes models."""


LOCAL = KeyHolder(0, "local", studio=True)


@dataclass(frozen=True)
class Key:
    """A key as it is stored. `hint`: its first characters, by which its owner recognizes it."""

    account: KeyHolder
    hint: str
    created_at: float
    revoked_at: float | None


def digest(key: str) -> bytes:
    """What is stored of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def looks_like_key(key: str) -> bool:
    """Whether this is a key of Parakit: clients send any word to a local server that needs none."""
    return key.startswith(PREFIX)


def add_key(connection: sqlite3.Connection, name: str, quota: Quota, studio: bool = False) -> str:
    """Make a key and return it; it cannot be read again. Raises `UserError` for a name that is taken: a revoked key keeps
    its name, so that what each has used stays apart.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name!r} is no name for a key", "use 1 to 64 letters, digits, and . _ - + @, such as laptop-2"
        )
    key = PREFIX + secrets.token_urlsafe(N_BYTES)
    hint = key[: len(PREFIX) + 4]
    with transaction(connection):
        if name == LOCAL.name or connection.execute("SELECT 1 FROM keys WHERE name=?", (name,)).fetchone():
            raise UserError(
                f"a key {name!r} exists", "choose another name; the names of revoked keys are not used again"
            )
        connection.execute(
            "INSERT INTO keys (name, digest, hint, created_at, tokens_per_day, requests_per_minute,"
            " nano_usd_per_month, studio) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                name,
                digest(key),
                hint,
                time.time(),
                quota.tokens_per_day,
                quota.requests_per_minute,
                quota.nano_usd_per_month,
                int(studio),
            ),
        )
    return key


def revoke_key(connection: sqlite3.Connection, name: str) -> None:
    """Refuse a key from now on. Raises `UserError` for an unknown or revoked one."""
    with transaction(connection):
        row = connection.execute("SELECT revoked_at FROM keys WHERE name=?", (name,)).fetchone()
        if row is None:
            known = [key.account.name for key in list_keys(connection)]
            close = closest_match(name, known)
            raise UserError(
                f"no key {name!r}",
                f"did you mean {close!r}?" if close else "`parakit keys list` shows the keys",
            )
        if row[0] is not None:
            raise UserError(f"the key {name!r} is revoked already", "`parakit keys list` shows when")
        connection.execute("UPDATE keys SET revoked_at=? WHERE name=?", (time.time(), name))


def list_keys(connection: sqlite3.Connection) -> list[Key]:
    """All keys, revoked ones included, in the order in which they were made."""
    return list(map(_key, connection.execute(f"SELECT {_COLUMNS} FROM keys ORDER BY key_id")))


def find_key(connection: sqlite3.Connection, key_digest: bytes) -> Key | None:
    """The key, revoked or not; None for an unknown one. About 20 microseconds."""
    rows: Iterator[tuple[object, ...]] = connection.execute(
        f"SELECT {_COLUMNS} FROM keys WHERE digest=?", (key_digest,)
    )
    row = next(rows, None)
    return None if row is None else _key(row)


def has_active_key(connection: sqlite3.Connection) -> bool:
    """Whether any key is not revoked."""
    found = connection.execute("SELECT 1 FROM keys WHERE revoked_at IS NULL LIMIT 1")
    return found.fetchone() is not None


def nano_usd(usd: float | None) -> int | None:
    """Dollars as whole nano-dollars."""
    return None if usd is None else round(usd * NANO)


def _key(row: tuple[object, ...]) -> Key:
    key_id, name, hint, created_at, revoked_at, *quota, studio = row
    account = KeyHolder(key_id, name, Quota(*quota), bool(studio))  # type: ignore[arg-type]
    return Key(account, hint, created_at, revoked_at)  # type: ignore[arg-type]
