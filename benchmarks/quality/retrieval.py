"""A published sentence encoder (all-MiniLM-L6-v2) as a retriever, compared with BM25 and sentence-transformers.

Cranfield (Cleverdon 1967): 1,400 abstracts of aerodynamics and 225 questions with the abstracts that answer them. Figures
are nDCG@10 (Järvelin & Kekäläinen 2002) with the judged grades as gains, the mean over questions. MiniLM ranks by cosine,
of texts cut at its 256 tokens; BM25 is bm25s with its defaults and English stop words removed.
"""

from __future__ import annotations

import gzip
import html
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import DATA, run_parakit, work_folder
from benchmarks.registry import NO_TARGET, Figures, benchmark

DEPTH = 10
Grades = Mapping[int, Mapping[str, int]]  # question -> document -> grade


@benchmark("retrieval", {
    "minilm.gain_over_bm25": ("> 0", "MiniLM on Cranfield: nDCG@10 above BM25's"),
    "minilm.ndcg_10": (NO_TARGET, "MiniLM: nDCG@10"),
    "bm25.ndcg_10": (NO_TARGET, "BM25: nDCG@10"),
    "peer.ndcg_10_difference": ("<= 0.0001", "nDCG@10 against sentence-transformers: difference"),
    "peer.vector_difference": ("<= 1e-05", "vectors against sentence-transformers: largest difference"),
})  # fmt: skip
def retrieval(*, model: Path | None = None, data: Path = DATA, work: Path | None = None) -> Figures:
    """`model` None: the one that `make real-models` fetched."""
    import parakit
    from tests.real_models import find_model

    source = model or find_model("minilm")
    if source is None:
        raise SystemExit("retrieval: no model; `make real-models` fetches it")
    names, documents, questions, grades = read_cranfield(data / "cranfield")
    with work_folder(work) as folder:
        if not (folder / "encoder").exists():
            run_parakit("import", source, "--output", folder / "encoder")
        encoder = parakit.load(folder / "encoder", device="cpu")
        own = [encoder.embed(texts) for texts in (documents, questions)]
    peer = _peer_vectors(source, documents, questions)
    figures = {
        name: _ndcg_of(scores, names, grades)
        for name, scores in {
            "minilm": own[1] @ own[0].T,
            "peer": peer[1] @ peer[0].T,
            "bm25": _bm25(documents, questions),
        }.items()
    }
    difference = max(float(np.abs(a - b).max()) for a, b in zip(own, peer, strict=True))
    return {
        "documents": len(documents),
        "questions": len(questions),
        "minilm": {
            "ndcg_10": figures["minilm"],
            "gain_over_bm25": round(figures["minilm"] - figures["bm25"], 4),
        },
        "bm25": {"ndcg_10": figures["bm25"]},
        "peer": {
            "ndcg_10": figures["peer"],
            "ndcg_10_difference": round(abs(figures["minilm"] - figures["peer"]), 6),
            "vector_difference": float(f"{difference:.2g}"),
        },
    }


def read_cranfield(folder: Path) -> tuple[list[str], list[str], list[str], Grades]:
    """Numbers and texts of the documents, the questions in order, and the judgements, which number questions from 1."""
    with gzip.open(folder / "cran.all.1400.xml.gz", "rt", encoding="utf-8") as file:
        found = re.findall(r"<docno>\s*(\d+)\s*</docno>.*?<text>(.*?)</text>", file.read(), re.DOTALL)
    titles = re.findall(r"<title>(.*?)</title>", (folder / "cran.qry.xml").read_text("utf-8"), re.DOTALL)
    grades: dict[int, dict[str, int]] = {}
    for line in (folder / "cranqrel.trec.txt").read_text("utf-8").splitlines():
        question, _, document, grade = line.split()
        grades.setdefault(int(question), {})[document] = int(grade)
    return [name for name, _ in found], [_plain(text) for _, text in found], list(map(_plain, titles)), grades


def ndcg(ranking: Sequence[str], grades: Mapping[str, int], depth: int = DEPTH) -> float:
    """Discounted gain of the first `depth` documents, as a share of that of the best order; 0 where nothing is relevant."""
    discounts = [1 / math.log2(place + 2) for place in range(depth)]
    best = sorted((max(grade, 0) for grade in grades.values()), reverse=True)
    ideal = sum(gain * discount for gain, discount in zip(best, discounts, strict=False))
    found = [max(grades.get(name, 0), 0) for name in ranking[:depth]]
    return (
        sum(gain * discount for gain, discount in zip(found, discounts, strict=False)) / ideal
        if ideal
        else 0.0
    )


def _ndcg_of(scores: np.ndarray, names: Sequence[str], grades: Grades) -> float:
    """Mean over the questions; scores (questions, documents)."""
    rankings = np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
    values = [
        ndcg([names[i] for i in row], grades[number])
        for number, row in enumerate(rankings, 1)
        if number in grades
    ]
    return round(statistics.fmean(values), 4)


def _bm25(documents: Sequence[str], questions: Sequence[str]) -> np.ndarray:
    import bm25s

    index = bm25s.BM25()
    index.index(bm25s.tokenize(documents, stopwords="en", show_progress=False), show_progress=False)
    words = bm25s.tokenize(questions, stopwords="en", show_progress=False, return_ids=False)
    return np.stack([index.get_scores(tokens) for tokens in words])


def _peer_vectors(source: Path, *texts: Sequence[str]) -> list[np.ndarray]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(source), device="cpu")
    return [model.encode(list(one), show_progress_bar=False) for one in texts]


def _plain(text: str) -> str:
    return " ".join(html.unescape(text).split())
