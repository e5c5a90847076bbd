"""`parakit inspect experts`: which experts each token of a text goes to, and how evenly they are loaded."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from parakit.cli.inspecting.options import InspectTextConfig, new_page, opened_model, present, text_of
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import OVERWRITES, refuse_inert

if TYPE_CHECKING:
    from rich.console import Console

    from parakit.inspection.expert_routing import ExpertLayer


class InspectExpertsCommandConfig(InspectTextConfig):
    """The experts of each token of a text, layer by layer."""

    output: str | None = Field(default=None, description="A page (.html) to write.")
    overwrite: bool = Field(default=False, description="Replace an existing page.")


def main(argv: list[str]) -> int:
    """Run `parakit inspect experts` with these arguments."""
    command = parse_command(InspectExpertsCommandConfig, argv, "parakit inspect experts")
    refuse_inert(command, (OVERWRITES,))
    from parakit.inspection.expert_routing import expert_routing
    from parakit.reports.inspection.predictions import experts_page

    page = new_page(command.output, command.overwrite)
    text = text_of(command)
    with opened_model(command) as model:
        found = expert_routing(model, text, target=command.target)
    present(
        page,
        command.as_json,
        lambda: experts_page(found, command.model),
        lambda: {"layers": [layer.to_json() for layer in found]},
        partial(_show, found),
    )
    return 0


def _show(found: list[ExpertLayer], console: Console) -> None:
    from rich.table import Table

    from parakit.cli.rendering.safe_text import safe
    from parakit.reports.inspection.page import visible

    for tokens in dict.fromkeys(layer.tokens for layer in found):
        of_stack = [layer for layer in found if layer.tokens == tokens]
        table = Table("token", *(layer.name for layer in of_stack), title="experts, the likeliest first")
        for t, token in enumerate(tokens):
            table.add_row(safe(visible(token)), *(" ".join(map(str, layer.chosen[t])) for layer in of_stack))
        console.print(table)
    table = Table("layer", "balance", "load by expert")
    for layer in found:
        table.add_row(layer.name, f"{layer.balance:.2f}", "  ".join(f"{share:.0%}" for share in layer.load))
    console.print(table)
