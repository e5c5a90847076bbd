"""An index of Cranfield's 1,400 abstracts: words, vectors, both fused, and a reranker that was tuned on half of the questions.

Every kind of search is recomputed by others on the same passages: bm25s alone for words, sentence-transformers for vectors,
and reciprocal ranks over their rankings. Figures are nDCG@10 with the judged grades, documents ranked by their best passage,
the mean over questions. The reranker is all-MiniLM-L6-v2 with one score, tuned on the odd questions with the passages that
the fused search finds and the judges did not name as negatives; all four searches are then measured on the even questions.
Their differences to the fused one are paired, with 95 % intervals. With `--work` an interrupted run resumes.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import DATA, kept_or_measured, run_parakit, work_folder
from benchmarks.quality.retrieval import Grades, ndcg, read_cranfield
from benchmarks.registry import NO_TARGET, Figures, benchmark

PASSAGES = 100  # whose documents are ranked
N_NEGATIVES = 3  # of each relevant passage
Search = Callable[[str], list[str]]  # the names of documents, best first


@benchmark("document_search", {
    "fused.gain_over_words": ("> 0", "Cranfield: nDCG@10 of words and vectors fused, above words alone"),
    "fused.gain_over_vectors": ("> 0", "Cranfield: nDCG@10 of words and vectors fused, above vectors alone"),
    "*.peer_difference": ("<= 0.001", "{0}: nDCG@10 against an independent computation, difference"),
    "held_out.reranked": (NO_TARGET, "reranked, on the questions that the reranker was not tuned on: nDCG@10"),
    "held_out.fused": (NO_TARGET, "fused, on the same questions: nDCG@10"),
    "query_ms": ("<= 50", "fused search: milliseconds of one core a question"),
})  # fmt: skip
def document_search(
    *,
    model: Path | None = None,
    data: Path = DATA,
    work: Path | None = None,
    documents: int = 1_400,
    questions: int = 225,
    reranker: bool = True,
    max_steps: int = 300,
) -> Figures:
    """`model` None: the one that `make real-models` fetched. `documents`, `questions`: so many of each. `reranker`: tune and
    measure one, which takes most of the time.
    """
    from tests.real_models import find_model

    source = model or find_model("minilm")
    if source is None:
        raise SystemExit("document_search: no model; `make real-models` fetches it")
    names, texts, queries, grades = read_cranfield(data / "cranfield")
    kept = {name: text for name, text in zip(names[:documents], texts, strict=False) if text}
    numbers = [n for n in range(1, questions + 1) if set(grades.get(n, {})) & set(kept)]
    wanted = {n: {name: grade for name, grade in grades[n].items() if name in kept} for n in numbers}
    with work_folder(work) as folder:
        index = _indexed(folder, kept, source)
        searches = _searches(index)

        def measured(searches: dict[str, Search]) -> dict[str, list[float]]:
            return {name: _measured(search, numbers, queries, wanted) for name, search in searches.items()}

        found = kept_or_measured(work and folder / "own.json", lambda: measured(searches))
        others = kept_or_measured(
            work and folder / "peers.json", lambda: measured(_peer_searches(index, source))
        )
        means = {name: statistics.fmean(values) for name, values in found.items()}
        figures: Figures = {
            name: {
                "ndcg_10": round(mean, 4),
                "peer_ndcg_10": round(statistics.fmean(others[name]), 4),
                "peer_difference": round(abs(mean - statistics.fmean(others[name])), 6),
            }
            for name, mean in means.items()
        }
        figures["differences_to_fused"] = _differences(found, "fused")
        for name in ("words", "vectors"):
            figures["fused"][f"gain_over_{name}"] = round(means["fused"] - means[name], 4)
        figures |= {"documents": len(kept), "questions": len(numbers), "passages": len(index)}
        figures["query_ms"] = _query_ms(searches["fused"], queries[:20])
        if reranker:
            figures["held_out"] = _reranked(folder, index, source, numbers, queries, wanted, found, max_steps)
    return figures


def _indexed(folder: Path, documents: dict[str, str], encoder: Path):  # type: ignore[no-untyped-def]
    from parakit.assistants.retrieval.config import IndexConfig
    from parakit.assistants.retrieval.indexing import index_documents
    from parakit.assistants.retrieval.search import DocumentIndex

    docs = folder / "documents"
    docs.mkdir(exist_ok=True)
    for name, text in documents.items():
        path = docs / f"{name}.txt"
        if not path.exists():
            path.write_text(text + "\n", encoding="utf-8")
    index_documents(IndexConfig(paths=(str(docs),), encoder=str(encoder)), folder / "index", device="cpu")
    return DocumentIndex(folder / "index", device="cpu")


def _searches(index) -> dict[str, Search]:  # type: ignore[no-untyped-def]
    from parakit.assistants.retrieval.config import SearchConfig

    def search(by: str) -> Search:
        config = SearchConfig(by=by, n_passages=PASSAGES)  # type: ignore[arg-type]
        return lambda query: _documents(hit.passage.source for hit in index.search(query, config).hits)

    return {by: search(by) for by in ("words", "vectors", "fused")}


def _peer_searches(index, source: Path) -> dict[str, Search]:  # type: ignore[no-untyped-def]
    """The same searches over the same passages by other programs."""
    import bm25s
    from sentence_transformers import SentenceTransformer

    from parakit.assistants.retrieval.words import singular

    passages = index.passages()
    texts, sources = [one.text for one in passages], [one.source for one in passages]
    rules = {"stopwords": "en", "stemmer": lambda words: [singular(word) for word in words]}
    table = bm25s.BM25()
    table.index(bm25s.tokenize(texts, show_progress=False, **rules), show_progress=False)
    model = SentenceTransformer(str(source), device="cpu")
    vectors = model.encode(texts, normalize_embeddings=True, show_progress_bar=False)

    def by_words(query: str) -> list[int]:
        tokens = bm25s.tokenize(query, show_progress=False, **rules)
        rows, scores = table.retrieve(tokens, k=min(PASSAGES, len(texts)), show_progress=False)
        return [int(row) for row, score in zip(rows[0], scores[0], strict=True) if score > 0]

    def by_vectors(query: str) -> list[int]:
        cosines = vectors @ model.encode(query, normalize_embeddings=True, show_progress_bar=False)
        return [int(row) for row in np.argsort(-cosines, kind="stable")[:PASSAGES]]

    def fused(query: str) -> list[int]:
        scores: dict[int, float] = {}
        for ranking in (by_words(query), by_vectors(query)):
            for rank, row in enumerate(ranking):
                scores[row] = scores.get(row, 0.0) + 1 / (61 + rank)
        return sorted(scores, key=lambda row: (-scores[row], row))[:PASSAGES]

    rankings = {"words": by_words, "vectors": by_vectors, "fused": fused}
    return {
        name: lambda query, ranking=ranking: _documents(sources[row] for row in ranking(query))  # type: ignore[misc]
        for name, ranking in rankings.items()
    }


def _documents(sources) -> list[str]:  # type: ignore[no-untyped-def]
    return list(dict.fromkeys(source.rpartition("/")[2].removesuffix(".txt") for source in sources))


def _measured(search: Search, numbers: Sequence[int], queries: Sequence[str], grades: Grades) -> list[float]:
    return [ndcg(search(queries[number - 1]), grades[number]) for number in numbers]


def _query_ms(search: Search, queries: Sequence[str]) -> float:
    times = []
    for query in queries:
        started = time.process_time()
        search(query)
        times.append(time.process_time() - started)
    return round(statistics.median(times) * 1e3, 1)


def _reranked(  # type: ignore[no-untyped-def]
    folder: Path,
    index,
    source: Path,
    numbers: Sequence[int],
    queries: Sequence[str],
    grades: Grades,
    found: dict[str, list[float]],
    max_steps: int,
) -> Figures:
    """Tune on the odd questions, measure on the even ones."""
    from parakit.assistants.retrieval.config import SearchConfig

    rows = folder / "scored.jsonl"
    with open(rows, "w", encoding="utf-8") as file:
        for number in (n for n in numbers if n % 2):
            hits = index.search(queries[number - 1], SearchConfig(n_passages=40)).hits
            relevant = {name for name, grade in grades[number].items() if grade > 0}
            marked = [(hit.passage, _documents([hit.passage.source])[0] in relevant) for hit in hits]
            right = [one for one, is_right in marked if is_right]
            wrong = [one for one, is_right in marked if not is_right][: N_NEGATIVES * max(len(right), 1)]
            for passages, score in ((right, 1.0), (wrong, 0.0)):
                for one in passages:
                    row = {"text": queries[number - 1], "text_pair": one.text, "score": score}
                    file.write(json.dumps(row) + "\n")
    tuned = folder / "reranker"
    if not tuned.exists():
        run_parakit(
            *("finetune", source, "--task", "regress", "--examples", rows, "--output", tuned),
            *("--max-steps", str(max_steps)),
            timeout=7200,
        )
    config = SearchConfig(n_passages=PASSAGES, reranker=str(tuned), n_reranked=30)

    def search(query: str) -> list[str]:
        return _documents(hit.passage.source for hit in index.search(query, config).hits)

    even = [i for i, number in enumerate(numbers) if number % 2 == 0]
    scores = {name: [values[i] for i in even] for name, values in found.items()}
    scores["reranked"] = _measured(search, [numbers[i] for i in even], queries, grades)
    figures: Figures = {name: round(statistics.fmean(values), 4) for name, values in scores.items()}
    return figures | {"differences_to_fused": _differences(scores, "fused"), "questions": len(even)}


def _differences(scores: dict[str, list[float]], to: str) -> Figures:
    """Of each search: its mean minus that of `to`, with a 95 % interval over the questions."""
    from parakit.evaluation.intervals import paired_mean_difference

    found = {
        name: paired_mean_difference(np.array(scores[to]), np.array(values))
        for name, values in scores.items()
        if name != to
    }
    return {
        name: [round(value, 4) for value in (one.difference, one.low, one.high)]
        for name, one in found.items()
    }
