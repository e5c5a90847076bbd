"""`parakit build`: run all stages of a recipe file, of the built-in recipe, or of a recipe for given text."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from pydantic import Field
from rich.console import Console
from rich.table import Table

from parakit.cli.rendering.arguments import parse_command, parse_setting
from parakit.cli.rendering.conditions import Needs, refuse_inert
from parakit.cli.rendering.show_sweep import plan_lines, plan_rows, report_sweep
from parakit.cli.rendering.tables import show_task
from parakit.common.errors import UserError
from parakit.common.formatting import duration
from parakit.common.progress import log
from parakit.common.settings import Config, Family
from parakit.data.fetching.locations import HUB, is_on_network
from parakit.evaluation.comparison.config import GateConfig
from parakit.reports.before_after import effect
from parakit.reports.documents.section import answer_line, answers_of
from parakit.reports.formatting import final_stage, measured_text, next_command, training, vocabulary_facts
from parakit.reports.model_comparisons import figure_rows, loss_change
from parakit.reports.summary_schema import BuildSummary, VocabularySummary
from parakit.training.task_names import TaskName

if TYPE_CHECKING:
    from parakit.recipe.config import RecipeConfig

_WITH_TEXT = {
    "conversations": "conversations.paths",
    "examples": "examples.paths",
    "exclude": "text.exclude",
}


_NEEDS = (
    Needs(
        ("parallel",),
        lambda command: command.seeds is not None or command.vary,
        "there is one run",
        "name several with --seeds or --vary",
    ),
)


class BuildConfig(Config):
    """Build a model. Without arguments, the command builds the built-in recipe, which needs no data."""

    recipe: tyro.conf.Positional[str | None] = Field(
        default=None, description="A recipe file. Default: the built-in recipe."
    )
    text: Annotated[tuple[str, ...], tyro.conf.arg(metavar="PATH ...")] = Field(
        default=(), description="Files and folders of text, instead of a recipe."
    )
    model: Annotated[str | None, tyro.conf.arg(metavar="PATH")] = Field(
        default=None,
        description="A trained model to begin with, instead of a recipe: a model folder, a GGUF file, or "
        "hub:ORGANISATION/MODEL.",
    )
    fetch: bool = Field(
        default=False,
        description="Download the model where --model names one of the hub, and what --text urls:FILE or hub:OWNER/NAME names.",
    )
    extend_vocab: Annotated[tuple[str, ...], tyro.conf.arg(metavar="N|FILE|WORD ...")] = Field(
        default=(),
        description="With --model and --text: new tokens for the model's tokenizer. How many to learn on the text, a file"
        " with one word a line, or the words.",
    )
    conversations: tuple[str, ...] = Field(
        default=(), description="With --text or --model: files of conversations to fine-tune on."
    )
    examples: tuple[str, ...] = Field(
        default=(), description="With --text or --model, and --task: files of examples to fine-tune on."
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
    gate: bool = Field(
        default=False,
        description="Stop where a stage's model is worse on the suites than the one that it was made from (exit status 1); "
        "limits: --set evaluate.gate.max_fall=0.02.",
    )
    seeds: str | None = Field(
        default=None,
        description="Run the recipe over several seeds: how many (5: from its own on), or which (3,7,11). The report has"
        " mean and interval.",
    )
    vary: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE,VALUE ...")] = Field(
        default=(),
        description="Run the recipe over several values of a setting, for example pretrain.learning_rate=0.01,0.02; of"
        " several settings, over all combinations.",
    )
    parallel: Annotated[int, Field(ge=1, le=256)] | None = Field(
        default=None,
        description="With --seeds or --vary: runs at the same time. Default: as many as there are accelerators, or"
        " processes of torchrun, on this machine.",
    )
    builds: str = Field(default="builds", description="The folder in which builds are written.")
    dry_run: bool = Field(default=False, description="Print which stages would run and why, and stop.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the summary as one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit build` with these arguments."""
    command = parse_command(BuildConfig, argv, "parakit build")
    refuse_inert(command, _NEEDS)
    if command.seeds is not None or command.vary:
        from parakit.common.processes import first_alone
        from parakit.recipe.sweeps.running import default_places

        places = command.parallel or default_places()
        return first_alone("sweep", lambda: _sweep(command, places))
    from parakit.recipe.builder import build

    recipe = _gated(command, _recipe(command))
    if command.dry_run:
        return _dry_run(recipe, Path(command.builds), command.as_json)
    summary = build(recipe, Path(command.builds))
    if command.as_json:
        print(json.dumps(summary.to_dict()))
    else:
        _show(summary, Path(command.builds) / recipe.name)
    return 0


