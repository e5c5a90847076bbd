"""Import a published folder as an artifact with lineage, and export an artifact as a plain Hugging Face folder.

Both load the model and save it again, so the result was checked tensor by tensor against its settings, its tokenizer is
one tokenizer.json, and no other file of the source is copied. Tensors keep their bytes unless another dtype is chosen.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from parakit.checkpoints.architectures import own_layout
from parakit.checkpoints.folder_safety import read_small_json, require_model_folder
from parakit.checkpoints.gguf.conversion import converted_gguf
from parakit.checkpoints.gguf.reader import is_gguf
from parakit.checkpoints.hub import CARD, data_files, fetch_model, hub_name, plain_folder
from parakit.checkpoints.import_notes import import_notes
from parakit.checkpoints.loading import load_model
from parakit.checkpoints.model_folder import (
    MAX_SHARD_BYTES,
    head_of,
    load_full_model,
    read_settings,
    save_model,
    unused_tensors,
)
from parakit.checkpoints.publisher import choose_architecture, publisher_of
from parakit.checkpoints.registry import architecture_for
from parakit.checkpoints.weights import require_finite_weights
from parakit.common.artifacts import LINEAGE, MANIFEST, Lineage, require_new_output
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, disk_errors, fsync_folder, sha256_file
from parakit.common.locks import output_lock, partial_folder
from parakit.tokens.importers.sample_check import check_sample

if TYPE_CHECKING:
    from parakit.tokens.tokenizer.tokenizer import Tokenizer


def import_model(
    source: str,
    output: str | Path,
    *,
    revision: str | None = None,
    dtype: str | None = None,
    overwrite: bool = False,
    accept_config: Sequence[str] = (),
    chat_template: str | None = None,
) -> Path:
    """Turn a published model, a folder, a GGUF file or the name of a model on the hub, into an artifact of kind "model".

    Its lineage records the source, the hub's commit or the quantization, and the sha256 of every file that was read.
    `accept_config`: keys of config.json (or of a GGUF file's metadata) that Parakit does not know and the user knows to be
    harmless; they are recorded in the lineage and left out of the result. Raises `UserError` naming what is not supported:
    code, pickles, unknown settings, tensors of another shape. `chat_template` replaces the model's own.
    """
    name = hub_name(source)
    if revision and name is None:
        what = "file" if os.path.isfile(source) else "folder"
        raise UserError(f"--revision {revision} is given, but {source} is a {what}", "remove it")
    require_new_output(output, overwrite=overwrite)
    config: JsonObject = {
        "stage": "import",
        "source": source if name is None else f"hub:{name}",
        "revision": revision,
        "dtype": dtype,
    }
    if name is None and is_gguf(source):
        with output_lock(output), converted_gguf(source, Path(output), accept_config) as converted:
            config |= {"quantization": converted.quantization, "accepted_config": converted.accepted}
            result: JsonObject = {"files": {Path(source).name: sha256_file(source)}, "about": converted.about}
            if converted.dropped:
                result["dropped_metadata"] = list(converted.dropped)
            lineage = Lineage("model", config, result=result)
            return _import_folder(
                converted.folder, source, output, lineage, overwrite, chat_template=chat_template
            )
    if name is None:
        folder = Path(source)
    else:
        folder, revision = (fetched := fetch_model(name, revision)).folder, fetched.revision
    require_model_folder(folder)
    with plain_folder(folder) as plain:
        files = {file: sha256_file(path) for file, path in data_files(plain).items()}
        parents: list[str | Path] = [folder] if (folder / LINEAGE).is_file() else []
        if parents:  # what Parakit made says whether it was tuned to chat
            recorded = read_small_json(folder / LINEAGE).get("config") or {}
            config |= {"chat": recorded["chat"]} if isinstance(recorded.get("chat"), bool) else {}
        lineage = Lineage("model", config | {"revision": revision}, parents, result={"files": files})
        return _import_folder(plain, source, output, lineage, overwrite, accept_config, chat_template)


def _import_folder(
    folder: Path,
    source: str,
    output: str | Path,
    lineage: Lineage,
    overwrite: bool,
    accept_config: Sequence[str] = (),
    chat_template: str | None = None,
) -> Path:
    """Load a Hugging Face folder, check it and save it as `output`; `source` is what messages call it."""
    model, tokenizer = load_full_model(folder, dtype=lineage.config["dtype"], accept_config=accept_config)
    check_sample(tokenizer, source)
    architecture, config, head = read_settings(folder, accept_config)
    lineage.result |= {"finite_weights": require_finite_weights(model, architecture, head, source)}
    if chat_template is not None:
        _set_chat_template(tokenizer, chat_template, source)
        lineage.config["chat_template"] = "given"
    hf_config = read_small_json(folder / "config.json")
    lineage.config = {
        "accepted_config": {key: hf_config[key] for key in accept_config},
        **lineage.config,
        "architecture": hf_config.get("model_type"),
    }
    unused = unused_tensors(folder, architecture, config)
    notes = import_notes(folder, data_files(folder), tokenizer, unused)
    lineage.result |= {"notes": notes} if notes else {}
    card = (folder / CARD).read_text("utf-8", "replace") if (folder / CARD).is_file() else None
    return save_model(model, tokenizer, output, lineage, overwrite, card=card)


def _set_chat_template(tokenizer: Tokenizer | None, chat_template: str, source: str) -> None:
    """Give the tokenizer another chat template, after a conversation was compiled through it."""
    if tokenizer is None:
        raise UserError(
            f"{source}: has no tokenizer, so it takes no chat template", "remove the chat template"
        )
    from parakit.tokens.chat.template import compile_chat

    tokenizer.chat_template, tokenizer.named_templates = chat_template, {}
    compile_chat(tokenizer, [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])


def export_model(
    model: str | Path,
    output: str | Path,
    *,
    dtype: str | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    card: str | None = None,
) -> Path:
    """Write a model folder as plain Hugging Face files, with its model card or `card`, without Parakit's lineage and
    manifest. `output` must not exist. `UserError` for a model that no published architecture computes.
    """
    folder, out = require_model_folder(model), Path(output)
    if out.exists():
        raise UserError(f"{out}: exists already", "choose another folder")
    if card is None and (folder / CARD).is_file():
        card = (folder / CARD).read_text(encoding="utf-8")
    loaded, tokenizer = load_model(folder, dtype=dtype)
    architecture = choose_architecture(loaded.config, head_of(loaded), publisher_of(loaded))
    if architecture is own_layout:
        architecture_for(loaded.config, head_of(loaded))  # names the settings that no other program has
    require_finite_weights(loaded, architecture, head_of(loaded), str(model))
    with disk_errors(out), output_lock(out):
        temporary = partial_folder(out)
        try:
            written = save_model(
                loaded,
                tokenizer,
                temporary / "model",
                Lineage("model"),
                card=card,
                max_shard_bytes=max_shard_bytes,
            )
            for name in (LINEAGE, MANIFEST):
                (written / name).unlink()
            os.rename(written, out)
            fsync_folder(out.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return out


def architecture_name(folder: str | Path) -> str:
    """Architecture and class of a model folder, such as `qwen3 (Qwen3ForCausalLM)`."""
    hf_config = read_small_json(require_model_folder(folder) / "config.json")
    names = hf_config.get("architectures")
    named = f" ({names[0]})" if isinstance(names, list) and names and isinstance(names[0], str) else ""
    return f"{hf_config.get('model_type')}{named}"
