"""Passages of an index, and answers with citations, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from parakit.cli.rendering.safe_text import plain

if TYPE_CHECKING:
    from parakit.assistants.retrieval.asking import DocumentAnswer
    from parakit.assistants.retrieval.search import Hit

QUOTE_CHARS = 200


def hit_lines(number: int, hit: Hit) -> list[str]:
    """A passage with its place and scores, its text indented."""
    text = "\n".join(f"    {line}" for line in hit.passage.text.splitlines())
    return [f"[{number}] {place_and_scores(hit)}", plain(text), ""]


def place_and_scores(hit: Hit) -> str:
    """Where a passage is from, and its scores."""
    scores = [("words", hit.words), ("cosine", hit.vectors), ("reranker", hit.reranker)]
    shown = ", ".join(f"{name} {value:.3g}" for name, value in scores if value is not None)
    return plain(f"{hit.passage.place} (score {hit.score:.4g}{f'; {shown}' if shown else ''})")


def citation_lines(answer: DocumentAnswer) -> Iterator[str]:
    """The citations, each with its place and its words."""
    for one in answer.cited.citations:
        quote = " ".join(one.quote.split())
        shortened = quote if len(quote) <= QUOTE_CHARS else quote[: QUOTE_CHARS - 1] + "…"
        yield plain(f"[{one.number}] {one.place}: “{shortened}”")


def context_lines(answer: DocumentAnswer) -> Iterator[str]:
    """What went in, what did not, and why a question was refused."""
    prepared, context = answer.prepared, answer.prepared.context
    if prepared.query != prepared.question:
        yield plain(f"searched for: {prepared.query}")
    for number, hit in enumerate(context.used if context else prepared.hits, 1):
        yield f"passage {number}: {place_and_scores(hit)}"
    if context:
        yield f"context: {context.n_tokens:,} of {context.budget:,} tokens"
        if prepared.n_dropped:
            yield f"left out: the oldest {prepared.n_dropped} messages of the conversation"
        for hit in context.omitted:
            yield f"left out, does not fit: {place_and_scores(hit)}"
    if prepared.score is not None and prepared.threshold is not None:
        yield f"score of the question: {prepared.score:.3g}, threshold {prepared.threshold:.3g}"
    if answer.refused:
        yield f"refused by: {answer.refused}"
    for sentence in answer.cited.unsupported:
        yield plain(f"no passage supports: {sentence}")
