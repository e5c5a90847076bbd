"""`parakit inspect diff`: what differs between two checkpoints, or what an adapter changed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import Field

from parakit.cli.inspecting.options import new_page, present
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import OVERWRITES, Needs, refuse_inert
from parakit.common.settings import Config

if TYPE_CHECKING:
    from rich.console import Console

    from parakit.inspection.differences import CheckpointDifference


class InspectDiffCommandConfig(Config):
    """The difference of two checkpoints of one shape, by layer and matrix; of an adapter's folder, from its base."""

    first: tyro.conf.Positional[str] = Field(description="A model folder, or the folder of an adapter.")
    second: tyro.conf.Positional[str | None] = Field(
        default=None, description="A model folder to compare with. Default, of an adapter: its base."
    )
    n_matrices: int = Field(
        default=20, ge=1, description="Matrices that the table lists, the largest changes first."
    )
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON object."
    )
    output: str | None = Field(default=None, description="A page (.html) to write.")
    overwrite: bool = Field(default=False, description="Replace an existing page.")


_NEEDS = (
    OVERWRITES,
    Needs(
        ("n_matrices",),
        lambda command: not command.as_json and command.output is None,
        "the page and the JSON object list all matrices",
        "leave --json and --output out",
    ),
)


def main(argv: list[str]) -> int:
    """Run `parakit inspect diff` with these arguments."""
    command = parse_command(InspectDiffCommandConfig, argv, "parakit inspect diff")
    refuse_inert(command, _NEEDS)
    from parakit.inspection.differences import compare_checkpoints
    from parakit.recipe.build_folder import resolve_model_folder
    from parakit.reports.inspection.weights import diff_page

    page = new_page(command.output, command.overwrite)
    second = None if command.second is None else resolve_model_folder(command.second)
    found = compare_checkpoints(resolve_model_folder(command.first), second)
    show = partial(_show, found, command.n_matrices)
    present(page, command.as_json, lambda: diff_page(found), found.to_json, show)
    return 0


def _show(found: CheckpointDifference, n: int, console: Console) -> None:
    from rich.table import Table

    from parakit.cli.rendering.safe_text import safe

    console.print(safe(f"from {found.first} to {found.second}"), highlight=False, soft_wrap=True)
    table = Table("layer", "relative norm", "cosine", "parameters changed")
    for layer in found.layers:
        changed = f"{layer.n_changed:,} of {layer.n_parameters:,}"
        table.add_row(safe(layer.layer), f"{layer.relative_norm:.4g}", f"{layer.cosine:.6f}", changed)
    console.print(table)
    rows = sorted(found.matrices, key=lambda row: -row.relative_norm)[:n]
    title = f"the {len(rows)} largest changes of {len(found.matrices)}"
    caption = (
        "norm: relative; values: the largest singular values of the difference; rank: its effective rank"
    )
    table = Table(title=title, caption=caption)
    for heading in ("layer", "matrix", "norm", "cosine", "values", "rank"):
        table.add_column(heading, no_wrap=heading == "matrix", overflow="fold")
    for row in rows:
        values = " ".join(f"{value:.2g}" for value in row.singular_values[:3])
        numbers = (f"{row.relative_norm:.3g}", f"{row.cosine:.5f}", values, f"{row.effective_rank:.1f}")
        table.add_row(safe(row.layer.replace("outside the layers", "")), safe(row.matrix), *numbers)
    console.print(table)
