"""`parakit usage`: what each key has used of each model on each day, from the ledger of `parakit serve`."""

import datetime
import json
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from pydantic import Field
from rich import box
from rich.console import Console
from rich.table import Table

from parakit.cli.keys import ACCOUNTS, opened_accounts, print_whole
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.safe_text import safe
from parakit.common.errors import UserError
from parakit.common.settings import Config

if TYPE_CHECKING:
    from parakit.serving.accounts.usage import UsageSum


class UsageCommandConfig(Config):
    """Requests, tokens and money by key, model and day (UTC)."""

    by: tuple[Literal["key", "model", "day"], ...] = Field(
        default=("key", "model", "day"), description="What the rows are grouped by."
    )
    since: datetime.date | None = Field(default=None, description="The first day, as 2026-11-30.")
    until: datetime.date | None = Field(default=None, description="The last day, as 2026-11-30.")
    key: str | None = Field(default=None, description="Of this key alone; `local`: requests without a key.")
    model: str | None = Field(default=None, description="Of this model alone.")
    accounts: str | None = Field(default=None, description=ACCOUNTS)
    as_csv: Annotated[bool, tyro.conf.arg(name="csv")] = Field(default=False, description="Print CSV.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON array."
    )


def main(argv: list[str]) -> int:
    """Run `parakit usage` with these arguments; returns the exit status."""
    command = parse_command(UsageCommandConfig, argv, "parakit usage")
    if command.as_csv and command.as_json:
        raise UserError("--csv and --json are two formats", "choose one of them")
    if len(set(command.by)) < len(command.by):
        raise UserError(f"--by {' '.join(command.by)} names a group twice", "name each once")
    if command.since and command.until and command.since > command.until:
        raise UserError(f"--since {command.since} is after --until {command.until}", "swap them")
    from parakit.serving.accounts.usage import read_usage, usage_csv

    with opened_accounts(command.accounts) as connection:
        filters = (command.since, command.until, command.key, command.model)
        rows = read_usage(connection, command.by, *filters)
        total = read_usage(connection, (), *filters)[0]
    if command.as_json:
        print(json.dumps([row.as_json() for row in rows], ensure_ascii=False))
    elif command.as_csv:
        print(usage_csv(rows, command.by), end="")
    else:
        _print(rows, total, command.by)
    return 0


def _print(rows: list["UsageSum"], total: "UsageSum", by: tuple[str, ...]) -> None:
    console = Console()
    if not rows:
        console.print("no requests")
        return
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for name in by:
        table.add_column(name, overflow="fold")
    for name in ("requests", "ended\nearly", "prompt", "cached", "completion", "$"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(safe(getattr(row, name)) for name in by), *_cells(row))
    if len(rows) > 1 and by:
        table.add_section()
        table.add_row("total", *[""] * (len(by) - 1), *_cells(total))
    print_whole(table, console)


def _cells(row: "UsageSum") -> list[str]:
    return [
        f"{row.requests:,}",
        f"{row.requests - row.finished - row.running:,}",
        f"{row.prompt_tokens:,}",
        f"{row.cached_tokens:,}",
        f"{row.completion_tokens:,}",
        f"{row.usd:,.6f}",
    ]
