"""Models, builds, tokenizers and other artifacts below a folder, found by their files; no weights are read.

Hidden folders are left out, and so are links, which could lead out of the folder. A name is the path relative to the folder,
which is unique.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from parakit.checkpoints.adapters.base_model import is_adapter_folder
from parakit.checkpoints.folder_safety import is_model_folder
from parakit.common.artifacts import BUILD, LINEAGE, read_lineage
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.tokens.tokenizer.files import has_tokenizer

MAX_DEPTH, MAX_FOLDERS = 8, 20_000
INNER = {"work", "training"}  # of a build or a model: checkpoints and logs


@dataclass(frozen=True)
class FoundFolder:
    """`kind`: the artifact's, or `published` for a model without a lineage, `build`, or `gguf` for a file."""

    name: str
    path: Path
    kind: str
    lineage: JsonObject = field(default_factory=dict)
    fault: str = ""
    """What is wrong with the folder, where its lineage cannot be read."""

    @property
    def is_model(self) -> bool:
        """Whether it can be loaded."""
        return self.kind in ("model", "published")

    @property
    def digest(self) -> str:
        """Of an artifact; empty for others."""
        return str(self.lineage.get("digest", ""))


def find_folders(root: Path) -> list[FoundFolder]:
    """Everything below `root`, itself among it, in the order of the names."""
    found = [one for folder in _walk(root) for one in _recognize(folder, root)]
    return sorted(found, key=lambda one: one.name)


def find_models(root: Path) -> list[FoundFolder]:
    """The folders that can be loaded as models."""
    return [one for one in find_folders(root) if one.is_model]


def find_tokenizers(root: Path) -> list[FoundFolder]:
    """The folders with a tokenizer: tokenizers and models."""
    return [one for one in find_folders(root) if one.kind != "build" and has_tokenizer(one.path)]


def named(found: list[FoundFolder], name: str) -> FoundFolder:
    """The entry of this name; a name from a page is looked up and never joined to a path. `UserError` where it is gone."""
    for one in found:
        if one.name == name:
            return one
    raise UserError(f"{name}: is not below the studio's folder", "load the page again: it may have moved")


def folder_bytes(path: Path) -> int:
    """Bytes of all files in a folder, or of one file."""
    if path.is_file():
        return path.stat().st_size
    total = 0
    for parent, _, files in os.walk(path):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def _walk(root: Path) -> Iterator[Path]:
    """Folders, each before those in it, as far as the limits allow."""
    for n_seen, (parent, folders, _) in enumerate(os.walk(root, followlinks=False)):
        path = Path(parent)
        depth = len(path.relative_to(root).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in INNER)
        if depth >= MAX_DEPTH:
            folders.clear()
        if n_seen >= MAX_FOLDERS:
            return
        yield path


def _recognize(folder: Path, root: Path) -> Iterator[FoundFolder]:
    name = folder.relative_to(root).as_posix()
    name = root.name if name == "." else name
    if (folder / LINEAGE).is_file():
        try:
            lineage = read_lineage(folder)
        except UserError as error:
            kind = "published" if is_model_folder(folder) else "damaged"
            yield FoundFolder(name, folder, kind, fault=error.message)
        else:
            yield FoundFolder(name, folder, str(lineage["kind"]), lineage)
    elif is_model_folder(folder) or is_adapter_folder(folder):
        yield FoundFolder(name, folder, "published")
    elif (folder / BUILD).is_file():
        yield FoundFolder(name, folder, "build")
    elif has_tokenizer(folder):
        yield FoundFolder(name, folder, "tokenizer")
    with contextlib.suppress(OSError):
        for file in sorted(folder.glob("*.gguf")):
            yield FoundFolder(file.relative_to(root).as_posix(), file, "gguf")
