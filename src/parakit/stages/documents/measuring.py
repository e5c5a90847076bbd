"""How well an index finds documents, and where answers from it are lost: in retrieval or in reading.

Every kind of search is measured on the same questions, with bootstrap intervals, and compared with the one that is used by
paired tests. Answers are measured closed-book (the question alone), open-book (as `parakit ask` answers) and with the right
passage given; an answer is right where it has the words of one that is expected, one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from parakit.assistants.retrieval.asking import DocumentAnswer, DocumentAssistant
from parakit.assistants.retrieval.config import SearchConfig
from parakit.assistants.retrieval.measures import ndcg, ranked_sources, recall, reciprocal_rank
from parakit.assistants.retrieval.prompting import request
from parakit.assistants.retrieval.questions import IndexQuestion
from parakit.assistants.retrieval.search import DocumentIndex
from parakit.assistants.retrieval.threshold import Threshold, fit_threshold
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import progress
from parakit.data.conversations.conversation import Message
from parakit.evaluation.intervals import bootstrap_mean, paired_mean_difference, wilson_interval
from parakit.evaluation.metrics.answers import words

DEPTH = 100  # passages whose documents are ranked
KS = (1, 5, 10)


def measure_retrieval(
    index: DocumentIndex, questions: Sequence[IndexQuestion], reranker: str | None = None
) -> JsonObject:
    """Recall at 1, 5 and 10, nDCG@10 and the mean reciprocal rank of each kind of search, and the paired differences of
    nDCG@10 to the fused one. Questions without relevant documents do not count.
    """
    answerable = [one for one in questions if one.relevant]
    if not answerable:
        raise UserError("no question has relevant documents", "name them in `relevant`")
    by_search: dict[str, dict[str, np.ndarray]] = {}
    searches = _searches(index, reranker)
    with progress("searches", len(searches) * len(answerable), "questions") as bar:
        for name, config in searches.items():
            rows = []
            for one in answerable:
                ranking = ranked_sources(index.search(one.question, config).hits)
                rows.append(_figures(ranking, one.relevant))
                bar.advance()
            by_search[name] = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    used = list(searches)[-1]
    return {
        "n_questions": len(answerable),
        "searches": {
            name: {key: _estimate(values) for key, values in figures.items()}
            for name, figures in by_search.items()
        },
        "compared_with": used,
        "differences": {
            name: _difference(by_search[name]["ndcg@10"], by_search[used]["ndcg@10"])
            for name in searches
            if name != used
        },
    }


def _searches(index: DocumentIndex, reranker: str | None) -> dict[str, SearchConfig]:
    """The kinds of search that the index has, the one that is used last."""
    found = {"words": SearchConfig(by="words", n_passages=DEPTH)}
    if index.has_vectors:
        found["vectors"] = SearchConfig(by="vectors", n_passages=DEPTH)
        found["fused"] = SearchConfig(n_passages=DEPTH)
    if reranker:
        found["reranked"] = SearchConfig(n_passages=DEPTH, reranker=reranker)
    return found


def _figures(ranking: Sequence[str], relevant: Mapping[str, float]) -> dict[str, float]:
    figures = {f"recall@{k}": recall(ranking, relevant, k) for k in KS}
    return figures | {
        "ndcg@10": ndcg(ranking, relevant, 10),
        "mean_reciprocal_rank": reciprocal_rank(ranking, relevant),
    }


def _estimate(values: np.ndarray) -> JsonObject:
    found = bootstrap_mean(values)
    return {"value": found.value, "low": found.low, "high": found.high}


def _difference(first: np.ndarray, second: np.ndarray) -> JsonObject:
    found = paired_mean_difference(first, second)
    return {"value": found.difference, "low": found.low, "high": found.high, "p_value": found.p_value}


def measure_answers(
    assistant: DocumentAssistant, questions: Sequence[IndexQuestion], rows: list[JsonObject] | None = None
) -> JsonObject:
    """Shares of right answers with the question alone, from the index, and with the right passage; where the wrong ones are
    lost; refusals of questions with and without an answer; the citations. Where every question has an answer, each is
    measured once more with its own documents left out of the search, so that it has none. `rows` receives every answer.
    `UserError` where no question has answers.
    """
    measured = [one for one in questions if one.answers and one.relevant]
    if not measured:
        raise UserError("no question has an answer to compare with", "give `answers`")
    unanswerable = [one for one in questions if not one.relevant]
    without = None if unanswerable else [set(one.relevant) for one in measured]
    unanswerable = unanswerable or measured
    given = [one for one in measured if one.passage]
    with progress("answers", 2 * len(measured) + len(given) + len(unanswerable), "answers") as bar:
        closed = _written(assistant, [(Message("user", one.question),) for one in measured])
        bar.advance(len(measured))
        opened = assistant.ask_many([one.question for one in measured])
        bar.advance(len(measured))
        refused = assistant.ask_many([one.question for one in unanswerable], without)
        bar.advance(len(unanswerable))
        contexts = [(request(one.question, [one.passage]),) for one in given if one.passage]
        with_passage = _written(assistant, contexts)
        bar.advance(len(given))
    right = [has_answer(text, one.answers) for text, one in zip(closed, measured, strict=True)]
    found = [has_answer(one.text, question.answers) for one, question in zip(opened, measured, strict=True)]
    read = [has_answer(text, one.answers) for text, one in zip(with_passage, given, strict=True)]
    retrieved = [_is_retrieved(one, question) for one, question in zip(opened, measured, strict=True)]
    if rows is not None:
        rows += [
            _row(question, one, text, ok)
            for question, one, text, ok in zip(measured, opened, closed, found, strict=True)
        ]
        rows += [_row(question, one) for question, one in zip(unanswerable, refused, strict=True)]
    return {
        "n_questions": len(measured),
        "closed_book": _share(right),
        "open_book": _share(found),
        "with_the_passage": _share(read) if read else None,
        "lost_in_retrieval": sum(not ok and not seen for ok, seen in zip(found, retrieved, strict=True)),
        "lost_in_reading": sum(not ok and seen for ok, seen in zip(found, retrieved, strict=True)),
        "refused_answerable": _share([one.refused is not None for one in opened]),
        "refused_unanswerable": _share([one.refused is not None for one in refused]),
        "refused_by_the_threshold": _by_threshold(opened) + _by_threshold(refused),
        **_citation_figures([*opened, *refused]),
    }


def _row(
    question: IndexQuestion, answer: DocumentAnswer, closed_book: str = "", right: bool | None = None
) -> JsonObject:
    """One answer. `right` None: of a question that the documents do not answer."""
    return {
        "question": question.question,
        "expected": list(question.answers) if right is not None else [],
        "closed_book": closed_book,
        "answer": answer.text,
        "right": right,
        "refused": answer.refused,
        "citations": [
            {"place": one.place, "quote": one.quote, "number": one.number} for one in answer.cited.citations
        ],
    }


def _by_threshold(answers: Sequence[DocumentAnswer]) -> int:
    return sum(one.refused == "threshold" for one in answers)


def _written(assistant: DocumentAssistant, conversations: Sequence[Sequence[Message]]) -> list[str]:
    if not conversations:
        return []
    config = assistant.config
    written = assistant.model.generate(
        conversations, max_new_tokens=config.max_new_tokens, temperature=config.temperature
    )
    return [one or "" for one in written]


def has_answer(text: str, answers: Sequence[str]) -> bool:
    """Whether a text has the words of one of the answers, one after the other, without case, punctuation and articles."""
    written = words(text)
    for answer in answers:
        wanted = words(answer)
        starts = range(len(written) - len(wanted) + 1)
        if wanted and any(written[i : i + len(wanted)] == wanted for i in starts):
            return True
    return False


def _is_retrieved(answer: DocumentAnswer, question: IndexQuestion) -> bool:
    context = answer.prepared.context
    return any(hit.passage.source in question.relevant for hit in (context.used if context else ()))


def _citation_figures(answers: Sequence[DocumentAnswer]) -> JsonObject:
    cited = [one for answer in answers for one in answer.cited.citations]
    return {
        "n_citations": len(cited),
        "citations_in_their_passage": sum(one.quote in one.passage.text and bool(one.quote) for one in cited),
        "n_unsupported": sum(len(answer.cited.unsupported) for answer in answers),
        "n_wrong_marks": sum(answer.cited.n_wrong_marks for answer in answers),
    }


def _share(values: Sequence[bool]) -> JsonObject:
    low, high = wilson_interval(sum(values), len(values))
    return {"value": sum(values) / len(values) if values else 0.0, "low": low, "high": high, "n": len(values)}


def measure_threshold(
    index: DocumentIndex,
    questions: Sequence[IndexQuestion],
    config: SearchConfig | None = None,
    max_refused: float = 0.1,
) -> Threshold:
    """The threshold that fits the questions: those without relevant documents, and each other one once more with its
    documents left out, have no answer.
    """
    config = config or SearchConfig()
    answerable: list[dict[str, float]] = []
    unanswerable: list[dict[str, float]] = []
    with progress("searches", len(questions), "questions") as bar:
        for one in questions:
            signals = index.search(one.question, config).signals
            (answerable if one.relevant else unanswerable).append(signals)
            if one.relevant:
                unanswerable.append(index.search(one.question, config, without=set(one.relevant)).signals)
            bar.advance()
    return fit_threshold(answerable, unanswerable, max_refused)
