"""The cleaning step `near_duplicates`: of several versions of one document, the first in the order of reading stays."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from parakit.common.files import JsonObject, save_array
from parakit.data.cleaning.step_config import StepConfig
from parakit.data.cleaning.steps import Removed
from parakit.data.duplicates.near_duplicate_finder import NearDuplicateFinder


class NearDuplicatesConfig(StepConfig):
    """Documents that resemble an earlier one are left out."""

    step: Literal["near_duplicates"] = "near_duplicates"
    similarity: float = Field(
        default=0.35,
        ge=0.2,
        le=1,
        description="Share of their word pairs that two documents have in common, of those that either has, from which on"
        " they are versions of one. 0.8: a word in twenty differs; 0.47: one in five; 0.35: one in four.",
    )

    def build(self, folder: Path) -> NearDuplicates:
        """The step, which writes its signatures to `folder`."""
        return NearDuplicates(self, folder)


class NearDuplicates:
    """The step; see `CorpusStep`."""

    def __init__(self, config: NearDuplicatesConfig, folder: Path) -> None:
        self._finder = NearDuplicateFinder(folder, config.similarity)
        self._indices = array("q")
        self._kept_for = self._order = np.zeros(0, np.int64)

    def add(self, index: int, text: str) -> None:
        """Take in a document."""
        self._indices.append(index)
        self._finder.add(text)

    def finish(self) -> None:
        """Find the versions of documents."""
        self._kept_for = self._finder.finish()
        self._order = np.frombuffer(self._indices, np.int64)

    def load(self, folder: Path) -> None:
        """Take what tasks found: see `save_found`."""
        self._order = np.load(folder / "order.npy", mmap_mode="r")
        self._kept_for = np.load(folder / "kept_for.npy", mmap_mode="r")

    def apply(self, index: int, text: str) -> str | Removed:
        """The document, where no version of it stays that was before it."""
        number = int(np.searchsorted(self._order, index))
        return text if self._kept_for[number] == number else Removed("a near duplicate of another document")

    def figures(self) -> JsonObject:
        """Documents with versions, and the most versions that one has."""
        versions = np.bincount(self._kept_for) if len(self._kept_for) else np.zeros(1, np.int64)
        return {"documents_with_versions": int((versions > 1).sum()), "most_versions": int(versions.max())}


def save_found(folder: Path, order: np.ndarray, kept_for: np.ndarray) -> None:
    """Write what `NearDuplicates.load` takes: the index of each document of the step, rising, and the number among them of
    the one that stays for it, both (n,) int64.
    """
    save_array(folder / "order.npy", order)
    save_array(folder / "kept_for.npy", kept_for)
