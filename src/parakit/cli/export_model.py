"""`parakit export`: write a model as a plain Hugging Face folder, or as one GGUF file."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import Field

from parakit.cli.import_model import StoredDtype
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.show_details import describe, one_line
from parakit.common.byte_counts import parse_bytes
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import log
from parakit.common.settings import Config
from parakit.recipe.build_folder import resolve_model_folder

_OF_GGUF = ("type", "base", "name", "text_file", "accept_loss", "overwrite")
_OF_FOLDERS = ("dtype", "max_shard_size", "evaluation")


class ExportCommandConfig(Config):
    """Export a model as a plain Hugging Face folder, which transformers loads, or as one GGUF file, which llama.cpp and
    Ollama load. A GGUF file is read again and compared with the model; one that differs is not kept.
    """

    model: tyro.conf.Positional[str] = Field(
        description="A model folder, or the folder of a build; for GGUF also that of an adapter, which is merged."
    )
    output: str = Field(description="The folder to write, or with --format gguf the file, NAME.gguf.")
    format: Annotated[Literal["folder", "gguf"], tyro.conf.arg(metavar="FORMAT")] = Field(
        default="folder", description="folder, or gguf: one file with tokenizer and chat template."
    )
    dtype: Annotated[StoredDtype | None, tyro.conf.arg(metavar="DTYPE")] = Field(
        default=None, description="Store weights as float32, bfloat16 or float16. Default: unchanged."
    )
    max_shard_size: str = Field(
        default="5GB",
        description="Size limit of a weights file, for example "
        "500MB; larger weights are split, with an index.",
    )
    evaluation: tuple[str, ...] = Field(
        default=(), description="Evaluation folders of this model, whose scores go into the model card."
    )
    type: Annotated[
        Literal["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M"], tyro.conf.arg(metavar="TYPE")
    ] = Field(default="Q8_0", description="GGUF: weights as F32, F16, BF16, Q8_0, Q4_0 or Q4_K_M.")
    base: str | None = Field(default=None, description="GGUF: folder of an adapter's base, if it has moved.")
    name: str | None = Field(
        default=None, description="GGUF: the model's name in the file. Default: the folder's."
    )
    text_file: str | None = Field(
        default=None, description="GGUF: text on which logits are compared, before the built-in texts."
    )
    accept_loss: bool = Field(
        default=False, description="GGUF: keep a file whose quantization changes the model more than usual."
    )
    overwrite: bool = Field(default=False, description="GGUF: replace an existing file.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit export` with these arguments; 0 when the folder or the file was written."""
    command = parse_command(ExportCommandConfig, argv, "parakit export")
    _check_flags(command)
    model = resolve_model_folder(command.model)
    description = _gguf(command, model) if command.format == "gguf" else _folder(command, model)
    print(json.dumps(description, ensure_ascii=False) if command.as_json else one_line(description))
    return 0


def _check_flags(command: ExportCommandConfig) -> None:
    """`UserError` for a flag of the other format."""
    others, wanted = (_OF_FOLDERS, "folder") if command.format == "gguf" else (_OF_GGUF, "gguf")
    for name in others:
        if getattr(command, name) != type(command).model_fields[name].default:
            raise UserError(
                f"--{name.replace('_', '-')} is for --format {wanted}, and the format is {command.format}",
                f"remove it, or pass --format {wanted}",
            )


def _folder(command: ExportCommandConfig, model: Path) -> JsonObject:
    from parakit.checkpoints.import_export import export_model
    from parakit.reports.cards.score_card import card_with_evaluations

    of_build = Path(command.model) / "README.md"  # with the scores of the build's evaluation
    card = of_build if model != Path(command.model) and of_build.is_file() else None
    text = card.read_text(encoding="utf-8") if card else None
    written = export_model(
        model,
        command.output,
        dtype=command.dtype,
        max_shard_bytes=parse_bytes(command.max_shard_size, "max_shard_size"),
        card=card_with_evaluations(model, command.evaluation, card) if command.evaluation else text,
    )
    if command.dtype:
        from parakit.compression.rounding_check import measure_rounding

        measure_rounding(model, written, command.dtype)
    return describe(written)


def _gguf(command: ExportCommandConfig, model: Path) -> JsonObject:
    """Export, and report how the file compares with the model."""
    from parakit.compression.gguf_export import export_gguf
    from parakit.compression.merge_check import read_text

    written = export_gguf(
        model,
        command.output,
        command.type,
        base=command.base,
        name=command.name,
        texts=() if command.text_file is None else (read_text(command.text_file),),
        accept_loss=command.accept_loss,
        overwrite=command.overwrite,
    )
    found = written.comparison
    log(
        f"{command.type}, read again: largest difference {found.largest_difference:.2g}, top token equal on "
        f"{found.n_equal:,} of {found.n_compared:,} positions, KL {found.kl:.2g} nats a token"
    )
    if found.n_conversations:
        log(f"chat template: equal ids in {found.n_conversations} conversations")
    for note in written.notes:
        log(f"note: {note}")
    return {
        "path": str(written.file),
        "kind": "gguf",
        "what": f"a GGUF file of {written.n_bytes / 1e6:,.1f} MB ({written.file_type}), with {written.modelfile.name}",
        "type": written.file_type,
        "n_bytes": written.n_bytes,
        "quantization": written.quantization,
        "modelfile": str(written.modelfile),
        "comparison": asdict(found),
        "notes": list(written.notes),
    }
