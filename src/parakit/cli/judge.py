"""`parakit judge`: a model compares or grades the answers of others; ratings, position bias, agreement with votes."""

import json
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import check_judge_name, model_location
from parakit.common.errors import UserError
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
    _check(command)
    out = Path(command.output)
    from parakit.common.devices import pick_device
    from parakit.evaluation.evaluate import check_output
    from parakit.stages.judging import JudgeJob, judge_models

    check_output(out, overwrite=command.overwrite)
    settings = {name: getattr(command, name) for name in JudgeConfig.model_fields}
    job = JudgeJob(
        judge=model_location(command.judge),
        config=JudgeConfig(**settings),
        models=tuple(model_location(model) for model in command.models),
        prompts=command.prompts,
        answers=command.answers,
        votes=command.votes,
        device=str(pick_device(command.device)),
    )
    results = judge_models(job, out, command.overwrite)
    if command.as_json:
        print(json.dumps(results, ensure_ascii=False))
    else:
        _show(results)
    log(f"verdicts and report: {out / 'report.html'}")
    return 0


def _check(command: JudgeCommandConfig) -> None:
    """`UserError` for flags that contradict each other or would do nothing."""
    if bool(command.models) == bool(command.answers):
        raise UserError(
            "name either --models, which answer the prompts, or files of --answers",
            "parakit judge --models A B --prompts FILE --judge JUDGE --output FOLDER",
        )
    if command.models and command.prompts is None:
        raise UserError("the models have nothing to answer", "name a file with --prompts")
    if command.answers and "max_new_tokens" in command.model_fields_set:
        raise UserError(
            f"--max-new-tokens {command.max_new_tokens} is of answers that models write, and these are finished",
            "remove it",
        )
    check_judge_name(command.judge, command.judge_model)


def _show(results: JsonObject) -> None:
    from parakit.reports.judging import grade_rows, trust_lines

    console = Console()
    if results["kind"] == "pairwise":
        table = Table("model", "rating", "95 % interval", "Elo", "won", "tied", "lost")
        for row in results["ratings"]:
            rating = row["bradley_terry"]
            table.add_row(
                escape(row["model"]),
                f"{rating['value']:.0f}",
                f"{rating['low']:.0f} to {rating['high']:.0f}",
                f"{row['elo']['value']:.0f}",
                *(str(row[name]) for name in ("wins", "ties", "losses")),
            )
    else:
        table = Table("model", "grade, 1 to 5", "95 % interval", "answers")
        for row in grade_rows(results):
            interval = f"{row['low']:.2f} to {row['high']:.2f}"
            table.add_row(escape(row["model"]), f"{row['value']:.2f}", interval, str(row["n"]))
    console.print(table)
    for line in [*trust_lines(results), *(f"{note}." for note in results.get("notes", ()))]:
        console.print(escape(line))
    if not results["agreement"]:
        console.print("No votes were given (--votes), so nothing shows how far the judge agrees with people.")
