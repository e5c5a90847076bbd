"""`parakit doctor`: check a model and its training data before a run, and show which tokens count in the loss."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import Field
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import Needs, refuse_inert
from parakit.cli.rendering.doctor_inputs import DoctorMethod
from parakit.common.artifacts import open_artifact
from parakit.common.errors import UserError
from parakit.common.settings import Config

if TYPE_CHECKING:
    from parakit.cli.rendering.doctor_inputs import Report

_DATA = ("shards", "example_shards", "preferences")


class DoctorCommandConfig(Config):
    """Check a model folder and its training data: labels, templates, batches, gradients. Exit status 1 when a check
    fails.
    """

    model: tyro.conf.Positional[str] = Field(description="A model folder.")
    data: str | None = Field(
        default=None,
        description="A folder of token shards, examples, conversations or preferences, or a file of "
        "conversations or preferences. Default: the shards that the model was trained on.",
    )
    method: DoctorMethod | None = Field(
        default=None,
        description="The method that the data are for: reward or dpo for preferences; ppo, grpo or "
        "best_of_n for the prompts of conversations. Default: from the kind of the data.",
    )
    split: str = Field(default="train", description="The split to check.")
    seq_len: int | None = Field(
        default=None, ge=2, description="Tokens per row. Default: the model's context window."
    )
    show: bool = Field(
        default=False,
        description="Print documents with the tokens that count in the loss; of a ranking, its completions.",
    )
    n_documents: int = Field(
        default=3, ge=1, description="Number of documents or rankings that --show prints."
    )
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the results as one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit doctor` with these arguments; 0 when every check passes, 1 when one fails."""
    command = parse_command(DoctorCommandConfig, argv, "parakit doctor")
    shows = Needs(("n_documents",), lambda command: command.show, "no document is printed", "add --show")
    refuse_inert(command, (shows,))
    from parakit.cli.rendering.doctor_inputs import check_data
    from parakit.recipe.build_folder import resolve_model_folder

    model = str(resolve_model_folder(command.model))
    data = command.data or _training_data(model)
    n_shown = command.n_documents if command.show else 0
    report = check_data(model, data, command.split, command.seq_len, n_shown, command.method)
    healthy = not any(result.stops for result in report.results)
    if command.as_json:
        as_json = {"healthy": healthy, "checks": [vars(result) for result in report.results]}
        print(json.dumps(as_json | ({"shown": report.shown} if report.shown else {}), ensure_ascii=False))
    else:
        _print(report)
    return 0 if healthy else 1


def _training_data(model: str) -> str:
    """The data folder that a model's lineage names."""
    parents = open_artifact(model, "model", verify=False).lineage.get("parents", [])
    folder = next((parent["path"] for parent in parents if parent["kind"] in _DATA), None)
    if folder is None or not Path(folder).is_dir():
        raise UserError(
            f"{model}: the shards that it was trained on no longer exist",
            "name them: parakit doctor MODEL --data SHARDS",
        )
    return folder


def _print(report: "Report") -> None:
    console = Console()
    for view in report.views:
        console.print(view)
    table = Table("", "check", "what it looks at")
    for result in report.results:
        mark = "[green]passed[/green]" if result.passed else "[bold red]failed[/bold red]"
        failure = f"{result.prevents}\nSeen: {result.detail}\nTo do: {result.remedy}"
        mark = "[yellow]warning[/yellow]" if result.warning and not result.passed else mark
        mark = "skipped" if result.skipped else mark
        table.add_row(mark, result.name, escape(result.noticed_by if result.passed else failure))
    console.print(table)
    n_failed = sum(result.stops for result in report.results)
    n_warnings = sum(not result.passed for result in report.results) - n_failed
    warned = f", {n_warnings} with a warning" if n_warnings else ""
    console.print(f"{len(report.results)} checks, {n_failed or 'none'} failed{warned}")
