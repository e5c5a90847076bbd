"""`parakit evaluate`: a model's loss, perplexity and bits per byte on shards or raw text, its figures on the
examples of its task, its score on the primer's suites; a reward model's judgement of preferences.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from pydantic import Field
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from parakit.cli.rendering.tables import show_task
from parakit.common.artifacts import LINEAGE
from parakit.common.errors import UserError
from parakit.common.files import read_json
from parakit.common.progress import log, progress
from parakit.evaluation.config import EvaluationConfig
from parakit.primer.config import PrimerConfig

SUMMARY = "Measure a model: bits per byte of text, examples of its task, the built-in suites."


class EvaluateCommandConfig(EvaluationConfig):
    """Measure a model on token shards, on raw text, on examples of its task, and on the primer's suites."""

    model: tyro.conf.Positional[str] = Field(description="A model folder.")
    suites: Annotated[PrimerConfig | None, tyro.conf.Suppress] = None
    run_suites: Annotated[bool, tyro.conf.arg(name="suites")] = Field(
        default=False, description="Run the primer's held-out suites."
    )
    n_suite_items: int = Field(default=250, ge=8, description="Questions in each suite.")
    seed: int = Field(default=0, description="The seed of the suites' questions.")
    output: str | None = Field(
        default=None, description="Keep the results, every answer included, in this folder."
    )
    compare: str | None = Field(
        default=None, description="An evaluation folder of another model: compare suites item by item."
    )
    preferences: str | None = Field(
        default=None, description="Of a reward model: a file or folder of preferences to judge."
    )
    preferences_split: Literal["train", "validation", "test"] | None = Field(
        default=None,
        description="Of a folder of preferences; default: test, or validation where that is empty.",
    )
    overwrite: bool = Field(default=False, description="Replace an existing output folder.")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the figures as one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit evaluate` with these arguments; 0 when everything asked for was measured."""
    command = tyro.cli(
        EvaluateCommandConfig, args=argv, prog="parakit evaluate", config=(tyro.conf.FlagCreatePairsOff,)
    )
    if command.preferences:
        return _judge(command)
    config = _evaluation_config(command)
    if command.examples and not (Path(command.examples) / LINEAGE).is_file():
        return _measure_file(command, config)
    from parakit.cli.rendering.model_loading import model_folder
    from parakit.common.artifacts import open_artifact
    from parakit.common.devices import pick_device
    from parakit.evaluation.evaluate import RESULTS, check_output, evaluate_model, summary, write_evaluation
    from parakit.evaluation.suites import compare_suites
    from parakit.inference.folder_settings import warn_prefix_lm

    check_output(command.output, overwrite=command.overwrite)
    warn_prefix_lm(model_folder(command.model))
    other = open_artifact(command.compare, "evaluation").path / RESULTS if command.compare else None
    with progress("evaluate", unit="tokens and questions") as bar:
        results = evaluate_model(
            model_folder(command.model), config, device=str(pick_device(command.device)), advance=bar.advance
        )
    if command.output:
        write_evaluation(command.output, results, config, overwrite=command.overwrite)
        log(f"kept in {command.output}")
    differences = compare_suites(read_json(other)["suites"], results["suites"]) if other else {}
    figures = summary(results) | {"compared": {name: vars(found) for name, found in differences.items()}}
    if command.as_json:
        print(json.dumps(figures, ensure_ascii=False))
    else:
        _show(figures)
    return 0


def _judge(command: EvaluateCommandConfig) -> int:
    """The figures of a reward model on preferences; nothing else can be measured of it."""
    from parakit.cli.rendering.reward_eval import measure_preferences, show_preferences

    for name in ("tokens", "text", "suites", "examples", "output", "compare", "run_suites"):
        if getattr(command, name):
            flag = "suites" if name == "run_suites" else name
            raise UserError(f"--{flag} does not go with --preferences", "take one of them out")
    assert command.preferences is not None
    with progress("evaluate", unit="rankings") as bar:
        found = measure_preferences(
            command.model, command.preferences, command.preferences_split, command.device, bar.advance
        )
    if command.as_json:
        print(json.dumps({"preferences": found}, ensure_ascii=False))
    else:
        show_preferences(found, Console())
    return 0


def _measure_file(command: EvaluateCommandConfig, config: EvaluationConfig) -> int:
    """The figures of a model's task on a file of examples, all of which are measured."""
    from parakit.cli.rendering.predictions import measure_file

    for name in ("tokens", "text", "suites", "output", "compare", "examples_split"):
        if getattr(command, name):
            raise UserError(
                f"--{name.replace('_', '-')} goes with a folder of examples, and {command.examples} is a file",
                "make the folder with `parakit text --task`, or take the flag out",
            )
    with progress("evaluate", unit="examples") as bar:
        found = measure_file(command.model, str(command.examples), config, command.device, bar.advance)
    if command.as_json:
        print(json.dumps({"examples": found}, ensure_ascii=False))
    else:
        show_task(found, Console())
    return 0


def _evaluation_config(command: EvaluateCommandConfig) -> EvaluationConfig:
    names = set(EvaluationConfig.model_fields) & command.model_fields_set
    values = {name: getattr(command, name) for name in names - {"suites"}}
    if command.run_suites:
        values["suites"] = {"seed": command.seed, "n_suite_items": command.n_suite_items}
    return EvaluationConfig.parse(values, "parakit evaluate")


def _show(figures: dict[str, Any]) -> None:
    console = Console()
    if figures["loss"]:
        table = Table(
            "text",
            "nats/token",
            "perplexity",
            "bits/byte",
            "tokens",
            "bytes",
            title=escape(figures["model"]["path"]),
        )
        for name, loss in figures["loss"].items():
            bits = "" if loss["bits_per_byte"] is None else f"{loss['bits_per_byte']:.4f}"
            table.add_row(
                escape(name),
                f"{loss['loss_nats_per_token']:.4f}",
                f"{loss['perplexity']:.2f}",
                bits,
                f"{loss['n_tokens']:,}",
                f"{loss['n_bytes']:,}",
            )
        console.print(table)
    if figures.get("examples"):
        show_task(figures["examples"], console)
    if figures["suites"]:
        table = Table("suite", "right", "95 % interval", "items", "asked as", "against the other")
        for name, suite in figures["suites"].items():
            table.add_row(
                name,
                f"{suite['accuracy']:.1%}",
                f"{suite['low']:.1%} to {suite['high']:.1%}",
                str(suite["n"]),
                suite["prompting"],
                _difference(figures["compared"].get(name)),
            )
        console.print(table)


def _difference(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    interval = f"{found['low']:+.1%} to {found['high']:+.1%}"
    return f"{found['difference']:+.1%} ({interval}, p = {found['p_value']:.2g})"
