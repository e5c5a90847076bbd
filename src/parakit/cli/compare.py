"""`parakit compare`: whether a model is better or worse than another, by paired tests on the same items."""

import json
from typing import Annotated, Literal

import tyro
from pydantic import Field
from rich.console import Console

import parakit
from parakit.cli.evaluate import EVALUATION_NEEDS, EvaluationFlags, evaluation_settings
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import refuse_inert
from parakit.cli.rendering.tables import show_comparison
from parakit.common.errors import UserError
from parakit.common.progress import log, progress
from parakit.evaluation.comparison.config import CompareConfig


class CompareCommandConfig(EvaluationFlags, CompareConfig):
    """Compare models with a reference, the first folder, on everything that all were evaluated on. The exit status is 1 where a
    model is worse."""

    folders: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER ...")] = Field(
        description="Evaluation folders, or folders of models or builds, which are evaluated first; the first is the reference."
    )
    examples: Annotated[str | None, tyro.conf.Suppress] = None  # whose metrics have no items
    examples_split: Annotated[None, tyro.conf.Suppress] = None
    n_beams: Annotated[int, tyro.conf.Suppress] = 1
    output: str | None = Field(
        default=None, description="Folder for the evaluations of models; finished ones are found again there."
    )
    page: str | None = Field(
        default=None, description="Write a page with a picture and the items that changed to this HTML file."
    )
    fail_on: Literal["worse", "cannot-tell"] = Field(
        default="worse",
        description="Exit with status 1 where a model is worse, or (cannot-tell) also where it is not known to be better.",
    )
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the comparison as one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit compare` with these arguments: 0 where no model is worse than the first, 1 where one is."""
    command = parse_command(CompareCommandConfig, argv, "parakit compare")
    refuse_inert(command, EVALUATION_NEEDS)
    config = CompareConfig.parse({name: getattr(command, name) for name in CompareConfig.model_fields})
    if len(command.folders) < 2:
        raise UserError(
            f"a comparison needs two folders, and {len(command.folders)} is named",
            "name the reference first: parakit compare REFERENCE MODEL",
        )
    reference, *models = command.folders
    with progress("compare", unit="tokens and questions") as bar:
        found = parakit.compare(
            reference,
            *models,
            out=command.output,
            page=command.page,
            device=command.device,
            on_progress=bar.advance,
            on_total=bar.expect,
            **config.model_dump(),
            **evaluation_settings(command),
        )
    if command.page:
        log(f"page written to {command.page}")
    if command.as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        for one in found["models"]:
            show_comparison(one, config, Console())
    failing = ("worse",) if command.fail_on == "worse" else ("worse", "cannot tell")
    return int(any(one["verdict"] in failing for one in found["models"]))
