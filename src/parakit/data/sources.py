"""Sources of documents and rows: files, or a generator such as the primer.

The functions that prepare a corpus or a set take either. A set may be written several times with wider held-out splits,
so a generator is a function that can be called again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from parakit.common.artifacts import Lineage
from parakit.common.files import JsonObject

Item = TypeVar("Item")


@dataclass(frozen=True)
class GeneratedSource(Generic[Item]):
    """Items of a generator. `name`, `config` and the artifacts `parents` go into the lineage; `held_out` generates the test
    split, where there is one.
    """

    name: str
    config: JsonObject
    seed: int
    generate: Callable[[], Iterable[Item]]
    held_out: Callable[[], Iterable[Item]] | None = None
    parents: tuple[str | Path, ...] = ()


Source = Sequence[str] | GeneratedSource[Item]  # files, or a generator


def record_source(lineage: Lineage, source: Source[Item]) -> None:
    """Add what `source` is to the lineage of the set that is made of it."""
    if isinstance(source, GeneratedSource):
        lineage.config[source.name], lineage.seed = source.config, source.seed
        lineage.parents.extend(source.parents)
    else:
        lineage.config["paths"] = list(source)
