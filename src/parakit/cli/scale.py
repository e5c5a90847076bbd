"""`parakit scale`: train a small family of a recipe's model, fit a scaling law, and predict larger runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import Field
from rich.console import Console
from rich.table import Table

from parakit.cli.rendering.arguments import parse_command, parse_setting
from parakit.cli.rendering.conditions import Needs, refuse_inert
from parakit.cli.rendering.safe_text import safe
from parakit.cli.rendering.show_sweep import plan_lines, plan_rows
from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.common.settings import Config

if TYPE_CHECKING:
    from parakit.recipe.config import RecipeConfig
    from parakit.recipe.sweeps.plan import Sweep
    from parakit.reports.sweeps.law import LawReport

_NEEDS = (
    Needs(
        ("sizes", "tokens", "time", "seeds", "set", "parallel", "dry_run", "text"),
        lambda command: command.recipe is not None or command.text,
        "the law is fitted to builds that are there, and nothing is trained",
        "name a recipe",
    ),
    Needs(
        ("time",),
        lambda command: not (command.sizes and command.tokens),
        "the sizes and the tokens are both given",
        "leave --sizes or --tokens out",
    ),
)


class ScaleConfig(Config):
    """Train a family of small models of a recipe, fit a scaling law to their losses, and predict larger runs."""

    recipe: tyro.conf.Positional[str | None] = Field(
        default=None, description="A recipe file; of its stages, those up to pre-training."
    )
    text: Annotated[tuple[str, ...], tyro.conf.arg(metavar="PATH ...")] = Field(
        default=(), description="Files and folders of text, instead of a recipe."
    )
    output: str = Field(description="Folder of the family: its runs, its sweep, and the law.")
    sizes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SIZE ...")] = Field(
        default=(), description="Numbers of parameters, three at least: 200k 400k 800k."
    )
    tokens: Annotated[tuple[str, ...], tyro.conf.arg(metavar="COUNT ...")] = Field(
        default=(), description="Tokens to train on, three at least: 1m 2m 4m. Every size trains on each."
    )
    time: str | None = Field(
        default=None,
        description="About how long the whole family takes, one run after the other: chooses the sizes and tokens that are"
        " not given.",
    )
    seeds: str | None = Field(
        default=None, description="Seeds of each run: how many, or which (3,7,11). Default: the recipe's."
    )
    predict: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SIZE:COUNT ...")] = Field(
        default=(),
        description="Larger runs whose loss to predict, as parameters:tokens, for example 5m:100m.",
    )
    runs: Annotated[tuple[str, ...], tyro.conf.arg(metavar="BUILD ...")] = Field(
        default=(), description="Further builds of the same data and tokenizer to fit the law to."
    )
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = Field(
        default=(), description="Other settings of the recipe, for example tokenizer.vocab_size=512."
    )
    parallel: int = Field(default=1, ge=1, le=256, description="Runs at the same time.")
    dry_run: bool = Field(default=False, description="Print the runs and what they need, and stop.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the law, the runs and the predictions as one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit scale` with these arguments; 1 where a run failed."""
    command = parse_command(ScaleConfig, argv, "parakit scale")
    refuse_inert(command, _NEEDS)
    if command.recipe and command.text:
        raise UserError(
            "both a recipe and --text were given", "name the text in the recipe, under text.paths"
        )
    if not (command.recipe or command.text or command.runs):
        raise UserError(
            "nothing to fit a law to", "name a recipe, or text with --text, or builds with --runs"
        )
    wanted = [_run_of(one) for one in command.predict]
    from parakit.recipe.sweeps.running import run_sweep
    from parakit.recipe.sweeps.scaling import family_runs, without_failed
    from parakit.reports.sweeps.law import check_sentence, fit_family, notes, write_law_report

    folder = Path(command.output)
    failed, builds = 0, [Path(one) for one in command.runs]
    if command.recipe or command.text:
        sweep = _family(command, folder)
        if command.dry_run:
            sweep.check_folder()
            print(json.dumps(plan_rows(sweep), ensure_ascii=False) if command.as_json else plan_lines(sweep))
            return 0
        outcomes = run_sweep(sweep, command.parallel)
        failed = sum(one.status == "failed" for one in outcomes)
        builds = [*without_failed(sweep), *builds]
    report = fit_family(folder.name, family_runs(builds), wanted)
    page = write_law_report(report, folder / "law")
    if command.as_json:
        print(json.dumps(report.to_dict(), ensure_ascii=False))
    else:
        _show(report)
    for line in filter(None, [*notes(report), check_sentence(report)]):
        log(line)
    log(f"report: {page}")
    return 1 if failed else 0


def _family(command: ScaleConfig, folder: Path) -> "Sweep":
    """The runs: those given, those that fit into the time, or those that the folder already has."""
    from parakit.recipe.config import parse_time
    from parakit.recipe.sweeps.grid import parse_seeds
    from parakit.recipe.sweeps.scaling import family_in_time, plan_family, planned_axes

    recipe = _recipe(command)
    sizes, tokens = command.sizes, tuple(_count(one, "--tokens") for one in command.tokens)
    if not (sizes and tokens):
        planned = planned_axes(folder)  # a time is measured once: a repeated command resumes the same runs
        if planned is None and command.time is None:
            raise UserError(
                "neither the sizes and tokens of the family nor a time are given",
                "name --sizes 200k 400k 800k --tokens 1m 2m 4m, or --time 30min",
            )
        if planned is None:
            assert command.time is not None
            sizes, tokens = family_in_time(recipe, parse_time(command.time), sizes, tokens)
        else:
            sizes, tokens = sizes or planned[0], tokens or planned[1]
        log(
            f"the family: {', '.join(sizes)} parameters; {', '.join(f'{one:,}' for one in tokens)} tokens each"
        )
    seeds = None if command.seeds is None else parse_seeds(command.seeds)
    return plan_family(recipe, folder, sizes, tokens, seeds)


def _recipe(command: ScaleConfig) -> "RecipeConfig":
    from parakit.recipe.builder import load_recipe, recipe_for_text

    overrides = dict(map(parse_setting, command.set))
    if command.text:
        return recipe_for_text(command.text, overrides)
    assert command.recipe is not None
    return load_recipe(command.recipe, overrides)


def _run_of(text: str) -> tuple[float, float]:
    size, colon, tokens = text.partition(":")
    if not colon:
        raise UserError(
            f"--predict {text!r} is not SIZE:COUNT", "write parameters:tokens, for example 5m:100m"
        )
    return _count(size, "--predict"), _count(tokens, "--predict")


def _count(text: str, flag: str) -> int:
    from parakit.model.presets import parse_size

    try:
        return parse_size(text)
    except UserError:
        raise UserError(
            f"{flag}: {text!r} is no count", "write a number with k, m or b, for example 2m"
        ) from None


def _show(report: "LawReport") -> None:
    from parakit.reports.sweeps.law import tables

    console = Console(stderr=True)
    for title, heading, rows in tables(report):
        table = Table(box=None, pad_edge=False, title=safe(title), title_justify="left")
        for number, cell in enumerate(heading):
            table.add_column(safe(cell), justify="left" if number == 0 else "right")
        for row in rows:
            table.add_row(*map(safe, row))
        console.print(table)
