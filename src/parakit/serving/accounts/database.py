"""The file of keys and requests: one SQLite database in WAL mode, readable by `sqlite3` and any backup of it.

Readers never wait for the writer, so `parakit usage` and `parakit keys` work while a server runs. What was committed
survives the death of the process; a power failure can lose the last moments (synchronous=NORMAL), never the file. WAL
needs a local disk: a network disk is not supported by SQLite.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from parakit.common.errors import CorruptArtifact, UserError

VERSION = 1
BUSY_SECONDS = 10.0  # another process commits in milliseconds; longer means that its disk is stuck
_SCHEMA = """
CREATE TABLE keys (
  key_id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  digest BLOB NOT NULL UNIQUE,
  hint TEXT NOT NULL,
  created_at REAL NOT NULL,
  revoked_at REAL,
  tokens_per_day INTEGER,
  requests_per_minute INTEGER,
  nano_usd_per_month INTEGER,
  studio INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE requests (
  request_id TEXT PRIMARY KEY,
  key_id INTEGER NOT NULL,
  model TEXT NOT NULL,
  started_at REAL NOT NULL,
  clock REAL NOT NULL,
  instance TEXT NOT NULL,
  slot INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  prompt_tokens INTEGER NOT NULL,
  cached_tokens INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  input_usd TEXT NOT NULL,
  cached_usd TEXT NOT NULL,
  output_usd TEXT NOT NULL,
  price_date TEXT NOT NULL,
  nano_usd INTEGER NOT NULL,
  seconds REAL NOT NULL,
  outcome TEXT NOT NULL
);
CREATE INDEX requests_running ON requests (instance) WHERE outcome = 'running';
CREATE INDEX requests_by_time ON requests (started_at);
CREATE TABLE hours (
  key_id INTEGER NOT NULL,
  hour INTEGER NOT NULL,
  tokens INTEGER NOT NULL,
  nano_usd INTEGER NOT NULL,
  PRIMARY KEY (key_id, hour)
) WITHOUT ROWID;
CREATE TABLE clock (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  clock REAL NOT NULL,
  wall REAL NOT NULL,
  boot TEXT NOT NULL,
  boot_seconds REAL NOT NULL
);
"""


def default_accounts_path() -> Path:
    """PARAKIT_ACCOUNTS, or `parakit/accounts.sqlite` in the user's data folder (XDG_DATA_HOME)."""
    if named := os.environ.get("PARAKIT_ACCOUNTS"):
        return Path(named)
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "parakit" / "accounts.sqlite"


def open_database(path: str | Path) -> sqlite3.Connection:
    """Open or create the database; only its owner may read it. The connection commits by itself and may be used from
    several threads. Raises `UserError` for a folder that cannot be written, `CorruptArtifact` for another file.
    """
    path = Path(path)
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
    except (OSError, sqlite3.OperationalError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(
            f"{path}: cannot be opened: {reason}", "name another file with --accounts, or PARAKIT_ACCOUNTS"
        ) from error
    try:
        _prepare(connection, path)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.OperationalError):
            raise UserError(
                f"{path}: cannot be written: {error}",
                "free some space, change the permissions, or name another file with --accounts",
            ) from error
        if isinstance(error, sqlite3.DatabaseError):
            raise CorruptArtifact(
                f"{path}: not a database of accounts: {error}",
                "restore it from a backup or name another file",
            ) from error
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    if _version(connection) == 0:
        with transaction(connection):
            if _version(connection) == 0:  # another process may have been faster
                if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    raise CorruptArtifact(
                        f"{path}: a database that Parakit did not write", "name another file with --accounts"
                    )
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={VERSION}")
    found = _version(connection)
    if found > VERSION:
        raise UserError(
            f"{path}: written by a newer Parakit (version {found} of the tables, this one knows {VERSION})",
            "update Parakit, or name another file with --accounts",
        )


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A write transaction: committed at the end, rolled back on an exception."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
