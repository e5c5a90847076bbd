"""`parakit compare`: whether a model is better or worse than another, by paired tests on the same items."""

import json
from typing import Annotated, Literal

import tyro
from pydantic import Field
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import parakit
from parakit.cli.evaluate import EVALUATION_NEEDS, EvaluationFlags, evaluation_settings
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import refuse_inert
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import log, progress
from parakit.evaluation.comparison.config import CompareConfig
from parakit.evaluation.comparison.outcome import ScoreComparison
from parakit.reports.comparison_page import difference_text, needed_text, score_name, value_text


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
            **config.model_dump(),
            **evaluation_settings(command),
        )
    if command.page:
        log(f"page written to {command.page}")
    if command.as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        _show(found, config)
    failing = ("worse",) if command.fail_on == "worse" else ("worse", "cannot tell")
    return int(any(one["verdict"] in failing for one in found["models"]))


def _show(found: JsonObject, config: CompareConfig) -> None:
    console = Console()
    for model in found["models"]:
        table = Table("score", "reference", "model", "difference", "items", "corrected p", "verdict")
        table.title = escape(f"{model['model']} against {found['reference']}")
        rows = [ScoreComparison(**row) for row in model["scores"]]
        for row in rows:
            p_value = "" if row.corrected_p_value is None else f"{row.corrected_p_value:.2g}"
            values = (value_text(row, row.first), value_text(row, row.second), difference_text(row))
            table.add_row(escape(score_name(row)), *values, f"{row.n:,}", p_value, row.verdict or "")
        console.print(table)
        for row in rows:
            if line := needed_text(row, config):
                console.print(escape(f"{score_name(row)}: {line}"), highlight=False, soft_wrap=True)
            for key, (first, second) in row.allowed.items() if row.verdict else ():
                line = f"{score_name(row)}: {key} differs: {first} and {second}"
                console.print(escape(line), highlight=False, soft_wrap=True)
        for where, key in ((found["reference"], "only_in_reference"), (model["model"], "only_in_model")):
            if model[key]:
                console.print(escape(f"only in {where}: {', '.join(model[key])}"), highlight=False)
        console.print(escape(f"{model['model']}: {model['verdict']}"), highlight=False, style="bold")
