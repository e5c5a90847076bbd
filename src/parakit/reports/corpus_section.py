"""The corpus in the report of a build: its size, its splits, and the first files that were left out."""

from __future__ import annotations

from dataclasses import dataclass

from parakit.common.formatting import byte_size, number
from parakit.reports import charts
from parakit.reports.formatting import stage
from parakit.reports.summary_parts import SkippedFile
from parakit.reports.summary_schema import BuildSummary, CorpusSummary

MAX_SKIPPED = 12


@dataclass(frozen=True)
class CorpusSection:
    """The corpus: facts, documents by split, and the first files that were left out."""

    facts: list[tuple[str, str]]
    splits: list[charts.Slice]
    skipped: tuple[SkippedFile, ...]
    more: int


def corpus_section(summary: BuildSummary) -> CorpusSection | None:
    """None for a build without a corpus."""
    figures = stage(summary, "corpus")
    if not isinstance(figures, CorpusSummary):
        return None
    labels = {
        "documents": "documents",
        "files": "files",
        "duplicates": "duplicates dropped",
        "bad_bytes": "bad bytes replaced",
    }
    facts = [] if figures.bytes is None else [("size", byte_size(figures.bytes))]
    facts += [
        (label, number(getattr(figures, key)))
        for key, label in labels.items()
        if key in figures.model_fields_set
    ]
    documents = {"train": figures.train_documents or 0}
    documents["held out"] = (figures.documents or 0) - documents["train"]
    return CorpusSection(
        facts,
        charts.slices(documents, number) if figures.train_documents and figures.documents else [],
        figures.skipped[:MAX_SKIPPED],
        max(len(figures.skipped) - MAX_SKIPPED, 0),
    )
