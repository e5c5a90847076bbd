"""`parakit judge`: a model compares or grades the answers of others; ratings, position bias, agreement with votes."""

import json
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import parakit
from parakit.cli.rendering.arguments import parse_command
from parakit.common.files import JsonObject
from parakit.common.progress import log
from parakit.evaluation.judging.config import JudgeConfig


class JudgeCommandConfig(JudgeConfig):
    """Let a judge compare or grade the answers of models: a chat model, a reward model, or an endpoint. The same command
    resumes an interrupted run.
    """

    judge: str = Field(description="The judge: a model folder, or the URL of a chat endpoint.")
    output: str = Field(description="The folder to write: results, verdicts and report.html.")
    models: tuple[str, ...] = Field(
        default=(), description="The models that answer: folders, or URLs of chat endpoints."
    )
    prompts: str | None = Field(
        default=None, description='File of prompts: JSON lines {"prompt": ..., "id": ..., "reference": ...}.'
    )
    answers: tuple[str, ...] = Field(
        default=(),
        description='Files of finished answers instead of models, one a model: JSON lines {"prompt": ..., "answer": ...}.',
    )
    votes: str | None = Field(
        default=None,
        description='File of people\'s votes, to measure the judge by: JSON lines {"id": ..., "model_a": ..., "model_b": ..., '
        '"winner": "model_a"}; of grades {"id": ..., "model": ..., "grade": 4}.',
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    overwrite: bool = Field(default=False, description="Replace an existing output folder.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the results as one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit judge` with these arguments."""
    command = parse_command(JudgeCommandConfig, argv, "parakit judge")
    settings = {name: getattr(command, name) for name in JudgeConfig.model_fields}
    results = parakit.judge(
        command.judge,
        models=command.models,
        prompts=command.prompts,
        answers=command.answers,
        votes=command.votes,
        out=command.output,
        overwrite=command.overwrite,
        device=command.device,
        **{name: value for name, value in settings.items() if name in command.model_fields_set},
    )
    if command.as_json:
        print(json.dumps(results, ensure_ascii=False))
    else:
        _show(results)
    log(f"verdicts and report: {Path(command.output) / 'report.html'}")
    return 0


def _show(results: JsonObject) -> None:
    from parakit.reports.judging import judged_rows, trust_lines

    console, rows = Console(), judged_rows(results)
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    console.print(table)
    for line in [*trust_lines(results), *(f"{note}." for note in results.get("notes", ()))]:
        console.print(escape(line))
    if not results["agreement"]:
        console.print("No votes were given (--votes), so nothing shows how far the judge agrees with people.")
