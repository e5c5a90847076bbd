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

from parakit.cli.rendering.doctor_inputs import DoctorMethod
from parakit.common.artifacts import open_artifact
from parakit.common.errors import UserError
from parakit.common.settings import Config

if TYPE_CHECKING:
    from parakit.cli.rendering.doctor_inputs import Examined

_DATA = ("shards", "example_shards", "preferences")
SUMMARY = "Look for silent mistakes in data, labels and model before training."


class DoctorCommandConfig(Config):
    """Examine a model folder and what it is to learn from: labels, templates, batches, gradients. Status 1 when a fault
    is found.
    """

    model: tyro.conf.Positional[str] = Field(description="A model folder.")
    data: str | None = Field(
        default=None,
        description="A folder of shards, conversations or preferences, or a file of the latter two; left out: the shards"
        " that the model was made from.",
    )
    method: DoctorMethod | None = Field(
        default=None,
        description="What the data is for, where it could be for several: reward or dpo; ppo, grpo or best_of_n, which"
        " ask the questions of conversations.",
    )
    split: str = Field(default="train", description="Which split to look at.")
    seq_len: int | None = Field(
        default=None, ge=2, description="Tokens of a row; left out: the model's window."
    )
    show: bool = Field(
        default=False,
        description="Show, token by token, what counts: of a ranking, what is chosen and rejected.",
    )
    n_documents: int = Field(default=3, ge=1, description="How many documents or rankings --show shows.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the findings as one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit doctor` with these arguments; 0 when nothing is wrong, 1 when something is."""
    command = tyro.cli(
        DoctorCommandConfig, args=argv, prog="parakit doctor", config=(tyro.conf.FlagCreatePairsOff,)
    )
    from parakit.cli.rendering.doctor_inputs import examined
    from parakit.cli.rendering.model_loading import model_folder

    model = str(model_folder(command.model))
    data = command.data or _made_from(model)
    n_shown = command.n_documents if command.show else 0
    found = examined(model, data, command.split, command.seq_len, n_shown, command.method)
    healthy = all(finding.passed for finding in found.findings)
    if command.as_json:
        told = {"healthy": healthy, "findings": [vars(finding) for finding in found.findings]}
        print(json.dumps(told | ({"shown": found.shown} if found.shown else {}), ensure_ascii=False))
    else:
        _show(found)
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


def _show(found: "Examined") -> None:
    console = Console()
    for drawn in found.drawn:
        console.print(drawn)
    table = Table("", "check", "what it looks at")
    for finding in found.findings:
        mark = "[green]ok[/green]" if finding.passed else "[bold red]fault[/bold red]"
        told = finding.title if finding.passed else f"{finding.detail}\n{finding.hint}"
        table.add_row(mark, finding.name, escape(told))
    console.print(table)
    faults = sum(not finding.passed for finding in found.findings)
    console.print(f"{len(found.findings)} checks, {faults or 'no'} fault{'s' if faults != 1 else ''}")
