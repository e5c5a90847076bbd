"""What an artifact was made from, through all of its parents, and what was made from it: found by the paths and digests in
lineages.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from parakit.common.artifacts import LINEAGE, read_lineage
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, is_file

MAX_DEPTH = 20


@dataclass(frozen=True)
class LostParent:
    """A parent that a lineage names and that is not there: nothing is at its path, or (`replaced`) another artifact."""

    kind: str
    path: str
    digest: str
    replaced: bool


@dataclass(frozen=True)
class Ancestry:
    """The lineages of an artifact and of all that it was made from, by folder, and the parents that were not found."""

    found: dict[Path, JsonObject] = field(default_factory=dict)
    lost: dict[str, LostParent] = field(default_factory=dict)
    """By digest."""

    def of_kinds(self, *kinds: str) -> list[Path]:
        """The folders of these kinds."""
        return [path for path, lineage in self.found.items() if lineage.get("kind") in kinds]


def find_ancestors(path: Path, enter: Callable[[JsonObject], bool] = lambda lineage: True) -> Ancestry:
    """The ancestry of the artifact `path`, as far as its parents still exist where they were recorded or next to it.
    `enter`: whether the parents of an artifact with this lineage are looked for.
    """
    ancestry = Ancestry()
    _visit(path.resolve(), ancestry, enter, 0)
    return ancestry


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


def _visit(path: Path, ancestry: Ancestry, enter: Callable[[JsonObject], bool], depth: int) -> None:
    lineage = read_lineage(path)
    if path in ancestry.found:
        return
    ancestry.found[path] = lineage
    if depth == MAX_DEPTH or not enter(lineage):
        return
    for parent in lineage.get("parents") or []:
        recorded = Path(parent["path"])
        places = [place for place in (recorded, path.parent / recorded.name) if is_file(place / LINEAGE)]
        same = [place for place in places if read_lineage(place).get("digest") == parent["digest"]]
        if same:
            _visit(same[0].resolve(), ancestry, enter, depth + 1)
        else:
            lost = LostParent(str(parent["kind"]), str(recorded), str(parent["digest"]), bool(places))
            ancestry.lost.setdefault(lost.digest, lost)


def _artifacts(folders: Sequence[Path]) -> set[Path]:
    found = set()
    for folder in folders:
        with contextlib.suppress(OSError):
            found |= {path.resolve() for path in (folder, *folder.iterdir()) if is_file(path / LINEAGE)}
    return found
