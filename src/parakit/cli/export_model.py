"""`parakit export`: write a model as a plain Hugging Face folder."""

import json
import re
from typing import Annotated

import tyro
from pydantic import Field

from parakit.cli.import_model import StoredDtype
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.show_details import describe, one_line
from parakit.common.errors import UserError
from parakit.common.settings import Config
from parakit.recipe.build_folder import resolve_model_folder


class ExportCommandConfig(Config):
    """Export a model as a plain Hugging Face folder, which transformers loads."""

    model: tyro.conf.Positional[str] = Field(description="A model folder, or the folder of a build.")
    output: str = Field(description="The folder to write.")
    dtype: Annotated[StoredDtype | None, tyro.conf.arg(metavar="DTYPE")] = Field(
        default=None, description="Store weights as float32, bfloat16 or float16. Default: unchanged."
    )
    max_shard_size: str = Field(
        default="5GB",
        description="Size limit of a weights file, for example "
        "500MB; larger weights are split, with an index.",
    )
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit export` with these arguments; 0 when the folder was written."""
    command = parse_command(ExportCommandConfig, argv, "parakit export")
    from parakit.checkpoints.import_export import export_model

    model = resolve_model_folder(command.model)
    written = export_model(
        model,
        command.output,
        dtype=command.dtype,
        max_shard_bytes=parse_bytes(command.max_shard_size),
    )
    if command.dtype:
        from parakit.compression.rounding_check import measure_rounding

        measure_rounding(model, written, command.dtype)
    description = describe(written)
    print(json.dumps(description, ensure_ascii=False) if command.as_json else one_line(description))
    return 0


def parse_bytes(size: str) -> int:
    """`"500MB"` -> 500,000,000; decimal units. `UserError` for anything else."""
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([kmgt]?)b?\s*", size.lower())
    n_bytes = int(float(match[1]) * 1000 ** " kmgt".index(match[2] or " ")) if match else 0
    if n_bytes < 1:
        raise UserError(f"{size!r} is not a file size", "write a number with kB, MB or GB, for example 500MB")
    return n_bytes
