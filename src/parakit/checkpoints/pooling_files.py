"""How an embedder pools token vectors, in the files that sentence-transformers uses. Torch-free.

`config.json` has no key for it; sentence-transformers keeps it in `modules.json` and `1_Pooling/config.json`. Writing the
same files lets each library load the other's embedders.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parakit.checkpoints.folder_safety import read_small_json, regular_file
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, write_json_atomic
from parakit.model.config import EmbedderConfig

MODULES, POOLING = "modules.json", "1_Pooling"
# Settings of sentence-transformers that Parakit keeps as they are: prompts, the length of a text.
_OTHERS = ("config_sentence_transformers.json", "sentence_bert_config.json")
SENTENCE_FILES = (MODULES, f"{POOLING}/config.json", *_OTHERS)
_MODES = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "last": "pooling_mode_lasttoken",
}
_TYPES = "sentence_transformers.models."


def read_pooling(folder: Path, default: EmbedderConfig) -> EmbedderConfig:
    """The pooling in the folder's files, or `default` where it has none."""
    if not (folder / MODULES).is_file():
        return default
    modules = read_small_json(regular_file(folder, MODULES), list)
    kinds = [module.get("type") if isinstance(module, dict) else None for module in modules]
    names = [str(kind).rsplit(".", 1)[-1] for kind in kinds]
    if names[:2] != ["Transformer", "Pooling"] or names[2:] not in ([], ["Normalize"]):
        raise UserError(
            f"{folder / MODULES}: has the modules {', '.join(names)}",
            "Parakit supports a Transformer, a Pooling, and an optional Normalize",
        )
    where = folder / POOLING / "config.json"
    settings = read_small_json(regular_file(folder / POOLING, "config.json"))
    chosen = [name for name in settings if name.startswith("pooling_mode") and settings[name]]
    found = [name for name, hf_name in _MODES.items() if chosen == [hf_name]]
    if "pooling_mode" in chosen:  # the key of newer folders
        found = [name for name in _MODES if settings["pooling_mode"] in (name, f"{name}token")]
    if not found:
        raise UserError(
            f"{where}: unsupported pooling {', '.join(chosen) or 'none'}",
            f"Parakit supports one of: {', '.join(_MODES.values())}",
        )
    return EmbedderConfig.parse({"pooling": found[0], "normalize": "Normalize" in names}, str(where))


def read_sentence_files(folder: Path) -> dict[str, JsonObject | list[Any]]:
    """The files of sentence-transformers in a folder, by name."""
    return {
        name: read_small_json(regular_file(folder, name), list if name == MODULES else dict)
        for name in SENTENCE_FILES
        if (folder / name).is_file()
    }


def write_pooling(
    folder: Path,
    pooling: EmbedderConfig,
    d_model: int,
    published: Mapping[str, JsonObject | list[Any]],
    is_unchanged: bool,
) -> None:
    """`modules.json` and the pooling's own settings: the `published` ones where the pooling `is_unchanged`; and what else
    was published.
    """
    if not (is_unchanged and MODULES in published):
        _write_own(folder, pooling, d_model)
    for name, content in published.items():
        if is_unchanged or name in _OTHERS:
            (folder / name).parent.mkdir(exist_ok=True)
            write_json_atomic(folder / name, content)


def _write_own(folder: Path, pooling: EmbedderConfig, d_model: int) -> None:
    modules = [("", "Transformer"), (POOLING, "Pooling")]
    if pooling.normalize:
        modules.append(("2_Normalize", "Normalize"))
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": _TYPES + kind}
        for i, (path, kind) in enumerate(modules)
    ]
    write_json_atomic(folder / MODULES, entries)
    (folder / POOLING).mkdir()
    modes = {hf_name: name == pooling.pooling for name, hf_name in _MODES.items()}
    others = {f"pooling_mode_{name}": False for name in ("max_tokens", "mean_sqrt_len_tokens")}
    write_json_atomic(
        folder / POOLING / "config.json", {"word_embedding_dimension": d_model, **modes, **others}
    )
