"""What a model folder may not contain, checked before anything in it is used.

A third-party folder is data. Whatever would have to be executed or unpickled is refused with the reason: `auto_map`
entries and Python files (remote code), pickled weights, links and shard names that lead out of the folder, pipes and
devices instead of files. Also here: describing a folder that is no model folder.
"""

from __future__ import annotations

import stat
from collections.abc import Collection
from pathlib import Path
from typing import Any

from parakit.common.artifacts import read_lineage
from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import JsonObject, is_file
from parakit.common.json_reading import parse_json, read_json_bytes

MAX_JSON_BYTES, MAX_VALUES, MAX_FILES = 32_000_000, 2_000_000, 10_000
FETCH = "the file is damaged: fetch it again"
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".msgpack", ".h5"}
CODE = {".py", ".pyc", ".pyd", ".so", ".dll", ".dylib"}
CHECKED_JSON = ("config.json", "tokenizer_config.json", "generation_config.json")


def is_model_folder(path: str | Path) -> bool:
    """True for a folder with `config.json` and safetensors weights, whether they are valid or not."""
    path = Path(path)
    return is_file(path / "config.json") and any(
        is_file(path / name) for name in ("model.safetensors", "model.safetensors.index.json")
    )


def check_folder_safety(folder: str | Path, accept_config: Collection[str] = ()) -> None:
    """Refuse a folder that holds code, pickles, or links that lead out of it. Raises `UserError` naming the
    file and the reason. An `auto_map` in config.json, whose code is never run, is no reason where `accept_config` has it.
    """
    folder = Path(folder)
    for n, path in enumerate(sorted(folder.rglob("*"))):
        if n >= MAX_FILES:
            raise UserError(
                f"{folder}: holds more than {MAX_FILES} files", "name a folder that holds one model alone"
            )
        if path.is_symlink():
            inner_link(path, folder)
        if path.is_dir():
            continue
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{path}: is not a plain file", "remove it from the model folder")
        if path.suffix.lower() in PICKLES:
            raise UserError(
                f"{path}: may be a pickle, which runs code when it is read",
                f"{_safetensors_hint(path.parent)}; then remove this file",
            )
        if path.suffix.lower() in CODE:
            raise UserError(
                f"{path}: is program code, which Parakit never runs from a model folder",
                "remove it if the model is of a known architecture without it",
            )
    for name in CHECKED_JSON:
        if name == "config.json" and "auto_map" in accept_config:
            continue
        if (folder / name).is_file() and "auto_map" in read_small_json(folder / name):
            raise UserError(
                f"{folder / name}: has an `auto_map`, which would run code from the folder or the network",
                "Parakit runs no remote code; if the model is of a known architecture without it, import it with "
                "--accept-config auto_map",
            )


def regular_file(folder: Path, name: str) -> Path:
    """`folder/name`, after checking that it is a regular file inside the folder."""
    path = folder / name
    if not is_file(path):
        raise UserError(f"{path}: no such file", "the model folder is not complete: fetch it again")
    inner_link(path, folder)
    return path


def inner_link(path: Path, folder: Path) -> Path:
    """The real file behind `path`; `UserError` where it is outside `folder`, or where links lead nowhere or in a circle."""
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise UserError(
            f"{path}: is a link that leads nowhere", "remove it, or fetch the folder again"
        ) from None
    if not real.is_relative_to(folder.resolve()):
        raise UserError(
            f"{path}: is a link to {real}, outside the model folder",
            "copy the real files: cp -rL FOLDER COPY",
        )
    return real


def read_small_json(path: Path, kind: type[JsonObject] | type[list[Any]] = dict) -> Any:
    """Untrusted JSON of limited size and depth: a mapping, or a list where `kind` is list."""
    value = parse_json(read_json_bytes(path, MAX_JSON_BYTES, FETCH), path, max_values=MAX_VALUES, hint=FETCH)
    if not isinstance(value, kind):
        expected = "mapping" if kind is dict else "list"
        raise CorruptArtifact(f"{path}: holds a {type(value).__name__}, not a {expected}", FETCH)
    return value


def require_model_folder(path: str | Path) -> Path:
    """`path` as the folder of a model; for anything else, a `UserError` says what it is."""
    path = Path(path)
    if not path.exists():
        raise UserError(
            f"{path}: no such model folder",
            "check the path; a model of the hub is fetched by `parakit import ORG/NAME --output FOLDER`",
        )
    if not is_model_folder(path):
        what, hint = _describe(path)
        raise UserError(f"{path}: not a model folder: {what}", hint)
    return path


def _describe(path: Path) -> tuple[str, str]:
    """What `path` is, and a hint."""
    needed = "a model folder has config.json and model.safetensors"
    if path.is_file():
        if path.suffix == ".safetensors":
            return "it is a file of weights alone", f"name the folder that holds it: {path.parent}"
        if path.suffix == ".gguf":
            return "it is a GGUF file", f"import it first: parakit import {path} --output FOLDER"
        return (
            "it is a file",
            "single-file checkpoints are not read, except GGUF by parakit import; " + needed,
        )
    names = {p.name for p in path.iterdir()}
    if not names:
        return "the folder is empty", needed
    if "lineage.json" in names:
        kind = read_lineage(path)["kind"]
        return (
            f"it holds an artifact of kind {kind!r}",
            f"`parakit show {path}` tells more; name the folder of a model",
        )
    if models := sorted(p.name for p in path.iterdir() if p.is_dir() and is_model_folder(p)):
        return "but folders inside it are", "name one of: " + ", ".join(
            str(path / name) for name in models[:5]
        )
    if "adapter_config.json" in names:
        return "it holds an adapter", f"parakit merge {path} --output FOLDER makes a model of it and its base"
    if any(Path(name).suffix.lower() in PICKLES for name in names):
        return "its weights are pickled", _safetensors_hint(path)
    if files := sorted(name for name in names if name.endswith(".gguf")):
        return "it holds GGUF files", f"import one of them: parakit import {path / files[0]} --output FOLDER"
    if "config.json" in names:
        return "it has a config.json and no weights", "fetch model.safetensors too"
    if "tokenizer.json" in names:
        return "it holds a tokenizer", needed
    return f"it holds {', '.join(sorted(names)[:3])}{' ...' if len(names) > 3 else ''}", needed


def _safetensors_hint(folder: Path) -> str:
    if (folder / "model.safetensors").exists():
        return "model.safetensors is there and enough"
    return "get safetensors files from the publisher, or convert these on a machine without anything of value"
