"""The cleaning step `repeated_passages`: a passage that was there before, in this document or another, is taken out."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from parakit.common.files import JsonObject
from parakit.data.cleaning.step_config import StepConfig
from parakit.data.cleaning.steps import Removed
from parakit.data.duplicates.passage_finder import PassageFinder, without_passages


class RepeatedPassagesConfig(StepConfig):
    """Passages that occur again are taken out; the first occurrence stays."""

    step: Literal["repeated_passages"] = "repeated_passages"
    min_words: int = Field(
        default=50, ge=8, description="Words in a row, equal to the letter, from which on a passage counts."
    )

    def build(self, folder: Path) -> RepeatedPassages:
        """The step, which writes the hashes of words to `folder`."""
        return RepeatedPassages(self, folder)


class RepeatedPassages:
    """The step; see `CorpusStep`."""

    def __init__(self, config: RepeatedPassagesConfig, folder: Path) -> None:
        self._finder = PassageFinder(folder, config.min_words)
        self._indices = array("q")
        self._order = np.zeros(0, np.int64)
        self._n_passages = self._n_words = 0

    def add(self, index: int, text: str) -> None:
        """Take in a document."""
        self._indices.append(index)
        self._finder.add(text)

    def finish(self) -> None:
        """Find the passages that occur again."""
        self._finder.finish()
        self._order = np.frombuffer(self._indices, np.int64)

    def apply(self, index: int, text: str) -> str | Removed:
        """The document without passages that were there before."""
        passages = self._finder.repeated(int(np.searchsorted(self._order, index)))
        self._n_passages += len(passages)
        self._n_words += int((passages[:, 1] - passages[:, 0]).sum())
        after = without_passages(text, passages)
        return (
            after if after.strip() or not len(passages) else Removed("every passage is in earlier documents")
        )

    def figures(self) -> JsonObject:
        """Passages and words that were taken out."""
        return {"passages": self._n_passages, "words": self._n_words}
