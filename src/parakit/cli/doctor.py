"""`parakit doctor`: examine a model and the shards it is to be trained on before any time is spent, and show
what would count.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import Field
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from parakit.common.artifacts import open_artifact
from parakit.common.errors import UserError
from parakit.common.settings import Config

if TYPE_CHECKING:
    from parakit.training.doctor import Finding, TokenView

_DATA = ("shards", "example_shards")
SUMMARY = "Look for silent mistakes in data, labels and model before training."


class DoctorCommandConfig(Config):
    """Examine a model folder and the tokens of text, conversations or examples: labels, templates, batches,
    gradients. Status 1 when a fault is found.
    """

    model: tyro.conf.Positional[str] = Field(description="A model folder.")
    data: str | None = Field(
        default=None, description="A shards folder; left out: the one the model was made from."
    )
    split: str = Field(default="train", description="Which split to look at.")
    seq_len: int | None = Field(
        default=None, ge=2, description="Tokens of a row; left out: the model's window."
    )
    show: bool = Field(default=False, description="Show, token by token, what counts.")
    n_documents: int = Field(default=3, ge=1, description="How many documents --show shows.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the findings as one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit doctor` with these arguments; 0 when nothing is wrong, 1 when something is."""
    command = tyro.cli(
        DoctorCommandConfig, args=argv, prog="parakit doctor", config=(tyro.conf.FlagCreatePairsOff,)
    )
    data = command.data or _made_from(command.model)
    from parakit.tokens.shards import TokenShards
    from parakit.tokens.tokenizer import Tokenizer
    from parakit.training.doctor import examine_folder, trained_view

    findings = examine_folder(command.model, data, command.split, command.seq_len)
    views: list[list[TokenView]] = []
    if command.show:
        if open_artifact(data, verify=False).kind != "shards":
            raise UserError(f"{data}: --show is for tokens of text", "`parakit show` shows examples")
        shards = TokenShards.open(data, command.split, verify=False)
        views = trained_view(Tokenizer.load(command.model), shards, command.n_documents)
    healthy = all(finding.passed for finding in findings)
    if command.as_json:
        print(json.dumps(_figures(findings, views, healthy), ensure_ascii=False))
    else:
        _show(findings, views)
    return 0 if healthy else 1


def _made_from(model: str) -> str:
    """The shards folder that a model's lineage names."""
    parents = open_artifact(model, "model", verify=False).lineage.get("parents", [])
    found = next((parent["path"] for parent in parents if parent["kind"] in _DATA), None)
    if found is None or not Path(found).is_dir():
        raise UserError(
            f"{model}: its shards are not there to be looked at",
            "name them: parakit doctor MODEL --data SHARDS",
        )
    return found


def _figures(findings: "list[Finding]", views: "list[list[TokenView]]", healthy: bool) -> dict[str, object]:
    shown = [[{"text": t.text, "counted": t.counted, "control": t.control} for t in view] for view in views]
    return {"healthy": healthy, "findings": [vars(finding) for finding in findings]} | (
        {"shown": shown} if views else {}
    )


def _show(findings: "list[Finding]", views: "list[list[TokenView]]") -> None:
    console = Console()
    for number, view in enumerate(views, 1):
        n = sum(token.counted for token in view)
        console.print(f"[bold]document {number}[/bold]: {n} of {len(view)} tokens count (green)")
        console.print(Text.assemble(*((token.text, _style(token)) for token in view)))
    table = Table("", "check", "what it looks at")
    for finding in findings:
        mark = "[green]ok[/green]" if finding.passed else "[bold red]fault[/bold red]"
        told = finding.title if finding.passed else f"{finding.detail}\n{finding.hint}"
        table.add_row(mark, finding.name, escape(told))
    console.print(table)
    faults = sum(not finding.passed for finding in findings)
    console.print(f"{len(findings)} checks, {faults or 'no'} fault{'s' if faults != 1 else ''}")


def _style(token: "TokenView") -> str:
    colour = "green" if token.counted else "bright_black"
    return f"bold {colour} reverse" if token.control else colour
