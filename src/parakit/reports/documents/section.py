"""The section of a report on answers from documents: how well passages are found, what the models answer, and examples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parakit.common.files import JsonObject
from parakit.common.formatting import number, percent
from parakit.reports.documents.summary import ANSWERS, INDEX, AnswersSummary, IndexSummary
from parakit.reports.summary_schema import BuildSummary

SHARES = {
    "closed_book": "right, the question alone (closed-book)",
    "open_book": "right, with the passages that were found (open-book)",
    "with_the_passage": "right, with the right passage alone",
    "refused_answerable": "refused, although the documents have the answer",
    "refused_unanswerable": "refused, the documents do not have the answer",
}
COUNTS = {
    "n_citations": "citations",
    "citations_in_their_passage": "citations whose words are in their passage",
    "n_unsupported": "sentences that no passage supports",
    "n_wrong_marks": "marks at the wrong passage, corrected",
    "lost_in_retrieval": "wrong, the document was not found",
    "lost_in_reading": "wrong, the document was found",
    "refused_by_the_threshold": "refused by the threshold, before the model",
}
_SEARCHES = {"words": "words", "vectors": "vectors", "fused": "both, fused by rank", "reranked": "reranked"}
_MEASURES = {"recall@1": "recall@1", "recall@5": "recall@5", "recall@10": "recall@10", "ndcg@10": "nDCG@10"}


def answers_of(summary: BuildSummary) -> AnswersSummary | None:
    """The measured answers; None for a build without an index, or where no question had an answer to compare with."""
    found = measured_of(summary)
    return found if found and found.answers else None


def measured_of(summary: BuildSummary) -> AnswersSummary | None:
    """What was measured of the index; None where there were no questions."""
    found = summary.stages.get(ANSWERS)
    return found if isinstance(found, AnswersSummary) and found.retrieval else None


def documents_section(summary: BuildSummary) -> JsonObject | None:
    """The facts of the index, the tables and the examples; None for a build without an index."""
    index, found = summary.stages.get(INDEX), measured_of(summary)
    if not isinstance(index, IndexSummary):
        return None
    return {
        "facts": _facts(index),
        "models": list(found.answers) if found else [],
        "n_questions": found.retrieval["n_questions"] if found else 0,
        "measures": [*_MEASURES.values(), "mean reciprocal rank"],
        "searches": _search_rows(found.retrieval) if found else [],
        "rows": answer_rows(found) if found and found.answers else [],
        "samples": found.samples if found else (),
    }


def answer_rows(found: AnswersSummary) -> list[tuple[str, list[tuple[str, str]]]]:
    """A row for each figure: its name, and for each model the value and its interval."""
    rows = []
    for name, title in SHARES.items():
        cells = [_share(figures.get(name)) for figures in found.answers.values()]
        rows += [(title, cells)] if any(value for value, _ in cells) else []
    for name, title in COUNTS.items():
        rows.append((title, [(number(figures.get(name)), "") for figures in found.answers.values()]))
    return rows


def answer_line(found: AnswersSummary) -> str:
    """The last model's figures, in a line for the terminal."""
    figures = list(found.answers.values())[-1]
    shares = {name: _share(figures.get(name))[0] for name in SHARES}
    return (
        f"{number(figures['n_questions'])} held-out questions: right open-book {shares['open_book']}, closed-book"
        f" {shares['closed_book']}; refused {shares['refused_unanswerable']} of those without an answer,"
        f" {shares['refused_answerable']} of those with one; {number(figures['citations_in_their_passage'])} of"
        f" {number(figures['n_citations'])} citations are in their passage"
    )


def _share(value: Mapping[str, Any] | None) -> tuple[str, str]:
    if not value:
        return "", ""
    return percent(value["value"]), f"{percent(value['low'])} – {percent(value['high'])}"


def _facts(index: IndexSummary) -> list[tuple[str, str]]:
    facts = [("documents", number(index.n_files)), ("passages", number(index.n_passages))]
    encoder = "/".join(Path(index.encoder).parts[-2:]) if index.encoder else "none: words alone"
    facts.append(("encoder", encoder))
    if threshold := index.threshold:
        parts = threshold["weights"].items()
        weights = " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in parts)
        facts.append(("refused below", f"{threshold['value']:.3g} of {weights}"))
        kinds = ("unanswerable", "answerable")
        shares = [percent(threshold["figures"][f"held_out_refused_{kind}"]) for kind in kinds]
        facts.append(("of the threshold alone", f"{shares[0]} without an answer, {shares[1]} with one"))
    return facts


def _search_rows(retrieval: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    names = [*_MEASURES, "mean_reciprocal_rank"]
    return [
        (_SEARCHES.get(search, search), [_figure(figures[name]) for name in names])
        for search, figures in retrieval["searches"].items()
    ]


def _figure(value: Mapping[str, float]) -> tuple[str, str]:
    return f"{value['value']:.3f}", f"{value['low']:.3f} – {value['high']:.3f}"
