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
    from parakit.recipe.sweeps.scaling import fit_builds

    folder, sweep = Path(command.output), None
    if command.recipe or command.text:
        sweep = _family(command, folder)
        if command.dry_run:
            sweep.check_folder()
            print(json.dumps(plan_rows(sweep), ensure_ascii=False) if command.as_json else plan_lines(sweep))
            return 0
    report, failed = fit_builds(folder, sweep, [Path(one) for one in command.runs], wanted, command.parallel)
    if command.as_json:
        print(json.dumps(report.to_dict(), ensure_ascii=False))
    else:
        _show(report)
    return 1 if failed else 0


def _family(command: ScaleConfig, folder: Path) -> "Sweep":
    """The runs: those given, those that fit into the time, or those that the folder already has."""
    from parakit.recipe.config import parse_time
    from parakit.recipe.sweeps.grid import parse_seeds
    from parakit.recipe.sweeps.scaling import chosen_family

    return chosen_family(
        _recipe(command),
        folder,
        command.sizes,
        tuple(_count(one, "--tokens") for one in command.tokens),
        None if command.time is None else parse_time(command.time),
        None if command.seeds is None else parse_seeds(command.seeds),
    )


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
