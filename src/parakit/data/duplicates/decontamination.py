"""The cleaning step `decontamination`: documents that have the texts of an evaluation suite are left out, or lose these.

A model that has read the questions of a suite, or their answers, is measured too well by it. See `leak_finder` for the rule.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Literal

from pydantic import Field

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.data.cleaning.step_config import StepConfig
from parakit.data.cleaning.steps import Removed
from parakit.data.duplicates.leak_finder import Leak, LeakFinder
from parakit.data.duplicates.shingles import word_starts

MAX_LISTED = 1_000  # leaks that the report lists


class DecontaminationConfig(StepConfig):
    """Texts of evaluation suites are taken out of the corpus."""

    step: Literal["decontamination"] = "decontamination"
    suites: tuple[str, ...] = Field(
        default=(),
        description="Files of suites, or folders of them: rows of JSON, JSON lines, Parquet, CSV or TSV of which every text"
        " counts, or plain text.",
    )
    remove: Literal["document", "passage"] = Field(
        default="document",
        description="document: one with a leak is left out; passage: only the leaked words are.",
    )

    def build(self, folder: Path) -> Decontamination:
        """The step. `UserError` where no suite is named, or none of its texts is long enough."""
        # by name: the readers of files have settings that this step is a part of
        suite_texts = import_module("parakit.data.duplicates.suite_files").suite_texts
        if not self.suites:
            raise UserError(
                "decontamination has no suites",
                "name their files: decontamination:suites=questions.jsonl,...",
            )
        finder = LeakFinder(item for path in self.suites for item in suite_texts(path))
        if not any(finder.n_items.values()):
            raise UserError(
                f"decontamination: no text of {', '.join(self.suites)} is long enough to be found",
                "name files with the questions and answers of suites",
            )
        return Decontamination(finder, self.remove)


class Decontamination:
    """The step on one text; it counts what it finds."""

    def __init__(self, finder: LeakFinder, remove: Literal["document", "passage"]) -> None:
        self._finder, self._remove = finder, remove
        self._documents: Counter[str] = Counter()
        self._leaks: Counter[str] = Counter()
        self._listed: list[JsonObject] = []

    def __call__(self, text: str) -> str | Removed:
        """The text where it has no leak."""
        leaks = self._finder.find(text)
        if not leaks:
            return text
        self._count(text, leaks)
        if self._remove == "document":
            return Removed(f"a leak of {leaks[0].suite}")
        return _without(text, leaks)

    def figures(self) -> JsonObject:
        """By suite what was looked for, the documents with a leak and the leaks in them; and the leaks one by one: the id
        of the document, the suite, and the most words in a row.
        """
        suites = {
            suite: {
                "looked_for": f"{self._finder.n_items[suite]} items, {self._finder.too_short[suite]} more are too short",
                "documents": self._documents[suite],
                "leaks": self._leaks[suite],
            }
            for suite in self._finder.suites
        }
        return {"suites": suites, "leaks": self._listed}

    def _count(self, text: str, leaks: list[Leak]) -> None:
        self._documents.update({leak.suite for leak in leaks})
        self._leaks.update(leak.suite for leak in leaks)
        if len(self._listed) < MAX_LISTED:
            words = Counter[str]()
            for leak in leaks:
                words[leak.suite] = max(words[leak.suite], leak.last - leak.first)
            name = hashlib.sha256(text.encode()).hexdigest()[:16]
            self._listed += [{"document": name, "suite": s, "words": n} for s, n in words.items()]


def _without(text: str, leaks: list[Leak]) -> str:
    """`text` without the words of `leaks`, and what follows each up to the next word."""
    raw, starts = word_starts(text)
    kept, place = [], 0
    for first, last in sorted((leak.first, leak.last) for leak in leaks):
        if starts[first] > place:
            kept.append(raw[place : starts[first]])
        place = max(place, int(starts[last]))
    return b"".join([*kept, raw[place:]]).decode("utf-8", "surrogatepass")