def _dry_run(recipe: "RecipeConfig", builds: Path, as_json: bool) -> int:
    """Print which stages would run and why, and what those that train would take."""
    from parakit.cli.rendering.plans.tables import show_stages
    from parakit.recipe.builder import dry_run
    from parakit.recipe.planning import plan_recipe
    from parakit.stages.planning.measuring import this_machine_if_known, uncalibrated_machine

    decisions = dry_run(recipe, builds)
    rows: list[dict[str, Any]] = [
        {"stage": d.stage.name, "run": d.run, "reason": d.reason} for d in decisions
    ]
    machine = this_machine_if_known() or uncalibrated_machine()
    plans = {plan.name: plan for plan in plan_recipe(recipe, machine, builds / recipe.name)}
    if as_json:
        rows = [
            row | ({"plan": plans[row["stage"]].to_json()} if row["stage"] in plans else {}) for row in rows
        ]
        print(json.dumps({"name": recipe.name, "stages": rows}))
        return 0
    print(_plan_table(rows))
    if running := [plans[row["stage"]] for row in rows if row["run"] and row["stage"] in plans]:
        show_stages(running, machine, Console())
    return 0


def _sweep(command: BuildConfig, places: int) -> int:
    """Run the recipe over seeds and values, so many runs at once; 1 where one failed."""
    from parakit.recipe.sweeps.grid import parse_seeds, parse_vary
    from parakit.recipe.sweeps.plan import plan_sweep
    from parakit.recipe.sweeps.running import run_sweep

    sweep = plan_sweep(
        lambda varied: _gated(command, _recipe(command, varied)),
        Path(command.builds),
        None if command.seeds is None else parse_seeds(command.seeds),
        parse_vary(command.vary),
        fetch=not command.dry_run,
    )
    if command.dry_run:
        sweep.check_folder()
        print(json.dumps(plan_rows(sweep), ensure_ascii=False) if command.as_json else plan_lines(sweep))
        return 0
    return report_sweep(sweep, run_sweep(sweep, places), command.as_json)


def _gated(command: BuildConfig, recipe: "RecipeConfig") -> "RecipeConfig":
    """The recipe with a gate, where the command has the flag."""
    if command.gate and recipe.evaluate.gate is None:
        return recipe.replace(evaluate=recipe.evaluate.replace(gate=GateConfig()))
    return recipe


def _recipe(command: BuildConfig, varied: Mapping[str, Any] | None = None) -> "RecipeConfig":
    """The recipe of the command, with the settings of one run of a sweep."""
    from parakit.recipe.builder import built_in_recipe, load_recipe, recipe_for_model, recipe_for_text

    named = {name: getattr(command, name) for name in ("name", "size", "time", "seed", "family")}
    named["finetune.task"] = command.task
    overrides = {key: value for key, value in named.items() if value is not None}
    flags = set(overrides)
    for key, value in map(parse_setting, command.set):
        if key in flags:
            flag = f"--{key.removeprefix('finetune.')}"
            raise UserError(f"{key} is set twice, by {flag} and by --set", "keep one of the two")
        if key in overrides:
            log(f"--set {key} is given twice: {value!r} is taken, which comes last")
        overrides[key] = value
    for key, value in (varied or {}).items():
        if key in overrides and key != "seed":
            raise UserError(f"{key} is set and varied", "name its values with --vary alone")
        overrides[key] = value
    if command.evaluate_text:
        overrides["evaluate.texts"] = list(command.evaluate_text)
    if command.fetch:
        remote_text = any(map(is_on_network, command.text))
        if not command.model and not remote_text:
            raise UserError(
                "--fetch goes with --model, or with --text urls:FILE or hub:OWNER/NAME",
                "in a recipe, write it under start.fetch or text.fetch",
            )
        if remote_text:
            overrides["text.fetch"] = True
        if command.model and (not remote_text or command.model.startswith(HUB)):
            overrides["start.fetch"] = True
    if command.extend_vocab:
        if not command.model:
            raise UserError(
                "--extend-vocab goes with --model", "in a recipe, write it under start.extend_vocab"
            )
        overrides["start.extend_vocab"] = _new_tokens(command.extend_vocab)
    if command.text or command.model:
        flag, key = ("--model", "start") if command.model else ("--text", "text.paths")
        if command.recipe:
            raise UserError(
                f"both a recipe and {flag} were given", f"name the {flag[2:]} in the recipe, under {key}"
            )
        for flag, key in _WITH_TEXT.items():
            if getattr(command, flag):
                overrides[key] = list(getattr(command, flag))
        if command.model:
            return recipe_for_model(command.model, command.text, overrides)
        return recipe_for_text(command.text, overrides)
    for flag, key in _WITH_TEXT.items():
        if getattr(command, flag):
            raise UserError(f"--{flag} goes with --text or --model", f"in a recipe, write it under {key}")
    return load_recipe(command.recipe or built_in_recipe(), overrides)


