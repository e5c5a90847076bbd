"""`parakit keys add|list|revoke`: the API keys of `parakit serve`, with their quotas."""

import datetime
import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import tyro
from pydantic import Field
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.safe_text import safe
from parakit.common.errors import UserError
from parakit.common.settings import Config, closest_match

COMMANDS = {
    "add": "Make a key and print it: it cannot be shown again.",
    "list": "All keys with their quotas and what they have used.",
    "revoke": "Refuse a key from now on, in running servers too.",
}
ACCOUNTS = "The file of keys and requests. Default: PARAKIT_ACCOUNTS, or the user's data folder."


class KeysAddCommandConfig(Config):
    """Make an API key. It is printed once; the file has its digest only."""

    name: tyro.conf.Positional[str] = Field(description="A name for the key, such as that of its holder.")
    tokens_per_day: int | None = Field(
        default=None, ge=1, le=10**15, description="Tokens, prompt and completion, in 24 hours."
    )
    requests_per_minute: int | None = Field(
        default=None, ge=1, le=10**9, description="Requests in 60 seconds."
    )
    usd_per_month: float | None = Field(
        default=None, gt=0, le=10**9, description="US dollars in 30 days, by the server's --prices."
    )
    studio: bool = Field(
        default=False, description="The key may use the studio, which starts builds and deletes models."
    )
    accounts: str | None = Field(default=None, description=ACCOUNTS)
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON object."
    )


class KeysListCommandConfig(Config):
    """List the keys, revoked ones included."""

    accounts: str | None = Field(default=None, description=ACCOUNTS)
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON array."
    )


class KeysRevokeCommandConfig(Config):
    """Revoke a key. A running server refuses its next request."""

    name: tyro.conf.Positional[str] = Field(description="The key's name.")
    accounts: str | None = Field(default=None, description=ACCOUNTS)


def main(argv: list[str]) -> int:
    """Run `parakit keys VERB ...`; returns the exit status."""
    if not argv or argv[0] in ("-h", "--help"):
        lines = [f"  {verb:8} {summary}" for verb, summary in COMMANDS.items()]
        print("\n".join(["usage: parakit keys VERB ...", "", "API keys of `parakit serve`.", "", *lines]))
        return 0 if argv else 2
    verb, *rest = argv
    if verb not in COMMANDS:
        close = closest_match(verb, COMMANDS)
        raise UserError(
            f"parakit keys: unknown verb {verb!r}",
            f"did you mean {close!r}?" if close else f"verbs: {', '.join(COMMANDS)}",
        )
    {"add": _add, "list": _list, "revoke": _revoke}[verb](rest)
    return 0


@contextmanager
def opened_accounts(path: str | None) -> Iterator[sqlite3.Connection]:
    """The database of accounts; rows that a killed server left open are closed."""
    from pathlib import Path

    from parakit.serving.accounts.database import default_accounts_path, open_database
    from parakit.serving.accounts.recovery import close_interrupted

    file = Path(path) if path else default_accounts_path()
    connection = open_database(file)
    try:
        close_interrupted(connection, file)
        yield connection
    except sqlite3.OperationalError as error:
        raise UserError(
            f"{file}: cannot be written: {error}", "free some space or change the permissions"
        ) from error
    finally:
        connection.close()


def _add(argv: list[str]) -> None:
    command = parse_command(KeysAddCommandConfig, argv, "parakit keys add")
    from parakit.serving.accounts.keys import Quota, add_key, nano_usd

    quota = Quota(command.tokens_per_day, command.requests_per_minute, nano_usd(command.usd_per_month))
    with opened_accounts(command.accounts) as connection:
        key = add_key(connection, command.name, quota, command.studio)
    if command.as_json:
        print(json.dumps({"name": command.name, "key": key}))
    else:
        print(key)
        print("This key is not shown again: store it now.", file=sys.stderr)


def _list(argv: list[str]) -> None:
    command = parse_command(KeysListCommandConfig, argv, "parakit keys list")
    from parakit.serving.accounts.keys import PREFIX, list_keys
    from parakit.serving.accounts.prices import NANO
    from parakit.serving.accounts.usage import read_usage

    with opened_accounts(command.accounts) as connection:
        keys = list_keys(connection)
        used = {row.key: row for row in read_usage(connection, by=("key",))}
    if command.as_json:
        rows = []
        for key in keys:
            account, usage = key.account, used.get(key.account.name)
            limit = account.quota.nano_usd_per_month
            rows.append(
                {"name": account.name, "hint": key.hint, "studio": account.studio}
                | {"created_at": key.created_at, "revoked_at": key.revoked_at}
                | {
                    "tokens_per_day": account.quota.tokens_per_day,
                    "requests_per_minute": account.quota.requests_per_minute,
                    "usd_per_month": None if limit is None else limit / NANO,
                    "requests": usage.requests if usage else 0,
                }
            )
        print(json.dumps(rows))
        return
    table = Table("name")
    for heading in ("key", "made", "state", "tokens\na day", "requests\na minute", "$\na month", "requests"):
        table.add_column(heading, no_wrap=True)
    for key in keys:
        quota, usage = key.account.quota, used.get(key.account.name)
        limits = (quota.tokens_per_day, quota.requests_per_minute)
        money = quota.nano_usd_per_month
        table.add_row(
            safe(key.account.name),
            f"{key.hint.removeprefix(PREFIX)}...",
            _day(key.created_at),
            f"revoked {_day(key.revoked_at)}" if key.revoked_at else "studio" if key.account.studio else "",
            *("" if limit is None else f"{limit:,}" for limit in limits),
            "" if money is None else f"{money / NANO:,.2f}",
            f"{usage.requests:,}" if usage else "0",
        )
    console = Console()
    if keys:
        print_whole(table, console)
    else:
        console.print("no keys; make one with `parakit keys add NAME`")


def _revoke(argv: list[str]) -> None:
    command = parse_command(KeysRevokeCommandConfig, argv, "parakit keys revoke")
    from parakit.serving.accounts.keys import revoke_key

    with opened_accounts(command.accounts) as connection:
        revoke_key(connection, command.name)
    print(f"{command.name}: revoked; running servers refuse it from now on", file=sys.stderr)


def print_whole(table: Table, console: Console) -> None:
    """Print a table as wide as it needs to be: a line wraps in a narrow terminal rather than that a number is cut off."""
    needed = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    console.width = max(console.width, needed)
    console.print(table)


def _day(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d")
