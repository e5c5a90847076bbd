"""`parakit import`: turn a published model, from a folder, a GGUF file or the hub, into a model folder with lineage."""

import json
import os
from typing import Annotated, Literal

import tyro
from pydantic import Field

from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.show_details import describe, one_line
from parakit.common.artifacts import open_artifact
from parakit.common.progress import log
from parakit.common.settings import Config

StoredDtype = Literal["float32", "bfloat16", "float16", "float64"]


class ImportCommandConfig(Config):
    """Import a published model: check every tensor and write a model folder with lineage. No code of the model runs."""

    source: tyro.conf.Positional[str] = Field(
        description="A model folder, a GGUF file, or a model to download from "
        "the Hugging Face hub, such as org/model or hub:org/model."
    )
    output: str = Field(description="The model folder to write.")
    revision: str | None = Field(default=None, description="A branch, tag or commit on the hub.")
    dtype: Annotated[StoredDtype | None, tyro.conf.arg(metavar="DTYPE")] = Field(
        default=None,
        description="Store weights as float32, bfloat16 or float16. Default: unchanged; float32 from GGUF.",
    )
    accept_config: tuple[str, ...] = Field(
        default=(),
        description="Keys of config.json that Parakit does not know and that you know to be "
        "without effect on the model; recorded in the lineage.",
    )
    overwrite: bool = Field(default=False, description="Replace an existing output folder.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit import` with these arguments; 0 when the model was written."""
    command = parse_command(ImportCommandConfig, argv, "parakit import")
    from parakit.checkpoints.import_export import import_model

    written = import_model(
        command.source,
        command.output,
        revision=command.revision,
        dtype=command.dtype,
        overwrite=command.overwrite,
        accept_config=command.accept_config,
    )
    result = open_artifact(written, verify=False).lineage["result"]
    if dropped := result.get("dropped_metadata"):
        log(f"metadata of the GGUF file that the folder does not keep: {', '.join(dropped)}")
    for note in result.get("notes", ()):
        log(note)
    if command.dtype and os.path.isdir(command.source):
        from parakit.compression.rounding_check import measure_rounding

        measure_rounding(command.source, written, command.dtype)
    description = describe(written, verify=False)
    print(json.dumps(description, ensure_ascii=False) if command.as_json else one_line(description))
    return 0
