"""Which folders were made from an artifact: found by the digests in the lineages of the folders around it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from parakit.common.artifacts import LINEAGE, read_lineage
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, is_file


def made_from(artifact: Path, folders: Sequence[Path] = ()) -> list[tuple[Path, JsonObject]]:
    """The folders, with their lineages, that have `artifact` as a parent: those next to it and those of `folders`, which
    may be artifacts or hold some. In the order of their paths.
    """
    digest = read_lineage(artifact).get("digest")
    found = {}
    for path in sorted(_artifacts([artifact.resolve().parent, *folders])):
        with contextlib.suppress(UserError):
            lineage = read_lineage(path)
            if any(parent.get("digest") == digest for parent in lineage.get("parents") or []):
                found[path] = lineage
    return list(found.items())


def shards_of(corpus: Path, folders: Sequence[Path] = ()) -> list[Path]:
    """The token shards that were made from a corpus, as far as they are found."""
    return [path for path, lineage in made_from(corpus, folders) if lineage.get("kind") == "shards"]


def _artifacts(folders: Sequence[Path]) -> set[Path]:
    found = set()
    for folder in folders:
        with contextlib.suppress(OSError):
            found |= {path.resolve() for path in (folder, *folder.iterdir()) if is_file(path / LINEAGE)}
    return found
