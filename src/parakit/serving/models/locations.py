"""The names under which models are served: `NAME=PATH`, else after the folder; adapters as `MODEL:ADAPTER`."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from parakit.checkpoints.adapters.base_model import base_folder, is_adapter_folder
from parakit.checkpoints.folder_safety import require_model_folder
from parakit.common.artifacts import BUILD
from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.recipe.build_folder import build_index, resolve_model_folder


@dataclass(frozen=True)
class ModelLocation:
    """A model by its name: its folder, and the folders of its adapters by their names."""

    name: str
    path: Path
    adapters: dict[str, Path] = field(default_factory=dict)
    index: Path | None = None
    """The index of documents of the build that the model is from."""


def locate_models(models: Sequence[str], adapters: Sequence[str] = ()) -> list[ModelLocation]:
    """Where the models are. `UserError` for a folder that holds no model, two models of one name, and an adapter of none
    of the models.
    """
    found: dict[str, ModelLocation] = {}
    for given in models:
        name, path = _named(given)
        folder = imported(path) if path.suffix == ".gguf" and path.is_file() else resolve_model_folder(path)
        if not is_adapter_folder(folder):
            require_model_folder(folder)
        if name in found:
            raise UserError(f"two models are called {name!r}", f"name one of them: NAME={path}")
        found[name] = ModelLocation(name, folder, index=build_index(path))
    for given in adapters:
        _add_adapter(found, given)
    return list(found.values())


def with_indexes_of_builds(documents: Sequence[str], models: Sequence[ModelLocation]) -> tuple[str, ...]:
    """The indexes that are served, as `NAME=PATH` or `PATH`: those of `documents`, in which a build is its index under the
    build's name, and under the model's name that of each build that is not among them.
    """
    named = [
        f"{Path(one).resolve().name}={index}" if (index := build_index(one)) else one for one in documents
    ]
    given = {Path(one.partition("=")[2] or one).resolve() for one in named}
    own = [one for one in models if one.index and one.index.resolve() not in given]
    return (*named, *(f"{one.name}={one.index}" for one in own))


def imported(file: Path) -> Path:
    """The model of a GGUF file, imported into a folder that is removed when the process ends."""
    from parakit.checkpoints.import_export import import_model  # takes a while to import

    folder = Path(tempfile.mkdtemp(prefix="parakit-serve-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    log(f"importing {file} for this run; `parakit import {file} --output FOLDER` does it once")
    return import_model(str(file), folder / "model")


def _named(given: str) -> tuple[str, Path]:
    """The name and the path of NAME=PATH or PATH; a build's model is called as the build."""
    name, equals, path = given.partition("=")
    if not equals or os.path.exists(given):
        name, path = "", given
    folder = Path(path)
    if not name:
        resolved = folder.resolve()
        name = resolved.name
        if resolved.is_file():
            name = resolved.stem
        elif name == "model" and not (resolved / BUILD).is_file() and resolved.parent.name:
            name = resolved.parent.name
    if ":" in name or not name.strip() or len(name) > 200:
        raise UserError(f"{name!r} cannot be the name of a model", "give another: NAME=PATH, without a colon")
    return name, folder


def _add_adapter(found: dict[str, ModelLocation], given: str) -> None:
    name, path = _named(given)
    if not is_adapter_folder(path):
        require_model_folder(path)
        raise UserError(f"{path}: is a model, not an adapter", "name it among the models")
    base = base_folder(path).resolve()
    owners = [one for one in found.values() if one.path.resolve() == base]
    if not owners and len(found) == 1:
        owners = list(found.values())  # its digest is compared when it is loaded
    if not owners:
        raise UserError(
            f"{path}: an adapter of {base}, which is not served", f"name it among the models: {base}"
        )
    if name in owners[0].adapters:
        raise UserError(f"two adapters of {owners[0].name} are called {name!r}", f"name one: NAME={path}")
    owners[0].adapters[name] = path
