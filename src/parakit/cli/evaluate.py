"""`parakit evaluate`: loss, perplexity and bits per byte on shards or text, task metrics on examples, suites, preferences."""

import json
from typing import Annotated, Literal

import tyro
from pydantic import Field
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import parakit
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import OVERWRITES, Needs, refuse_inert
from parakit.cli.rendering.tables import (
    show_benchmarks,
    show_comparison,
    show_preferences,
    show_suites,
    show_task,
)
from parakit.common.artifacts import has_kind
from parakit.common.files import JsonObject
from parakit.common.progress import log, progress
from parakit.evaluation.comparison.config import CompareConfig
from parakit.evaluation.config import EvaluationConfig
from parakit.primer.config import PrimerSuitesConfig
from parakit.reports.summary_parts import TaskSummary


class EvaluationFlags(EvaluationConfig):
    """What to evaluate on, as flags."""

    suites: Annotated[PrimerSuitesConfig | None, tyro.conf.Suppress] = None
    run_suites: Annotated[bool, tyro.conf.arg(name="suites")] = Field(
        default=False, description="Run the primer's held-out suites."
    )
    n_suite_items: int = Field(default=250, ge=8, description="Questions per suite.")
    seed: int = Field(
        default=0, ge=0, description="Seed of the suites' questions, and of the choice of a task's items."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")


class EvaluateCommandConfig(EvaluationFlags):
    """Evaluate a model on benchmarks, token shards, raw text, examples of its task, the primer's suites, or preferences."""

    model: tyro.conf.Positional[str] = Field(
        description="A model folder, or the folder of a build; or that of an evaluation, which is only searched."
    )
    contamination: tuple[str, ...] = Field(
        default=(),
        description="Texts that are searched for the items of tasks and suites: files, folders, artifacts. Default: lineage,"
        " what the model was trained on; none: no search.",
    )
    output: str | None = Field(
        default=None, description="Write the results, with every answer, to this folder."
    )
    compare: tuple[str, ...] = Field(
        default=(),
        description="Evaluation folder of another model: suites are compared item by item, losses block by block. Several, "
        "of runs that differ by their seed, show the noise of seeds too.",
    )
    preferences: str | None = Field(
        default=None, description="For a reward model: a file or folder of preferences to score."
    )
    preferences_split: Literal["train", "validation", "test"] | None = Field(
        default=None,
        description="Split of a folder of preferences. Default: test, or validation if test is empty.",
    )
    overwrite: bool = Field(default=False, description="Replace an existing output folder.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the results as one JSON object."
    )


EVALUATION_NEEDS = (
    Needs(
        ("n_suite_items",),
        lambda command: command.run_suites,
        "no suites are run",
        "run them with --suites",
    ),
    Needs(
        ("seed", "prompting"),
        lambda command: command.run_suites or command.tasks,
        "no questions are asked",
        "run suites with --suites, or tasks with --tasks",
    ),
    Needs(
        ("data", "limit", "n_shots", "n_samples", "system_prompt", "fetch"),
        lambda command: command.tasks,
        "no task is run",
        "name some with --tasks",
    ),
    Needs(("split",), lambda command: command.tokens, "it is of token shards", "name some with --tokens"),
    Needs(
        ("examples_split", "n_beams"),
        lambda command: command.examples,
        "there are no examples",
        "name some with --examples",
    ),
    Needs(
        ("seq_len", "overlap"),
        lambda command: command.tokens or command.text,
        "no loss is measured on text",
        "name text with --text or --tokens",
    ),
    Needs(
        ("max_new_tokens",),
        lambda command: command.run_suites or command.examples or command.tasks,
        "nothing is answered or predicted",
        "run suites or tasks, or name examples",
    ),
    Needs(
        ("micro_batch_size",),
        lambda command: command.run_suites or command.examples,
        "nothing is answered or predicted in batches of a given size",
        "run suites or name examples",
    ),
    Needs(
        ("max_document_chars", "text_start"),
        lambda command: command.text,
        "there is no raw text",
        "name some with --text",
    ),
)
_NEEDS = (
    *EVALUATION_NEEDS,
    Needs(
        ("contamination",),
        lambda command: command.tasks or command.run_suites or has_kind(command.model, "evaluation"),
        "no items are evaluated",
        "run tasks with --tasks, suites with --suites, or name an evaluation folder",
    ),
    Needs(
        ("preferences_split",),
        lambda command: command.preferences,
        "there are no preferences",
        "name some with --preferences",
    ),
    OVERWRITES,
)


def main(argv: list[str]) -> int:
    """Run `parakit evaluate` with these arguments; 0 when all was evaluated."""
    command = parse_command(EvaluateCommandConfig, argv, "parakit evaluate")
    refuse_inert(command, _NEEDS)
    alone = not (command.text or command.tokens or command.run_suites or command.examples)
    unit = "rankings" if command.preferences else "requests" if alone else "tokens and questions"
    with progress("evaluate", unit=unit) as bar:
        figures = parakit.evaluate(
            command.model,
            out=command.output,
            overwrite=command.overwrite,
            compare=command.compare,
            preferences=command.preferences,
            preferences_split=command.preferences_split,
            contamination=command.contamination,
            device=command.device,
            on_progress=bar.advance,
            on_total=bar.expect,
            **evaluation_settings(command),
        )
    if command.output:
        log(f"results written to {command.output}")
    if command.as_json:
        print(json.dumps(figures, ensure_ascii=False))
    elif command.preferences:
        show_preferences(figures["preferences"], Console())
    else:
        _show(figures)
    return 0


def evaluation_settings(command: EvaluationFlags) -> JsonObject:
    """The command's evaluation settings that differ from the defaults."""
    fields = {name: field for name, field in EvaluationConfig.model_fields.items() if name != "suites"}
    values = {name: getattr(command, name) for name in fields}
    settings = {name: value for name, value in values.items() if value != fields[name].default}
    if command.run_suites:
        settings["suites"] = {"seed": command.seed, "n_suite_items": command.n_suite_items}
    return settings


def _show(figures: JsonObject) -> None:
    console = Console()
    if figures["loss"]:
        table = Table(
            title=escape(figures["model"]["path"]),
            caption="of the text alone; end tokens do not count in it, and what each costs in nats is in the last column",
        )
        table.add_column("text")
        for heading in ("bits/byte", "perplexity", "nats/token", "tokens", "end tokens"):
            table.add_column(heading, no_wrap=True)
        for name, loss in figures["loss"].items():
            bits = "" if loss["bits_per_byte"] is None else f"{loss['bits_per_byte']:.4f}"
            label = name if loss["counted"] == "text" else f"{name} (answers with their ends)"
            documents = f"{loss['n_documents']:,} document{'' if loss['n_documents'] == 1 else 's'}"
            ends = (
                f"{loss['n_end_tokens']:,} × {loss['end_nats_per_token']:.2f}"
                if loss["n_end_tokens"]
                else "0"
            )
            table.add_row(
                escape(f"{label}: {loss['n_bytes']:,} bytes in {documents}"),
                bits,
                f"{loss['perplexity']:.2f}",
                f"{loss['loss_nats_per_token']:.4f}\n{loss['low']:.3f} to {loss['high']:.3f}",
                f"{loss['n_tokens']:,}",
                ends,
            )
        console.print(table)
        for name, compared in figures["compared_loss"].items():
            console.print(escape(f"{name}, against the other: {compared['verdict']}"))
    if figures.get("examples"):
        show_task(TaskSummary.model_validate(figures["examples"]), console)
    if figures["benchmarks"]:
        show_benchmarks(figures["benchmarks"], console)
    if figures["suites"]:
        show_suites(figures["suites"], console)
    if figures["comparison"]:
        show_comparison(figures["comparison"], CompareConfig(), console)
