"""The chain of cleaning steps over the documents of a corpus, in the order of the list.

Steps on one text that follow each other share one pass over the documents. A step over the whole corpus takes in the
documents while the pass before it writes them, and judges them in the next pass. A document that a step empties is left
out. Memory: one document, and what the steps hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from parakit.common.files import JsonObject
from parakit.data.cleaning.corpus_steps import CorpusStep, HasFigures
from parakit.data.cleaning.step_config import StepConfig
from parakit.data.cleaning.step_report import StepReport
from parakit.data.cleaning.steps import Removed, TextStep
from parakit.data.collected import read_rows, write_row
from parakit.data.documents import Document

CleanInParts = Callable[
    [Path, Sequence[StepConfig]], tuple[Sequence[Sequence[StepReport]], Iterator[tuple[int, Document]]]
]
EMPTY = Removed("nothing left")


@dataclass
class _Running:
    """A step at work."""

    config: StepConfig
    step: TextStep | CorpusStep
    report: StepReport

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

    def rows(self, path: Path, in_parts: CleanInParts | None) -> Iterator[tuple[int, Document]]:
        """What the steps leave of the rows of `path`."""
        if in_parts and self.steps and not any(isinstance(one.step, CorpusStep) for one in self.steps):
            parts, rows = in_parts(path, [one.config for one in self.steps])
            initial = [_figures(one.step) for one in self.steps]
            for reports in parts:
                for one, report, figures in zip(self.steps, reports, initial, strict=True):
                    one.report.merge(report, figures)
            yield from rows
            return
        for number, (index, document) in enumerate(read_rows(path)):
            after: Document | None = document
            for step in self.steps:
                if after is None:
                    break
                after = step.clean(number, after)
            if after is not None:
                yield index, after


class CleaningChain:
    """The steps of a list, each built once."""

    def __init__(self, configs: Sequence[StepConfig], folder: Path) -> None:
        """`folder` takes the steps' temporary files, each in a folder of its own. `UserError` for a library or a file
        that a step lacks.
        """
        self._steps = []
        for number, config in enumerate(configs):
            own = folder / f"{number}-{config.step}"
            own.mkdir(parents=True)
            self._steps.append(_Running(config, config.build(own), StepReport(config.masked_kinds)))

    def run(self, path: Path, in_parts: CleanInParts | None = None) -> None:
        """Clean the rows of documents in the file `path` (see `collected`) in place. `in_parts` runs steps on single texts
        (see `parallel_cleaning`).
        """
        for one in self._passes():
            cleaned = path.with_name(f"{path.name}.cleaned")
            n_kept = 0
            with open(cleaned, "w", encoding="utf-8", newline="\n") as file:
                for index, after in one.rows(path, in_parts):
                    if one.following and one.following.applies_to(after):
                        one.following.step.add(n_kept, after.text)  # type: ignore[union-attr]
                    write_row(file, index, after)
                    n_kept += 1
            cleaned.replace(path)
            if one.following:
                one.following.step.finish()  # type: ignore[union-attr]

    def _passes(self) -> list[_Pass]:
        passes = [_Pass()]
        for one in self._steps:
            if isinstance(one.step, CorpusStep):
                passes[-1].following = one
                passes.append(_Pass())
            passes[-1].steps.append(one)
        return passes

    def step_reports(self) -> list[StepReport]:
        """What each step did, in their order."""
        for one in self._steps:
            one.report.figures = one.report.figures or _figures(one.step)
        return [one.report for one in self._steps]

    def report(self) -> list[JsonObject]:
        """The steps' entries in the report of the corpus."""
        reports = self.step_reports()
        return [report.to_dict(one.config) for one, report in zip(self._steps, reports, strict=True)]


def _figures(step: object) -> JsonObject:
    return step.figures() if isinstance(step, HasFigures) else {}
