"""`parakit export`: a model folder as plain Hugging Face files, for transformers, vLLM, SGLang or llama.cpp."""

import json
from typing import Annotated

import tyro
from pydantic import Field

from parakit.cli.import_model import StoredDtype
from parakit.cli.rendering.show_details import describe, one_line
from parakit.common.settings import Config

SUMMARY = "Write a model as a plain Hugging Face folder."


class ExportCommandConfig(Config):
    """Write a model as a plain Hugging Face folder, for transformers, vLLM, SGLang or llama.cpp to load."""

    model: tyro.conf.Positional[str] = Field(description="A model folder, or the folder of a build.")
    output: str = Field(description="The folder to write.")
    dtype: Annotated[StoredDtype | None, tyro.conf.arg(metavar="DTYPE")] = Field(
        default=None, description="Keep weights as float32, bfloat16, float16; none: as they are stored."
    )
    max_shard_size: str = Field(
        default="5GB",
        description="Weights beyond this are cut into several files with an index, such as 500MB.",
    )
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(default=False, description="Print JSON.")


def main(argv: list[str]) -> int:
    """Run `parakit export` with these arguments; 0 when the folder was written."""
    command = tyro.cli(
        ExportCommandConfig, args=argv, prog="parakit export", config=(tyro.conf.FlagCreatePairsOff,)
    )
    from parakit.checkpoints.import_export import export_model
    from parakit.cli.rendering.model_loading import model_folder, parse_bytes

    written = export_model(
        model_folder(command.model),
        command.output,
        dtype=command.dtype,
        max_shard_bytes=parse_bytes(command.max_shard_size),
    )
    found = describe(written)
    print(json.dumps(found, ensure_ascii=False) if command.as_json else one_line(found))
    return 0
