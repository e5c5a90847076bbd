"""`parakit inspect lens`: what a model would predict if it stopped after each layer; and training of a tuned lens."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import Field

from parakit.cli.inspecting.options import InspectTextConfig, new_page, opened_model, present, text_of
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import OVERWRITES, Needs, refuse_inert
from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.inspection.config import TunedLensConfig

if TYPE_CHECKING:
    from rich.console import Console

    from parakit.inspection.lenses.logit_lens import Lens

COLUMN = 15  # letters of a column of the table


class InspectLensCommandConfig(TunedLensConfig, InspectTextConfig):
    """The logit lens or the tuned lens of a text, or training of a tuned lens on texts."""

    n_candidates: int = Field(default=5, ge=1, description="Candidates of each layer and position.")
    tuned: str | None = Field(default=None, description="The folder of a tuned lens of this model.")
    train_on: Annotated[tuple[str, ...], tyro.conf.arg(metavar="PATH ...")] = Field(
        default=(), description="Train a tuned lens on these text files or folders; --output is its folder."
    )
    output: str | None = Field(
        default=None, description="A page (.html) to write; with --train-on, the folder of the tuned lens."
    )
    overwrite: bool = Field(default=False, description="Replace an existing page or folder.")


_TRAINING = tuple(TunedLensConfig.model_fields)
_NEEDS = (
    OVERWRITES,
    Needs(_TRAINING, lambda command: command.train_on, "nothing is trained", "name texts with --train-on"),
    Needs(
        ("text", "target", "tuned", "n_candidates"),
        lambda command: not command.train_on,
        "a tuned lens is trained",
        "leave --train-on out",
    ),
)


def main(argv: list[str]) -> int:
    """Run `parakit inspect lens` with these arguments."""
    command = parse_command(InspectLensCommandConfig, argv, "parakit inspect lens")
    refuse_inert(command, _NEEDS)
    if command.train_on:
        return _train(command)
    from parakit.inspection.inputs import encode_input
    from parakit.inspection.lenses.logit_lens import logit_lens
    from parakit.inspection.lenses.tuned_lens import load_tuned_lens
    from parakit.reports.inspection.predictions import lens_page

    page = new_page(command.output, command.overwrite)
    text = text_of(command)
    with opened_model(command) as model:
        translator = load_tuned_lens(command.tuned, model) if command.tuned else None
        given = encode_input(model, text, command.target)
        found = logit_lens(model, given, n_candidates=command.n_candidates, translator=translator)
        plain = logit_lens(model, given).mean_kl.tolist() if translator and page else None
    present(
        page,
        command.as_json,
        lambda: lens_page(found, command.model, plain),
        found.to_json,
        partial(_show, found),
    )
    return 0


def _train(command: InspectLensCommandConfig) -> int:
    """Train a tuned lens and print its KL by layer next to the logit lens'."""
    from rich.console import Console
    from rich.table import Table

    from parakit.inspection.lenses.logit_lens import place_names
    from parakit.inspection.lenses.tuned_lens import train_tuned_lens

    if command.output is None:
        raise UserError("a tuned lens is a folder, and none is named", "name one with --output FOLDER")
    config = TunedLensConfig(**{name: getattr(command, name) for name in _TRAINING})
    with opened_model(command) as model:
        lens = train_tuned_lens(
            model, command.train_on, command.output, config=config, overwrite=command.overwrite
        )
    log(f"{command.output}: the tuned lens")
    if command.as_json:
        print(json.dumps({"output": str(Path(command.output))} | lens.figures))
        return 0
    table = Table("layer", "logit lens", "tuned lens", title="KL to the output on held-out text, nats")
    before, after = lens.figures["kl_logit_lens"], lens.figures["kl_tuned_lens"]
    for row in zip(place_names(len(before)), before, after, strict=True):
        table.add_row(row[0], *(f"{value:.3f}" for value in row[1:]))
    Console().print(table)
    return 0


def _show(found: Lens, console: Console) -> None:
    """A table of places by positions: as many of the last positions as the console is wide."""
    from rich.table import Table

    from parakit.cli.rendering.safe_text import safe
    from parakit.reports.inspection.page import visible

    n_all = len(found.tokens)
    n = max(1, min(n_all, (console.width - 22) // (COLUMN + 3)))
    shown = range(n_all - n, n_all)
    table = Table(title="tuned lens" if found.tuned else "logit lens")
    table.add_column("layer", no_wrap=True)
    for t in shown:
        table.add_column(safe(visible(found.tokens[t])), no_wrap=True, max_width=COLUMN)
    table.add_column("KL", justify="right", no_wrap=True)
    for place in reversed(range(len(found.places))):
        cells = [
            f"{safe(visible(found.top_tokens[place][t][0]))} [dim]{found.top_probabilities[place, t, 0]:.0%}[/]"
            for t in shown
        ]
        table.add_row(found.places[place], *cells, f"{found.mean_kl[place]:.2f}")
    console.print(table)
    rest = "" if n == n_all else f"; positions {n_all - n + 1} to {n_all} of {n_all}"
    console.print(
        f"KL: mean over the positions of KL(output || layer), nats{rest}; --output PAGE.html and --json have all",
        highlight=False,
    )
