"""Export of a model, or of an adapter on its base, as one GGUF file, for llama.cpp, Ollama and what is built on them.

The file is written under another name, read again and compared with its source (`gguf_check`); only a file that passes
gets its name. An adapter is merged on the way, with the checks of a merge. An Ollama `Modelfile` is written next to it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from parakit.checkpoints.adapters import base_folder, is_adapter_folder, load_with_adapter
from parakit.checkpoints.gguf.export import GGUFLayout, gguf_layout, load_gguf, write_model
from parakit.checkpoints.gguf.metadata import SAMPLING
from parakit.checkpoints.gguf.ollama import write_modelfile
from parakit.checkpoints.gguf.reader import SUFFIX
from parakit.checkpoints.gguf.tensor_types import GGUF_TYPES, GGUFType
from parakit.checkpoints.loading import load_model
from parakit.checkpoints.model_folder import head_of
from parakit.checkpoints.publisher import choose_architecture, publisher_of
from parakit.checkpoints.weights import require_finite_weights
from parakit.common.artifacts import LINEAGE, read_lineage
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, disk_errors, fsync_folder
from parakit.common.locks import output_lock, partial_folder
from parakit.compression.gguf_check import GGUFComparison, compare_gguf
from parakit.compression.merging import merge_checked
from parakit.inference.folder_settings import is_chat_tuned, read_sampling_settings
from parakit.model.heads import LanguageModel, TransformerModel
from parakit.tokens.chat.rendering import CHAT_TEMPLATE
from parakit.tokens.tokenizer.tokenizer import Tokenizer

_SPARE_BYTES = 50_000_000
_CARD = "README.md"


@dataclass(frozen=True)
class GGUFExport:
    """The written file: its size, how many tensors each quantization has, how it compares with its source, and the
    Ollama `Modelfile`; `notes` are what llama.cpp does otherwise.
    """

    file: Path
    file_type: GGUFType
    n_bytes: int
    quantization: dict[str, int]
    comparison: GGUFComparison
    modelfile: Path
    notes: tuple[str, ...] = ()


def export_gguf(
    model: str | Path,
    output: str | Path,
    file_type: GGUFType = "Q8_0",
    *,
    base: str | Path | None = None,
    name: str | None = None,
    texts: Sequence[str] = (),
    accept_loss: bool = False,
    overwrite: bool = False,
) -> GGUFExport:
    """Write the model of a folder (an adapter's too, whose `base` may have moved) as the file `output`, which ends in .gguf.

    `name` is the model's name in the file (default: the folder's). `texts`: text to compare logits on, before the built-in
    texts. Raises `UserError` for a model or tokenizer that llama.cpp cannot express, and for a file that does not compute
    what its source does; with `accept_loss`, quantization may cost more than it usually does.
    """
    folder, out = Path(model), Path(output)
    _check_request(out, file_type, overwrite)
    loaded, tokenizer = _load(folder, base)
    if tokenizer is None:
        raise UserError(f"{folder}: has no tokenizer, and a GGUF file holds one", "add the tokenizer's files")
    with_template = tokenizer.chat_template is not None and (
        is_chat_tuned(folder) or tokenizer.chat_template != CHAT_TEMPLATE
    )
    sampling = read_sampling_settings(folder)
    about = _about(folder, name or _name_of(folder), loaded, sampling)
    layout = gguf_layout(loaded, file_type)
    n_bytes = sum(plan.n_bytes for plan in layout.plans)
    with disk_errors(out), output_lock(out):
        _check_space(out, n_bytes)
        temporary = partial_folder(out)
        try:
            partial = temporary / out.name
            with open(partial, "wb") as file:
                write_model(file, loaded, tokenizer, file_type, about, with_template=with_template)
                file.flush()
                os.fsync(file.fileno())
            read_model, read_tokenizer = load_gguf(partial)
            comparison = compare_gguf(
                loaded,
                tokenizer,
                cast("LanguageModel", read_model),
                read_tokenizer,
                file_type,
                with_template=with_template,
                texts=texts,
                accept_loss=accept_loss,
            )
            os.replace(partial, out)
            fsync_folder(out.parent)
        except UserError as error:
            raise type(error)(error.message.replace(str(partial), str(out)), error.hint) from error.__cause__
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        modelfile = write_modelfile(out, tokenizer, loaded.config.max_seq_len, sampling, with_template)
    quantization = dict(Counter(plan.kind for plan in layout.plans).most_common())
    return GGUFExport(out, file_type, out.stat().st_size, quantization, comparison, modelfile, _notes(layout))


def _notes(layout: GGUFLayout) -> tuple[str, ...]:
    """What llama.cpp computes otherwise."""
    window = layout.config.get("sliding_window")
    if not layout.exported.window_ignored or not window:
        return ()
    return (f"llama.cpp attends to the whole text where this model sees the last {window} tokens",)


def _check_request(out: Path, file_type: str, overwrite: bool) -> None:
    if file_type not in GGUF_TYPES:
        raise UserError(f"{file_type!r} is no type of GGUF file", f"choose one of: {', '.join(GGUF_TYPES)}")
    if out.suffix.lower() != SUFFIX:
        raise UserError(f"{out}: a GGUF export is one file", f"name it, for example {out}/model{SUFFIX}")
    if out.is_dir() or (out.exists() and not overwrite):
        raise UserError(f"{out}: exists already", "choose another name, or pass --overwrite to replace it")


def _load(folder: Path, base: str | Path | None) -> tuple[LanguageModel, Tokenizer | None]:
    """The model in float32, an adapter merged into its base."""
    if is_adapter_folder(folder):
        base = base_folder(folder) if base is None else Path(base)
        adapted, tokenizer = load_with_adapter(folder, dtype="float32", base=base)
        loaded = merge_checked(adapted, tokenizer, is_chat_tuned(folder), folder).model
    elif base is not None:
        raise UserError(f"--base is for an adapter, and {folder} is a whole model", "remove it")
    else:
        loaded, tokenizer = load_model(folder, dtype="float32")
    _require_decoder(loaded, folder)
    architecture = choose_architecture(loaded.config, head_of(loaded), publisher_of(loaded))
    require_finite_weights(loaded, architecture, head_of(loaded), str(folder))
    return cast("LanguageModel", loaded.eval()), tokenizer


def _require_decoder(model: TransformerModel, folder: Path) -> None:
    if not isinstance(model, LanguageModel) or model.config.family != "decoder":
        kind = head_of(model).kind.replace("_", " ")
        raise UserError(
            f"{folder}: a GGUF file holds a decoder that predicts tokens, and this is a {kind}",
            "export a plain folder instead: parakit export MODEL --output FOLDER",
        )
    if any(p.dtype != torch.float32 for p in model.parameters()):
        raise UserError(f"{folder}: has quantized weights", "export the model that they were made from")


def _check_space(out: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(out.parent).free
    if free < n_bytes + _SPARE_BYTES:
        raise UserError(
            f"{out}: takes {n_bytes / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free",
            "free some space, choose another disk, or a smaller type such as Q4_K_M",
        )


def _name_of(folder: Path) -> str:
    """The folder's name; of a stage of a build, with the build's before it."""
    resolved = folder.resolve()
    is_stage = (resolved.parent / "build.json").is_file()
    return f"{resolved.parent.name}-{resolved.name}" if is_stage else resolved.name


def _about(folder: Path, name: str, model: LanguageModel, sampling: JsonObject) -> JsonObject:
    """Metadata on the model: its name, size, licence, the digest of its lineage and how its publisher samples."""
    n_params = sum(p.numel() for p in model.parameters())
    large = n_params >= 1e9
    about: JsonObject = {
        "general.name": name,
        "general.size_label": f"{n_params / 1e9:.1f}B" if large else f"{max(1, round(n_params / 1e6))}M",
    }
    lineage = read_lineage(folder) if (folder / LINEAGE).is_file() else {}
    came_from = (lineage.get("result") or {}).get("about") or {}
    licence = _front_matter(folder / _CARD, "license") or came_from.get("license")
    about |= {"general.license": str(licence)} if licence else {}
    about |= {"parakit.lineage": str(lineage["digest"])} if lineage else {}
    types = {"top_k": int}
    return about | {key: types.get(k, float)(sampling[k]) for k, key in SAMPLING.items() if k in sampling}


def _front_matter(card: Path, key: str) -> str | None:
    """A plain value in the front matter of a model card."""
    if not card.is_file():
        return None
    text = card.read_text(encoding="utf-8", errors="replace")
    matter = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    found = re.search(rf"^{key}: *([\w.+-]+) *$", matter[1], re.MULTILINE) if matter else None
    return found[1] if found else None