def _new_tokens(values: tuple[str, ...]) -> int | str | tuple[str, ...]:
    """A number, or a file of words; several values are the words."""
    if len(values) > 1:
        return values
    return int(values[0]) if values[0].lstrip("-").isdecimal() else values[0]


def _plan_table(rows: list[dict[str, Any]]) -> str:
    width = max(len(row["stage"]) for row in rows)
    return "\n".join(
        f"{'run ' if row['run'] else 'skip'}  {row['stage']:<{width}}  {row['reason']}" for row in rows
    )


def _show(summary: BuildSummary, folder: Path) -> None:
    from parakit.reports.benchmarks import benchmark_lines

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
    for line in benchmark_lines(summary):
        log(line)
    show_task(summary.task, console)
    last = final_stage(summary)
    final = training(summary, last)
    base = summary.training("pretrain") or final
    bits = base.bits_per_byte
    held_out = f"{bits:.3f} bits per byte" if bits else f"loss {base.loss:.3f} {base.loss_unit}"
    what = f"{measured_text(base)}, end tokens not counted" if bits else "held-out text"
    if summary.against_start:  # the figures follow, each next to the published model's
        log(f"{base.parameters:,} parameters, {duration(summary.seconds or 0)}")
    else:
        log(f"{base.parameters:,} parameters, {held_out} on {what}, {duration(summary.seconds or 0)}")
    if final.parameters != base.parameters:
        log(f"{last}: {final.parameters:,} parameters")
    if isinstance(larger := summary.stages.get("vocabulary"), VocabularySummary):
        log("; ".join(f"{name}: {value}" for name, value in vocabulary_facts(larger)))
    for line in [*_effect_lines(summary), *_evaluation_lines(summary)]:
        log(line)
    log(f"report: {folder / 'report.html'}")
    if answers := answers_of(summary):
        log(f"answers: {answer_line(answers)}")
    where = folder if "index" in summary.stages else folder / last
    next_step = next_command(summary.model_copy(update={"path": str(where)}))
    log(f"{next_step['what'].lower()}: {next_step['command']}")
    if "index" in summary.stages:
        log(f"serve it: parakit serve {folder}")


def _effect_lines(summary: BuildSummary) -> list[str]:
    """Of every stage that tuned a model: whether it helped, and what it forgot."""
    stages = {name: summary.training(name) for name in summary.stages}
    return [
        f"{name}: {'; '.join(effect(figures))}"
        for name, figures in stages.items()
        if figures and effect(figures)
    ]


def _evaluation_lines(summary: BuildSummary) -> list[str]:
    """The loss of every model on each text; with a published model, every figure next to its own."""
    if not summary.against_start:
        return [
            f"{row.name} ({row.model}): {row.bits_per_byte:.3f} bits per byte, end tokens not counted"
            + (f"; against {row.change.against} {loss_change(row)}" if row.change else "")
            for row in summary.evaluations
            if row.bits_per_byte is not None
        ]
    return [
        f"{row.name}{f' ({row.unit})' if row.unit else ''}: "
        + "; ".join(
            f"{bar.role} {bar.value}{f' ({bar.difference})' if bar.difference else ''}" for bar in row.bars
        )
        for row in figure_rows(summary.against_start)
    ]
