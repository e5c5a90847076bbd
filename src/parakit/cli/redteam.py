"""`parakit redteam`: attack a model and report the success rate of each category of attacks."""

import json
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field
from rich.console import Console
from rich.table import Table

from parakit.alignment.red_team.config import RedTeamConfig
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import check_judge_name
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.formatting import percent
from parakit.common.progress import log


class RedteamCommandConfig(RedTeamConfig):
    """Red-team a model with built-in suites or your own attacks, judge its answers by rules or by a chat model, and
    write results, transcripts and a report. The same command resumes an interrupted run.
    """

    model: tyro.conf.Positional[str] = Field(description="A model folder, or the URL of a chat endpoint.")
    output: str = Field(description="The folder to write: results, transcripts and report.html.")
    against: str | None = Field(
        default=None, description="An earlier model (folder or URL), to compare with attack by attack."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    overwrite: bool = Field(default=False, description="Replace an existing output folder.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the results as one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit redteam` with these arguments."""
    command = parse_command(RedteamCommandConfig, argv, "parakit redteam")
    config = _config(command)
    out = Path(command.output)
    from parakit.common.devices import pick_device
    from parakit.recipe.build_folder import model_location
    from parakit.stages.red_team import RedTeamJob, red_team

    job = RedTeamJob(
        model_location(command.model),
        config,
        model_location(command.against) if command.against else None,
        str(pick_device(command.device)),
    )
    results = red_team(job, out, command.overwrite)
    if command.as_json:
        print(json.dumps(results, ensure_ascii=False))
    else:
        _show(results)
    log(f"transcripts and report: {out / 'report.html'}")
    return 0


def _config(command: RedteamCommandConfig) -> RedTeamConfig:
    given = set(RedTeamConfig.model_fields) & command.model_fields_set
    defaults = RedTeamConfig()
    values = {name: getattr(command, name) for name in given}
    values = {name: value for name, value in values.items() if value != getattr(defaults, name)}
    config = RedTeamConfig.parse(values, "parakit redteam")
    if config.attacks:
        for name in ("suites", "n_attacks"):
            if name in values:
                raise UserError(
                    f"--{name.replace('_', '-')} is for the built-in suites, but --attacks names files",
                    "remove one of them",
                )
    check_judge_name(config.judge, config.judge_model)
    return config


def _show(results: JsonObject) -> None:
    roles = list(results["categories"])
    headings = [
        heading for role in roles for heading in (role if len(roles) > 1 else "success", "95 % interval")
    ]
    table = Table("category", *headings, "attacks", *(["after - before"] if len(roles) > 1 else []))
    for name, found in results["categories"]["after"].items():
        cells = []
        for role in roles:
            one = results["categories"][role][name]
            cells += [percent(one["success"], space="", missing=""), f"{one['low']:.1%} to {one['high']:.1%}"]
        unjudged = f" (+{found['n_unjudged']} not judged)" if found["n_unjudged"] else ""
        row = [name.replace("_", " "), *cells, f"{found['n']}{unjudged}"]
        if len(roles) > 1:
            row.append(_difference(results["compared"].get(name)))
        table.add_row(*row)
    Console().print(table)


def _difference(found: JsonObject | None) -> str:
    return "" if found is None else f"{found['difference']:+.1%} (p = {found['p_value']:.2g})"
