"""`parakit inspect next`: the likeliest next tokens at every position, and what temperature and top-p make of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from parakit.cli.inspecting.options import InspectTextConfig, new_page, opened_model, present, text_of
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import OVERWRITES, refuse_inert

if TYPE_CHECKING:
    from rich.console import Console

    from parakit.inspection.next_tokens import NextTokens, SamplingTable

N_SHOWN = 5  # candidates of a row of the table


class InspectNextCommandConfig(InspectTextConfig):
    """The likeliest next tokens at every position of a text. An encoder fills each position in turn."""

    n_candidates: int = Field(default=10, ge=1, description="Candidates of each position.")
    position: int = Field(
        default=-1, description="The position whose sampling is shown, from 0; -1 is the last."
    )
    temperature: tuple[float, ...] = Field(
        default=(0.3, 0.7, 1.0, 1.5), description="Temperatures of the sampling table."
    )
    top_p: tuple[float, ...] = Field(
        default=(1.0, 0.9, 0.5), description="Nuclei of the sampling table: shares of the probability."
    )
    output: str | None = Field(default=None, description="A page (.html) to write.")
    overwrite: bool = Field(default=False, description="Replace an existing page.")


def main(argv: list[str]) -> int:
    """Run `parakit inspect next` with these arguments."""
    command = parse_command(InspectNextCommandConfig, argv, "parakit inspect next")
    refuse_inert(command, (OVERWRITES,))
    from parakit.inspection.inputs import encode_input
    from parakit.inspection.next_tokens import next_tokens, sampling_table
    from parakit.reports.inspection.predictions import next_page

    page = new_page(command.output, command.overwrite)
    text = text_of(command)
    with opened_model(command) as model:
        given = encode_input(model, text, command.target)
        found = next_tokens(model, given, n_candidates=command.n_candidates)
        table = sampling_table(
            model,
            given,
            position=command.position,
            temperatures=command.temperature,
            top_ps=command.top_p,
            n_candidates=command.n_candidates,
        )
    present(
        page,
        command.as_json,
        lambda: next_page(found, table, command.model),
        lambda: found.to_json() | {"sampling": table.to_json()},
        partial(_show, found, table),
    )
    return 0


def _show(found: NextTokens, sampling: SamplingTable, console: Console) -> None:
    from rich.table import Table

    from parakit.cli.rendering.safe_text import safe
    from parakit.reports.inspection.page import visible

    table = Table("masked" if found.masked else "behind", "comes", "p", "rank", "likeliest", "entropy")
    for t, token in enumerate(found.tokens):
        rank = int(found.actual_ranks[t])
        best = "  ".join(
            f"{safe(visible(one))} [dim]{p:.1%}[/]"
            for one, p in zip(
                found.top_tokens[t][:N_SHOWN], found.top_probabilities[t][:N_SHOWN].tolist(), strict=True
            )
        )
        actual = found.actual[t]
        values = (
            (safe(visible(actual)), f"{found.actual_probabilities[t]:.2%}", f"{rank:,}") if actual else ()
        )
        table.add_row(safe(visible(token)), *(values or ("", "", "")), best, f"{found.entropy[t]:.2f}")
    console.print(table)
    n = len(sampling.tokens[:N_SHOWN])
    heads = [safe(visible(token)) for token in sampling.tokens[:n]]
    where = f"at position {sampling.position}: {safe(visible(found.tokens[sampling.position]))}"
    table = Table("temperature", "top-p", *heads, "kept", "entropy", title=f"sampling {where}")
    table.caption = "kept: tokens that can be drawn; entropy in nats"
    for row, (temperature, top_p) in enumerate(sampling.settings):
        cells = [f"{p:.1%}" if p else "" for p in sampling.probabilities[row, :n].tolist()]
        n_kept = f"{int(sampling.n_kept[row]):,}"
        table.add_row(f"{temperature:g}", f"{top_p:g}", *cells, n_kept, f"{sampling.entropy[row]:.2f}")
    console.print(table)
