"""Boiler-plate: lines that many documents of the corpus have, and lines that one document repeats again and again.

Web pages, reports and e-mails share their menus, footers and disclaimers; a PDF repeats its running head on each page.
A line is compared without the white space around it and with every number as 0, so that "Page 3 of 10" equals "Page 4 of
10". After the line-level deduplication of CCNet (Wenzek et al. 2020, arXiv:1911.00359), with a share of documents instead
of any second occurrence. Counts are exact and in bounded memory: 64-bit hashes of lines, in files by their first byte.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from parakit.common.files import JsonObject, write_array
from parakit.data.cleaning.repair_text import CODE_FILES
from parakit.data.cleaning.step_config import StepConfig
from parakit.data.cleaning.steps import Removed

BUFFERED = 2**20  # hashes in memory, 8 bytes each, before they go into files
PARTITIONS = 256

_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"[^\W\d_]{3}")


class RepeatedLinesConfig(StepConfig):
    """Lines that many documents share, or one document repeats."""

    step: Literal["repeated_lines"] = "repeated_lines"
    exclude: tuple[str, ...] = Field(
        default=CODE_FILES,
        description="Patterns of files that the step leaves as they are; source code and data by default.",
    )
    min_share: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="A line of at least this share of the documents is boiler-plate and removed.",
    )
    min_documents: int = Field(default=10, ge=2, description="It is in at least so many documents, too.")
    max_in_document: int = Field(
        default=4,
        ge=1,
        description="Of a line that one document has more often than this, only the first stays.",
    )
    min_chars: int = Field(
        default=10, ge=1, description="Shorter lines always stay, and so do lines without a word."
    )

    def build(self, folder: Path) -> RepeatedLines:
        return RepeatedLines(self, folder)


class RepeatedLines:
    """The step; see `CorpusStep`."""

    def __init__(self, config: RepeatedLinesConfig, folder: Path) -> None:
        self._config = config
        self._counts = _HashCounts(folder)
        self._frequent: frozenset[int] = frozenset()
        self._n_documents = self._n_removed = 0

    def add(self, index: int, text: str) -> None:
        self._n_documents += 1
        self._counts.add({key for _, key in self._keyed(text) if key})

    def finish(self) -> None:
        least = max(self._config.min_documents, int(np.ceil(self._config.min_share * self._n_documents)))
        self._frequent = frozenset(self._counts.at_least(least).tolist())

    def apply(self, index: int, text: str) -> str | Removed:
        times: dict[int, int] = {}
        keyed = list(self._keyed(text))
        for _, key in keyed:
            if key:
                times[key] = times.get(key, 0) + 1
        if max(times.values(), default=0) <= self._config.max_in_document and self._frequent.isdisjoint(
            times
        ):
            return text
        lines, seen = [], set[int]()
        for line, key in keyed:
            again = key in seen and times[key] > self._config.max_in_document
            if again or key in self._frequent:
                self._n_removed += 1
                continue
            if key:
                seen.add(key)
            lines.append(line)
        cleaned = "\n".join(lines).strip("\n")  # without what divided a head or a foot from the text
        return cleaned if cleaned.strip() else Removed("only repeated lines")

    def figures(self) -> JsonObject:
        return {"boilerplate_lines": len(self._frequent), "lines_removed": self._n_removed}

    def _keyed(self, text: str) -> list[tuple[str, int]]:
        """Each line with its hash; 0 where the line does not count."""
        keyed = []
        for line in text.split("\n"):
            bare = line.strip()
            key = 0
            if len(bare) >= self._config.min_chars and _WORD.search(bare):
                even = _DIGITS.sub("0", bare).encode("utf-8", "surrogatepass")
                key = int.from_bytes(blake2b(even, digest_size=8).digest(), "little")
            keyed.append((line, key))
        return keyed


class _HashCounts:
    """How often each 64-bit hash was added: exact, with files of the hashes of each first byte."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._buffer: list[int] = []

    def add(self, hashes: set[int]) -> None:
        self._buffer += hashes
        if len(self._buffer) >= BUFFERED:
            self._spill()

    def _spill(self) -> None:
        hashes = np.sort(np.array(self._buffer, np.uint64))
        self._buffer.clear()
        bounds = np.arange(1, PARTITIONS, dtype=np.uint64) << np.uint64(56)
        for number, part in enumerate(np.split(hashes, np.searchsorted(hashes, bounds))):
            with open(self._folder / f"{number}.hashes", "ab") as file:
                write_array(file, part)

    def at_least(self, least: int) -> np.ndarray:
        """The hashes that were added `least` times or more, sorted, (n,) uint64; the files are deleted."""
        paths = [self._folder / f"{number}.hashes" for number in range(PARTITIONS)]
        if not paths[0].exists():
            found = [_frequent(np.array(self._buffer, np.uint64), least)]
            self._buffer.clear()
            return found[0]
        self._spill()
        found = []
        for path in paths:
            found.append(_frequent(np.fromfile(path, np.uint64), least))
            path.unlink()
        return np.concatenate(found)


def _frequent(hashes: np.ndarray, least: int) -> np.ndarray:
    values, counts = np.unique(hashes, return_counts=True)
    return values[counts >= least]
