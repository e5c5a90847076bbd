"""The first stage of a recipe that begins with a trained model: its import, with the checks of what the recipe wants of it.

A folder is checked before any work, by its settings and its tokenizer's files; a GGUF file or a model of the hub after
its import, which is removed again where it does not fit.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from parakit.checkpoints.adapters import require_full_model
from parakit.checkpoints.folder_safety import is_model_folder, require_model_folder
from parakit.checkpoints.import_export import import_model
from parakit.checkpoints.mapping import HeadKind
from parakit.checkpoints.model_folder import read_settings
from parakit.common.artifacts import open_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import log
from parakit.common.settings import Family
from parakit.recipe.build_folder import resolve_model_folder
from parakit.recipe.config import RecipeConfig
from parakit.recipe.graph import Stage
from parakit.recipe.start_config import HUB, START, StartConfig
from parakit.stages.run_dir import folder_fingerprint
from parakit.tokens.tokenizer.extension import extend_tokenizer
from parakit.tokens.tokenizer.files import TokenizerFiles, has_tokenizer
from parakit.tokens.tokenizer.tokenizer import Tokenizer

_PRETRAINING_HEADS: dict[Family, HeadKind] = {
    "decoder": "language_model",
    "encoder": "masked_language_model",
    "encoder-decoder": "sequence_to_sequence",
}


def start_stage(recipe: RecipeConfig) -> Stage:
    """The import of the model that the recipe begins with."""
    start = recipe.start
    assert start is not None
    template = Path(start.chat_template) if start.chat_template else None
    settings: JsonObject = {"model": start.model, "revision": start.revision}
    settings["accept_config"] = list(start.accept_config)
    if not start.is_hub:
        settings["read"] = _fingerprint(local_source(start))
    if template is not None and template.is_file():
        settings["chat_template"] = template.read_text(encoding="utf-8")

    def run(out: Path) -> None:
        source = start.model if start.is_hub else str(local_source(start))
        import_model(
            _allowed(start, source),
            out,
            revision=start.revision,
            overwrite=True,
            accept_config=start.accept_config,
            chat_template=settings.get("chat_template"),
        )
        try:
            check_model(recipe, out)
        except BaseException:
            shutil.rmtree(out)
            raise
        for note in open_artifact(out, verify=False).lineage["result"].get("notes", ()):
            log(f"start: {note}")

    return Stage(START, settings, (), run)


def check_start_source(recipe: RecipeConfig) -> None:
    """`UserError` before any work for a start that is not there, or, where it is a folder, does not fit the recipe."""
    start = recipe.start
    if start is None:
        return
    if start.chat_template and not Path(start.chat_template).is_file():
        raise UserError(f"{start.chat_template}: no such file", "check start.chat_template")
    if start.is_hub:
        return
    source = local_source(start)
    if not source.exists():
        raise UserError(
            f"{source}: no such model to start from",
            f"check the path; a model of the hub is written {HUB}ORGANISATION/MODEL",
        )
    if source.is_dir():
        require_full_model(source, "a recipe")
        check_model(recipe, require_model_folder(source), start.accept_config)


def check_model(recipe: RecipeConfig, folder: Path, accept_config: Sequence[str] = ()) -> None:
    """`UserError` where the model folder does not fit what the recipe does with it."""
    _, config, head = read_settings(folder, accept_config)
    family = config.family
    if family != recipe.family:
        raise UserError(
            f"{folder}: is of the family {family!r}, and the recipe's family is {recipe.family!r}",
            f"set family: {family}",
        )
    if not has_tokenizer(folder):
        raise UserError(
            f"{folder}: has no tokenizer, so it cannot read text", "put the model's tokenizer files there"
        )
    if recipe.pretrain != "none" and head.kind != _PRETRAINING_HEADS[family]:
        raise UserError(
            f"{folder}: is a model with the head {head.kind}, and pre-training on `text` needs one with the head"
            f" {_PRETRAINING_HEADS[family]}",
            "leave out text, or start from the model that it was tuned from",
        )
    _check_extension(recipe, folder)
    _check_template(recipe, folder)


def local_source(start: StartConfig) -> Path:
    """The folder or file that a path names; a build's folder stands for its last model."""
    return resolve_model_folder(Path(start.model).expanduser())


def family_of_start(start: StartConfig) -> Family | None:
    """The family of a model folder; None where it is not known before the import."""
    source = local_source(start)
    if start.is_hub or not is_model_folder(source):
        return None
    return read_settings(source, start.accept_config)[1].family


def _check_extension(recipe: RecipeConfig, folder: Path) -> None:
    """Whether the tokenizer takes new tokens, and those of a list."""
    new = recipe.start.new_tokens() if recipe.start else None
    if new is not None:
        listed = 1 if isinstance(new, int) else new
        extend_tokenizer(Tokenizer.load(folder), ["a"], listed)


def _check_template(recipe: RecipeConfig, folder: Path) -> None:
    start = recipe.start
    assert start is not None
    if start.chat_template or not (recipe.conversations or recipe.align):
        return
    if TokenizerFiles.read(folder).chat_template is None:
        needs = "conversations" if recipe.conversations else "alignment"
        raise UserError(
            f"{folder}: has no chat template, and {needs} need one: it says how a turn begins and ends",
            "name a file with one under start.chat_template (docs/start.md has an example), or start from the"
            " publisher's instruct or chat model",
        )


def _allowed(start: StartConfig, source: str) -> str:
    if start.is_hub and not start.fetch:
        raise UserError(
            f"{source}: is a model of the hub, and nothing is downloaded unasked",
            "allow it with start.fetch: true (--fetch), or import it first: parakit import"
            f" {source} --output FOLDER, and start from that folder",
        )
    return source


def _fingerprint(source: Path) -> object:
    if source.is_dir():
        return folder_fingerprint(source)
    return [source.stat().st_size, source.stat().st_mtime_ns] if source.is_file() else None
