"""The chain of cleaning steps over the documents of a corpus, in the order of the list.

Steps on one text that follow each other share one pass over the documents. A step over the whole corpus takes in the
documents while the pass before it writes them, and judges them in the next pass. A document that a step empties is left
out. Memory: one document, and what the steps hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from parakit.common.files import JsonObject
from parakit.data.cleaning.corpus_steps import CorpusStep, FoundInParts, HasFigures
from parakit.data.cleaning.step_config import StepConfig
from parakit.data.cleaning.step_report import StepReport
from parakit.data.cleaning.steps import Removed, TextStep
from parakit.data.collected import read_rows, write_row
from parakit.data.documents import Document

EMPTY = Removed("nothing left")


class InParts(Protocol):
    """Runs steps by tasks, each on a part of the documents (see `parallel_cleaning`)."""

    def clean(
        self, path: Path, configs: Sequence[StepConfig], found: Path | None
    ) -> tuple[Sequence[Sequence[StepReport]], Iterator[tuple[int, Document]]]:
        """What the steps leave of the rows of `path`; before it their reports for each part. `found`: of the first step."""
        ...

    def find(self, path: Path, config: StepConfig) -> Path:
        """What a step that is `FoundInParts` finds among the rows of `path`: a folder that it can load."""
        ...


@dataclass
class _Running:
    """A step at work. `found`: what tasks found for a step over the whole corpus."""

    config: StepConfig
    step: TextStep | CorpusStep
    report: StepReport
    found: Path | None = None

    def load(self, found: Path) -> None:
        assert isinstance(self.step, FoundInParts)
        self.step.load(found)
        self.found = found

    def applies_to(self, document: Document) -> bool:
        return self.config.applies_to(document.file)

    def clean(self, index: int, document: Document) -> Document | None:
        """The document after the step; None: left out."""
        if not self.applies_to(document):
            return document
        text, step = document.text, self.step
        after = step.apply(index, text) if isinstance(step, CorpusStep) else step(text)
        if not isinstance(after, Removed):
            if after == text:
                return document
            after = after if after.strip() else EMPTY
        self.report.count(document.source, text, after)
        if isinstance(after, Removed):
            return None
        names = document.steps if self.config.step in document.steps else (*document.steps, self.config.step)
        return Document(after, document.source, len(after.encode()), names)


@dataclass
class _Pass:
    """One pass: the documents go through `steps` (only the first may be over the whole corpus), and into `following`."""

    steps: list[_Running] = field(default_factory=list)
    following: _Running | None = None

    def rows(self, path: Path, in_parts: InParts | None, first: int) -> Iterator[tuple[int, Document]]:
        """What the steps leave of the rows of `path`, of which the first has the number `first`."""
        if (
            in_parts
            and self.steps
            and (self.steps[0].found or not isinstance(self.steps[0].step, CorpusStep))
        ):
            parts, rows = in_parts.clean(path, [one.config for one in self.steps], self.steps[0].found)
            initial = [_figures(one.step) for one in self.steps]
            for reports in parts:
                for one, report, figures in zip(self.steps, reports, initial, strict=True):
                    one.report.merge(report, figures)
            yield from rows
            return
        for number, (index, document) in enumerate(read_rows(path), first):
            after: Document | None = document
            for step in self.steps:
                if after is None:
                    break
                after = step.clean(number, after)
            if after is not None:
                yield index, after


class CleaningChain:
    """The steps of a list, each built once."""

    def __init__(self, configs: Sequence[StepConfig], folder: Path, found: Path | None = None) -> None:
        """`folder` takes the steps' temporary files, each in a folder of its own. `found`: what tasks found for the first
        step, of which a part of the documents is left to judge. `UserError` for a library or a file that a step lacks.
        """
        self._steps = []
        for number, config in enumerate(configs):
            own = folder / f"{number}-{config.step}"
            own.mkdir(parents=True)
            self._steps.append(_Running(config, config.build(own), StepReport(config.masked_kinds)))
        self._part_of = self._steps[0] if found else None
        if found:
            self._steps[0].load(found)

    def run(self, path: Path, in_parts: InParts | None = None, first: int = 0) -> None:
        """Clean the rows of documents in the file `path` (see `collected`) in place. `in_parts` runs steps on single texts,
        and those that are `FoundInParts`. `first`: the number of the first row, of a part of the documents.
        """
        for one in self._passes():
            cleaned = path.with_name(f"{path.name}.cleaned")
            n_kept, following = 0, one.following
            finds = in_parts if following and isinstance(following.step, FoundInParts) else None
            with open(cleaned, "w", encoding="utf-8", newline="\n") as file:
                for index, after in one.rows(path, in_parts, first):
                    if following and not finds and following.applies_to(after):
                        following.step.add(n_kept, after.text)  # type: ignore[union-attr]
                    write_row(file, index, after)
                    n_kept += 1
            cleaned.replace(path)
            if following and finds:
                following.load(finds.find(path, following.config))
            elif following:
                following.step.finish()  # type: ignore[union-attr]

    def _passes(self) -> list[_Pass]:
        passes = [_Pass()]
        for one in self._steps:
            if isinstance(one.step, CorpusStep) and not one.found:
                passes[-1].following = one
                passes.append(_Pass())
            passes[-1].steps.append(one)
        return passes

    def step_reports(self) -> list[StepReport]:
        """What each step did, in their order."""
        for one in self._steps:
            if one is not self._part_of:  # its figures are of all documents
                one.report.figures = one.report.figures or _figures(one.step)
        return [one.report for one in self._steps]

    def report(self) -> list[JsonObject]:
        """The steps' entries in the report of the corpus."""
        reports = self.step_reports()
        return [report.to_dict(one.config) for one, report in zip(self._steps, reports, strict=True)]


def _figures(step: object) -> JsonObject:
    return step.figures() if isinstance(step, HasFigures) else {}
