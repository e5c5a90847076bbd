"""`parakit merge`: merge an adapter into its base, or average several models of one config."""

import json
from dataclasses import asdict
from typing import Annotated, Literal

import tyro
from pydantic import Field

from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.show_details import describe, one_line
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import log
from parakit.common.settings import Config


class MergeCommandConfig(Config):
    """Merge an adapter into its base, or several models of one config into their weighted mean. Nothing is written if
    rounding would lose too much of the adapter's update, or if the merged model's logits differ from the adapter's.
    """

    sources: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER ...")] = Field(
        description="An adapter's folder, or two or more model folders."
    )
    output: str = Field(description="The model folder to write.")
    base: str | None = Field(default=None, description="Folder of the adapter's base, if it has moved.")
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], tyro.conf.arg(metavar="DTYPE")] = Field(
        default="float32", description="dtype of an adapter's merged weights: float32, bfloat16, float16."
    )
    max_rounding_loss: float = Field(
        default=0.02, ge=0, le=1, description="Fraction of an adapter's update that may be lost to rounding."
    )
    text: tuple[str, ...] = Field(
        default=(), description="Prompts on which an adapter's logits are compared. Default: built-in ones."
    )
    prompts: str | None = Field(default=None, description="Text file of such prompts, one a line.")
    max_logit_difference: float | None = Field(
        default=None,
        ge=0,
        description="Largest difference of logits between adapter and merged model, above which nothing is written."
        " Default: 0.001 in float32, 0.125 in float16, 1 in bfloat16.",
    )
    weights: tuple[float, ...] = Field(
        default=(), description="Weights of the models in the mean. Default: equal."
    )
    overwrite: bool = Field(default=False, description="Replace an existing output folder.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit merge` with these arguments; 0 when a model was written."""
    command = parse_command(MergeCommandConfig, argv, "parakit merge")
    compared: JsonObject = {}
    if len(command.sources) == 1:
        compared = _merge_adapter(command)
    else:
        _merge_models(command)
    description = describe(command.output, verify=False) | compared
    print(json.dumps(description, ensure_ascii=False) if command.as_json else one_line(description))
    return 0


def _merge_adapter(command: MergeCommandConfig) -> JsonObject:
    """Merge, and report what it changed; the difference of logits is returned too."""
    from parakit.compression.merge_check import merge_prompts
    from parakit.compression.merging import merge_adapter_folder
    from parakit.reports.formatting import logit_difference

    if command.weights:
        raise UserError("--weights is for averaging models, but an adapter was given", "remove it")
    merged = merge_adapter_folder(
        command.sources[0],
        command.output,
        base=command.base,
        dtype=command.dtype,
        max_rounding_loss=command.max_rounding_loss,
        prompts=merge_prompts(command.text, command.prompts) if command.text or command.prompts else (),
        max_logit_difference=command.max_logit_difference,
        overwrite=command.overwrite,
    )
    untied = "; embedding and output matrix were one and are now two" if merged.untied else ""
    log(
        f"merge: {merged.n_weights} weights changed; rounding lost {merged.rounding_loss:.2%} of the update{untied}"
    )
    found = merged.logit_difference
    if found is None:
        return {}
    log(f"merge: {logit_difference(found.largest, found.n_prompts)}")
    return {"logit_difference": asdict(found)}


def _merge_models(command: MergeCommandConfig) -> None:
    from parakit.compression.merging import merge_models
    from parakit.recipe.build_folder import resolve_model_folder

    for name in ("base", "dtype", "max_rounding_loss", "text", "prompts", "max_logit_difference"):
        if (
            name in command.model_fields_set
            and getattr(command, name) != type(command).model_fields[name].default
        ):
            raise UserError(
                f"--{name.replace('_', '-')} is for merging an adapter, but several models were given",
                "remove it",
            )
    merge_models(
        [resolve_model_folder(source) for source in command.sources],
        command.output,
        weights=command.weights or None,
        overwrite=command.overwrite,
    )
