"""`parakit merge`: an adapter into its base, several models of one shape into one, or the checkpoints of a run."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from pydantic import Field

from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.show_details import describe, one_line
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import log
from parakit.common.settings import Config

if TYPE_CHECKING:
    from parakit.compression.merging.models import ModelMerge

_OF_ADAPTERS = ("dtype", "max_rounding_loss", "text", "prompts", "max_logit_difference")
_OF_MODELS = ("method", "weights", "t", "density", "scale", "elect_signs", "seed")
_OF_RUNS = ("checkpoints", "tokenizer")


class MergeCommandConfig(Config):
    """Merge an adapter into its base; or several models of one shape by a method; or the last checkpoints of a run into
    their mean. An adapter is not merged if rounding would lose too much of its update, or if the merged model's logits
    differ from the adapter's.
    """

    sources: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER ...")] = Field(
        description="An adapter's folder, two or more model folders, or with --checkpoints the folder of a run."
    )
    output: str = Field(description="The model folder to write.")
    base: str | None = Field(
        default=None,
        description="Folder of the adapter's base, if it has moved; or the model from which all models were tuned.",
    )
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
    method: Annotated[
        Literal["linear", "slerp", "task_arithmetic", "ties", "dare"], tyro.conf.arg(metavar="METHOD")
    ] = Field(
        default="linear",
        description="How models are merged: linear (their mean), slerp, task_arithmetic, ties, dare.",
    )
    weights: tuple[float, ...] = Field(default=(), description="Weights of the models. Default: equal.")
    t: float | None = Field(default=None, description="slerp: position between the two models. Default: 0.5.")
    density: float | None = Field(
        default=None,
        description="ties, dare: share of what each model changed that stays. Default: 0.2 and 0.5.",
    )
    scale: float | None = Field(
        default=None,
        description="task_arithmetic, ties, dare: factor of the merged change. Default: 1.",
    )
    elect_signs: bool = Field(default=False, description="dare: elect signs as ties does.")
    seed: int | None = Field(default=None, description="dare: seed of what is dropped. Default: 0.")
    checkpoints: str | None = Field(default=None, description="Average checkpoints of a run: last:5, or all.")
    tokenizer: str | None = Field(
        default=None,
        description="With --checkpoints: folder of the tokenizer, where the checkpoints hold none.",
    )
    overwrite: bool = Field(default=False, description="Replace an existing output folder.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit merge` with these arguments; 0 when a model was written."""
    command = parse_command(MergeCommandConfig, argv, "parakit merge")
    if command.checkpoints is not None or command.tokenizer is not None:
        compared = _merge_checkpoints(command)
    elif len(command.sources) == 1 and not _set_flags(command, _OF_MODELS):
        compared = _merge_adapter(command)
    else:
        compared = _merge_models(command)
    description = describe(command.output, verify=False) | compared
    print(json.dumps(description, ensure_ascii=False) if command.as_json else one_line(description))
    return 0


def _set_flags(command: MergeCommandConfig, names: tuple[str, ...]) -> list[str]:
    """Those of `names` that differ from their default."""
    fields = type(command).model_fields
    return [name for name in names if getattr(command, name) != fields[name].default]


def _refuse(command: MergeCommandConfig, names: tuple[str, ...], what: str) -> None:
    for name in _set_flags(command, names):
        raise UserError(f"--{name.replace('_', '-')} is not for {what}", "remove it")


def _merge_adapter(command: MergeCommandConfig) -> JsonObject:
    """Merge, and report what it changed; the difference of logits is returned too."""
    from parakit.compression.merge_check import merge_prompts
    from parakit.compression.merging.adapters import merge_adapter_folder
    from parakit.reports.formatting import logit_difference

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


def _merge_models(command: MergeCommandConfig) -> JsonObject:
    from parakit.compression.merging.config import METHODS
    from parakit.compression.merging.models import merge_models
    from parakit.recipe.build_folder import resolve_model_folder

    _refuse(command, _OF_ADAPTERS, "merging models: it is for an adapter")
    method_class = METHODS[command.method]
    settings: dict[str, Any] = {name: getattr(command, name) for name in _set_flags(command, _OF_MODELS)}
    method = method_class.parse(settings | {"method": command.method}, f"--method {command.method}", True)
    merged = merge_models(
        [resolve_model_folder(source) for source in command.sources],
        command.output,
        method,
        base=None if command.base is None else resolve_model_folder(command.base),
        overwrite=command.overwrite,
    )
    return _report(merged)


def _merge_checkpoints(command: MergeCommandConfig) -> JsonObject:
    from parakit.compression.merging.run_checkpoints import merge_checkpoints

    _refuse(command, (*_OF_ADAPTERS, *_OF_MODELS, "base"), "averaging checkpoints")
    if len(command.sources) != 1:
        raise UserError(f"--checkpoints with {len(command.sources)} folders", "name the folder of one run")
    merged = merge_checkpoints(
        command.sources[0],
        command.output,
        command.checkpoints or "all",
        tokenizer=command.tokenizer,
        overwrite=command.overwrite,
    )
    return _report(merged)


def _report(merged: "ModelMerge") -> JsonObject:
    """The loss on general text before and after, printed and returned."""
    if merged.source_losses is None or merged.loss is None:
        return {}
    before = ", ".join(f"{loss:.3f}" for loss in merged.source_losses)
    log(f"merge: loss on general text {merged.loss:.3f} nats a token; of its sources {before}")
    if merged.loss > max(merged.source_losses):
        log("warning: the merged model is worse than each of its sources: they may not fit together")
    return {"general_loss": {"sources": list(merged.source_losses), "merged": merged.loss}}
