"""`parakit build`: run all stages of a recipe file, of the built-in recipe, or of a recipe for given text."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
import yaml
from pydantic import Field
from rich.console import Console
from rich.table import Table

from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.tables import show_task
from parakit.common.errors import UserError
from parakit.common.formatting import duration
from parakit.common.progress import log
from parakit.common.settings import Config, Family
from parakit.reports.formatting import final_stage, next_command, training
from parakit.reports.summary_schema import BuildSummary
from parakit.training.task_names import TaskName

if TYPE_CHECKING:
    from parakit.recipe.config import RecipeConfig

_WITH_TEXT = {
    "conversations": "conversations.paths",
    "examples": "examples.paths",
    "exclude": "text.exclude",
}


class BuildConfig(Config):
    """Build a model. Without arguments, the command builds the built-in recipe, which needs no data."""

    recipe: tyro.conf.Positional[str | None] = Field(
        default=None, description="A recipe file. Default: the built-in recipe."
    )
    text: Annotated[tuple[str, ...], tyro.conf.arg(metavar="PATH ...")] = Field(
        default=(), description="Files and folders of text, instead of a recipe."
    )
    conversations: tuple[str, ...] = Field(
        default=(), description="With --text: files of conversations to fine-tune on."
    )
    examples: tuple[str, ...] = Field(
        default=(), description="With --text and --task: files of examples to fine-tune on."
    )
    task: TaskName | None = Field(
        default=None, description="Task that the model is tuned for. Default: chat."
    )
    family: Family | None = Field(default=None, description="Model family. Default: decoder.")
    evaluate_text: tuple[str, ...] = Field(
        default=(), description="Files and folders of other text to evaluate the models on."
    )
    exclude: tuple[str, ...] = Field(default=(), description="With --text: patterns of files to skip.")
    size: str | None = Field(default=None, description="Number of parameters, for example 5m.")
    time: str | None = Field(default=None, description="Time for the whole build, for example 30min.")
    name: str | None = Field(default=None, description="Name of the build, which is written to builds/NAME.")
    seed: int | None = Field(default=None, description="Seed of all random choices.")
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = Field(
        default=(), description="Other settings of the recipe, for example pretrain.max_steps=100."
    )
    builds: str = Field(default="builds", description="The folder in which builds are written.")
    dry_run: bool = Field(default=False, description="Print which stages would run and why, and stop.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the summary as one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit build` with these arguments."""
    command = parse_command(BuildConfig, argv, "parakit build")
    from parakit.recipe.builder import build, dry_run

    recipe = _recipe(command)
    if command.dry_run:
        decisions = dry_run(recipe, Path(command.builds))
        rows = [{"stage": d.stage.name, "run": d.run, "reason": d.reason} for d in decisions]
        print(json.dumps({"name": recipe.name, "stages": rows}) if command.as_json else _plan_table(rows))
        return 0
    summary = build(recipe, Path(command.builds))
    if command.as_json:
        print(json.dumps(summary.to_dict()))
    else:
        _show(summary, Path(command.builds) / recipe.name)
    return 0


def _recipe(command: BuildConfig) -> "RecipeConfig":
    from parakit.recipe.builder import built_in_recipe, load_recipe, recipe_for_text

    overrides = dict(_setting(text) for text in command.set)
    named = {name: getattr(command, name) for name in ("name", "size", "time", "seed", "family")}
    named["finetune.task"] = command.task
    overrides = {key: value for key, value in named.items() if value is not None} | overrides
    if command.evaluate_text:
        overrides["evaluate.texts"] = list(command.evaluate_text)
    if command.text:
        if command.recipe:
            raise UserError(
                "both a recipe and --text were given", "name the text in the recipe, under text.paths"
            )
        for flag, key in _WITH_TEXT.items():
            if getattr(command, flag):
                overrides[key] = list(getattr(command, flag))
        return recipe_for_text(command.text, overrides)
    for flag, key in _WITH_TEXT.items():
        if getattr(command, flag):
            raise UserError(f"--{flag} goes with --text", f"in a recipe, write it under {key}")
    return load_recipe(command.recipe or built_in_recipe(), overrides)


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--set {text!r} is not KEY=VALUE", "write for example --set pretrain.max_steps=100")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(
            f"--set {text!r}: {value!r} is not readable as a YAML value", f"quote it: --set '{key}=\"...\"'"
        ) from None


def _plan_table(rows: list[dict[str, Any]]) -> str:
    width = max(len(row["stage"]) for row in rows)
    return "\n".join(
        f"{'run ' if row['run'] else 'skip'}  {row['stage']:<{width}}  {row['reason']}" for row in rows
    )


def _show(summary: BuildSummary, folder: Path) -> None:
    console = Console(stderr=True)
    if summary.suites:
        models = list(summary.suite_mean)
        table = Table(
            "suite",
            *models,
            "chance",
            title="held-out suites, accuracy in % (95 % interval)",
            title_justify="left",
        )
        for suite, results in summary.suites.items():
            cells = [
                f"{100 * r.accuracy:.0f} ({100 * (r.low or 0):.0f}-{100 * (r.high or 0):.0f})"
                for r in results.values()
            ]
            table.add_row(suite, *cells, f"{100 * summary.chance.get(suite, 0):.0f}")
        table.add_row("mean", *(f"{100 * summary.suite_mean[model]:.0f}" for model in models), "")
        console.print(table)
    show_task(summary.task, console)
    last = final_stage(summary)
    final = training(summary, last)
    base = summary.training("pretrain") or final
    bits = base.bits_per_byte
    held_out = f"{bits:.3f} bits per byte" if bits else f"loss {base.loss:.3f} {base.loss_unit}"
    log(f"{base.parameters:,} parameters, {held_out} on held-out text, {duration(summary.seconds or 0)}")
    if final.parameters != base.parameters:
        log(f"{last}: {final.parameters:,} parameters")
    for row in summary.evaluations:
        log(f"{row.name} ({row.model}): {row.bits_per_byte:.3f} bits per byte")
    log(f"report: {folder / 'report.html'}")
    next_step = next_command(summary.model_copy(update={"path": str(folder / last)}))
    log(f"{next_step['what'].lower()}: {next_step['command']}")
