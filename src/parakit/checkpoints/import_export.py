"""Models in and out of the house: a published folder becomes an artifact with lineage, and an artifact a plain folder.

Both read the model whole and write it again, so what comes out was checked tensor by tensor against its settings, its
tokenizer is one tokenizer.json, and nothing else of the source comes along. Tensors keep their bytes unless another
dtype is asked for.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from parakit.checkpoints.folder_safety import read_small_json, require_model_folder
from parakit.checkpoints.generation_settings import published_settings
from parakit.checkpoints.hub import data_files, fetch_model, gathered_folder, hub_name
from parakit.checkpoints.model_folder import MAX_SHARD_BYTES, load_model, save_model
from parakit.common.artifacts import LINEAGE, MANIFEST, Lineage
from parakit.common.errors import UserError
from parakit.common.files import disk_errors, fsync_folder, sha256_file

CARD = "README.md"


def import_model(
    source: str,
    output: str | Path,
    *,
    revision: str | None = None,
    dtype: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Turn a published model, a folder or the name of one on the hub, into an artifact of kind "model".

    Its lineage names the source, the hub's commit, and the sha256 of every file that was read. Raises `UserError`
    naming what is not honoured: code, pickles, unknown settings, tensors of another shape.
    """
    name = hub_name(source)
    if revision and name is None:
        raise UserError(f"--revision {revision} is given, and {source} is a folder", "take it out")
    if Path(output).exists() and not overwrite:
        raise UserError(
            f"{output}: exists already", "choose another folder, or pass --overwrite to replace it"
        )
    if name is None:
        folder = Path(source)
    else:
        folder, revision = (fetched := fetch_model(name, revision)).folder, fetched.revision
    require_model_folder(folder)
    with gathered_folder(folder) as plain:
        model, tokenizer = load_model(plain, dtype=dtype)
        read = {file: sha256_file(path) for file, path in data_files(plain).items()}
        config = {
            "stage": "import",
            "source": source if name is None else f"hub:{name}",
            "revision": revision,
            "architecture": read_small_json(plain / "config.json").get("model_type"),
            "dtype": dtype,
        }
        parents: list[str | Path] = [folder] if (folder / LINEAGE).is_file() else []
        sampling, left_behind = published_settings(plain)
        result = {"files": read} | ({"left_behind": left_behind} if left_behind else {})
        lineage = Lineage("model", config, parents, result=result)
        return save_model(model, tokenizer, output, lineage, overwrite, sampling=sampling)


def export_model(
    model: str | Path,
    output: str | Path,
    *,
    dtype: str | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> Path:
    """Write a model folder as plain Hugging Face files, without Parakit's lineage and manifest; a model card comes
    along. `output` must not exist.
    """
    folder, out = require_model_folder(model), Path(output)
    if out.exists():
        raise UserError(f"{out}: exists already", "choose another folder")
    card = (folder / CARD).read_text(encoding="utf-8") if (folder / CARD).is_file() else None
    loaded, tokenizer = load_model(folder, dtype=dtype)
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            written = save_model(
                loaded,
                tokenizer,
                aside / "model",
                Lineage("model"),
                card=card,
                max_shard_bytes=max_shard_bytes,
                sampling=published_settings(folder)[0],
            )
            for name in (LINEAGE, MANIFEST):
                (written / name).unlink()
            os.rename(written, out)
            fsync_folder(out.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return out


def architecture_name(folder: str | Path) -> str:
    """What a model folder is published as, such as `qwen3 (Qwen3ForCausalLM)`."""
    foreign = read_small_json(require_model_folder(folder) / "config.json")
    names = foreign.get("architectures")
    named = f" ({names[0]})" if isinstance(names, list) and names and isinstance(names[0], str) else ""
    return f"{foreign.get('model_type')}{named}"
