"""`parakit inspect neurons`: the neurons that decide a pair, or those that are most active in a text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import Field
from rich.console import Console
from rich.table import Table
from rich.text import Text

from parakit.cli.inspecting.heads import (
    counted,
    pair_of,
    pair_summary,
    read_lines,
    show_value,
)
from parakit.cli.inspecting.options import InspectConfig, opened_model
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import Needs, refuse_inert
from parakit.common.errors import UserError
from parakit.inspection.names import AblationMethod


class InspectNeuronsCommandConfig(InspectConfig):
    """The neurons of a model: with --pair those whose ablation changes its answer most, with --text the most active ones."""

    text: str | None = Field(
        default=None, description="A text: which neurons rise most above their mean, and where."
    )
    target: str | None = Field(default=None, description="With --text, of an encoder-decoder: the target.")
    layer: int | None = Field(default=None, ge=0, description="With --text: only this layer.")
    pair: tuple[str, ...] = Field(
        default=(),
        description="Two texts of which the first is right: the neurons whose ablation changes their log-probability ratio.",
    )
    source: str | None = Field(
        default=None,
        description="With --pair, of an encoder-decoder: the source, whose targets the pair are.",
    )
    method: AblationMethod = Field(
        default="zero", description="With --pair: what takes a neuron's place, zero or its mean."
    )
    reference: str | None = Field(
        default=None,
        description="With --method mean: a file of texts, one a line, for the mean. Default: the pair itself.",
    )
    n: int = Field(default=20, ge=1, description="How many neurons to list.")


_NEEDS = (
    Needs(("source", "method"), lambda command: command.pair, "there is no pair", "add --pair A B"),
    Needs(
        ("reference",),
        lambda command: command.pair and command.method == "mean",
        "no mean is taken",
        "add --pair A B --method mean",
    ),
    Needs(
        ("layer", "target"), lambda command: command.text is not None, "there is no text", 'add --text "..."'
    ),
)


def main(argv: list[str]) -> int:
    """Run `parakit inspect neurons` with these arguments."""
    command = parse_command(InspectNeuronsCommandConfig, argv, "parakit inspect neurons")
    refuse_inert(command, _NEEDS)
    if bool(command.pair) == (command.text is not None):
        raise UserError("give one of --text and --pair", '--text "..." or --pair "right" "wrong"')
    if command.pair and len(command.pair) != 2:
        raise UserError(f"--pair has {len(command.pair)} texts", 'give two: --pair "right" "wrong"')
    (_pair if command.pair else _active)(command)
    return 0


def _pair(command: InspectNeuronsCommandConfig) -> None:
    reference = read_lines(command.reference)
    from parakit.inspection.neurons import expert_of, neuron_effects

    with opened_model(command) as model:
        pair = pair_of(model, command.pair, command.source)
        summary = pair_summary(model, pair)
        found = counted(
            "ablating neurons",
            command.n,
            lambda update: neuron_effects(
                model, pair, n=command.n, method=command.method, reference=reference, on_progress=update
            ),
        )
        experts = [expert_of(model.network, one.unit) for one in found]
    rows = [
        {
            "site": one.unit.site,
            **_number(one.unit.index, expert),
            "effect": one.effect,
            "estimate": one.estimate,
        }
        for one, expert in zip(found, experts, strict=True)
    ]
    if command.as_json:
        print(json.dumps(summary | {"neurons": rows}, ensure_ascii=False))
        return
    show_value(summary)
    table = Table("layer", "neuron", "effect of ablating it", "estimate", box=None)
    for row in rows:
        site, effects = str(row["site"]).removesuffix(".neurons"), (row["effect"], row["estimate"])
        table.add_row(site, _shown(row), *(f"{value:+.4f}" for value in effects))
    Console().print(table)


def _active(command: InspectNeuronsCommandConfig) -> None:
    from parakit.cli.inspecting.heat_map import label
    from parakit.inspection.inputs import encode_input
    from parakit.inspection.neurons import active_neurons, expert_of

    assert command.text is not None
    with opened_model(command) as model:
        given = encode_input(model, command.text, command.target)
        found = active_neurons(model, given, layer=command.layer, n=command.n)
        experts = [expert_of(model.network, one.unit) for one in found]
    rows = [
        {
            "site": one.unit.site,
            **_number(one.unit.index, expert),
            "position": one.position,
            "token": given.shown("encoder." if one.unit.site.startswith("encoder.") else "")[one.position],
            "activation": one.activation,
            "mean": one.mean,
        }
        for one, expert in zip(found, experts, strict=True)
    ]
    if command.as_json:
        print(json.dumps({"tokens": given.tokens, "neurons": rows}, ensure_ascii=False))
        return
    table = Table("layer", "neuron", "token", "activation", "its mean in the text", box=None)
    for row in rows:
        token = Text(f"{row['position']} {label(str(row['token']))}")
        values = (f"{row[name]:+.3f}" for name in ("activation", "mean"))
        table.add_row(str(row["site"]).removesuffix(".neurons"), _shown(row), token, *values)
    Console().print(table)


def _number(index: int, expert: tuple[int, int] | None) -> dict[str, int]:
    return {"neuron": index} if expert is None else {"expert": expert[0], "neuron": expert[1]}


def _shown(row: Mapping[str, Any]) -> str:
    return f"{row['neuron']} of expert {row['expert']}" if "expert" in row else str(row["neuron"])
