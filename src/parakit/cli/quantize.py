"""`parakit quantize`: int8 or int4 weights, with what that costs measured before anything is written."""

import json
from typing import Annotated, Literal

import tyro
from pydantic import Field
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from parakit.cli.rendering.arguments import parse_arguments
from parakit.cli.rendering.conditions import Needs, refuse_inert
from parakit.common.files import JsonObject
from parakit.common.progress import log
from parakit.common.settings import Config
from parakit.compression.quantization.config import QuantizeConfig

N_SHOWN = 8  # matrices that matter most


class QuantizeCommandConfig(Config):
    """Quantize a model's weights, and measure size, speed, KL to the original, perplexity and suites. Nothing is written
    where a suite falls by more than a point, unless with --accept-loss.
    """

    model: tyro.conf.Positional[str] = Field(description="A model folder, or the folder of a build.")
    output: str = Field(description="The model folder to write.")
    suites: Literal["recorded", "primer", "none"] = Field(
        default="recorded",
        description="Suites that are run before and after: those of the build that the model is in, the primer's, or none.",
    )
    n_suite_items: int = Field(default=250, ge=8, description="Questions per suite of the primer.")
    suite_seed: int = Field(default=0, description="Seed of these questions.")
    overwrite: bool = Field(default=False, description="Replace an existing output folder.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the figures as one JSON object."
    )


_NEEDS = (
    Needs(
        ("n_suite_items", "suite_seed"),
        lambda command: command.suites == "primer",
        "the suites of the build have their own",
        "choose --suites primer",
    ),
)


def main(argv: list[str]) -> int:
    """Run `parakit quantize` with these arguments; 0 when a model was written, 1 when it lost too much."""
    command, config = parse_arguments(QuantizeCommandConfig, QuantizeConfig, argv, "parakit quantize")
    refuse_inert(command, _NEEDS)
    import parakit
    from parakit.compression.quantization.quantize import QualityLoss

    primer = {"n_suite_items": command.n_suite_items, "seed": command.suite_seed}
    try:
        figures = parakit.quantize(
            command.model,
            out=command.output,
            suites=primer if command.suites == "primer" else command.suites,
            overwrite=command.overwrite,
            config=config,
        )
    except QualityLoss as loss:
        _show(loss.figures, command)
        log(f"error: {loss}")
        log("  give more bits or calibration, keep the layers that matter plain, or pass --accept-loss")
        return 1
    _show(figures["quantization"], command)
    return 0


def _show(figures: JsonObject, command: QuantizeCommandConfig) -> None:
    """The figures as tables, or as JSON."""
    from parakit.reports.quantization import quantization_notes, quantization_rows, sensitivity_rows

    if command.as_json:
        print(json.dumps(figures, ensure_ascii=False))
        return
    console = Console()
    table = Table("", "original", "quantized", title=escape(command.model))
    for row in quantization_rows(figures):
        table.add_row(*map(escape, row))
    console.print(table)
    for note in quantization_notes(figures):
        console.print(escape(note), soft_wrap=True)
    if rows := sensitivity_rows(figures):
        table = Table("matrix", "bits", "a scale for", "KL alone", "taken", title="what matters most")
        for one in rows[:N_SHOWN]:
            group = one["quant_group_size"]
            inputs = f"{group} weights" if group else "a row"
            taken = "yes" if one["chosen"] else ""
            table.add_row(escape(one["name"]), str(one["bits"]), inputs, f"{one['kl']:.2e}", taken)
        console.print(table)
