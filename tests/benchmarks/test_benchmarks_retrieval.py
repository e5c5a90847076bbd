"""The benchmark of retrieval: its measure against scikit-learn's, and its reading of the public files."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality.retrieval import ndcg, read_cranfield


def test_the_measure_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(0)
    for _ in range(20):
        grades = generator.integers(0, 4, 30)
        scores = generator.permutation(30).astype(float)
        ranking = [str(i) for i in np.argsort(-scores)]
        wanted = metrics.ndcg_score([grades], [scores], k=10)
        assert ndcg(ranking, {str(i): int(g) for i, g in enumerate(grades)}) == pytest.approx(wanted)
    assert ndcg(["1", "2"], {"3": 0}) == 0.0


def test_every_document_question_and_judgement_is_read(public_data) -> None:
    names, documents, questions, grades = read_cranfield(public_data("cranfield"))
    assert (len(names), len(documents), len(questions)) == (1400, 1400, 225)
    assert sorted(grades) == list(range(1, 226))
    assert sum(map(len, grades.values())) == 1837
    assert questions[0].startswith("what similarity laws must be obeyed")
    assert documents[0].startswith("experimental investigation of the aerodynamics of a wing")
    assert all(name in names for judged in grades.values() for name in judged)
