"""Every figure equals that of the library which defines it (scikit-learn, scipy, sacrebleu, rouge-score), degenerate
inputs included; intervals are repeatable and as wide as theory says.
"""

from __future__ import annotations

import math
import sys
import warnings

import numpy as np
import pytest
import sacrebleu
import scipy.stats
import sklearn.metrics as reference_metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.evaluation.intervals import bootstrap, bootstrap_mean
from parakit.evaluation.metrics import classes, correlation, retrieval, translations

PAIRS = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 3), min_size=n, max_size=n),
        st.lists(st.integers(0, 3), min_size=n, max_size=n),
    )
)


@settings(max_examples=25)
@given(PAIRS)
def test_accuracy_f1_and_matthews_equal_scikit_learns_whatever_occurs(pair):
    predictions, labels = pair
    counts = classes.confusion(predictions, labels, range(4))
    seen = sorted({*predictions, *labels})
    np.testing.assert_array_equal(
        counts, reference_metrics.confusion_matrix(labels, predictions, labels=range(4))
    )
    assert classes.accuracy(counts) == pytest.approx(reference_metrics.accuracy_score(labels, predictions))
    for average in ("macro", "micro"):
        expected = reference_metrics.f1_score(
            labels, predictions, labels=seen, average=average, zero_division=0
        )
        assert classes.f1(counts, average) == pytest.approx(expected)
    positive = reference_metrics.f1_score(labels, predictions, labels=[2], average="macro", zero_division=0)
    assert classes.f1(counts, "binary", positive=2) == pytest.approx(positive)
    with warnings.catch_warnings():  # scikit-learn warns where there is one label only
        warnings.simplefilter("ignore")
        expected = reference_metrics.matthews_corrcoef(labels, predictions)
    assert classes.matthews(counts) == pytest.approx(expected, abs=1e-12)


def test_one_class_only_and_constant_predictions_have_figures():
    alone = classes.confusion(["a"] * 5, ["a"] * 5, ["a", "b"])
    assert (classes.accuracy(alone), classes.f1(alone, "macro"), classes.matthews(alone)) == (1, 1, 0)
    assert classes.f1(alone, "binary", positive=1) == 0
    constant = classes.confusion(["a"] * 4, ["a", "a", "b", "b"])
    assert (classes.accuracy(constant), classes.matthews(constant)) == (0.5, 0)
    figure = classes.bootstrap_counts(alone, classes.matthews)
    assert (figure.value, figure.low, figure.high) == (0, 0, 0)


def test_the_bootstrap_over_cells_is_the_bootstrap_over_items():
    generator = rng(0, "cells")
    labels = generator.integers(0, 2, 300)
    predictions = np.where(generator.random(300) < 0.8, labels, 1 - labels)
    by_cells = classes.bootstrap_counts(
        classes.confusion(predictions.tolist(), labels.tolist()), classes.matthews, n_resamples=4000
    )
    by_items = bootstrap(
        lambda items: reference_metrics.matthews_corrcoef(labels[items], predictions[items]),
        300,
        n_resamples=120,
    )
    assert by_cells.value == pytest.approx(by_items.value)
    assert by_cells.low == pytest.approx(by_items.low, abs=0.03)
    assert by_cells.high == pytest.approx(by_items.high, abs=0.03)
    assert by_cells == classes.bootstrap_counts(
        classes.confusion(predictions.tolist(), labels.tolist()), classes.matthews, n_resamples=4000
    )


def test_a_mean_is_as_sure_as_the_normal_law_says():
    values = rng(1, "normal").normal(3, 2, 400)
    figure = bootstrap_mean(values, n_resamples=4000)
    half = 1.96 * values.std() / math.sqrt(400)
    assert figure.value == pytest.approx(values.mean())
    assert figure.high - figure.value == pytest.approx(half, rel=0.1)
    assert figure.value - figure.low == pytest.approx(half, rel=0.1)
    weighted = bootstrap_mean(np.array([3.0, 1.0]), np.array([4.0, 4.0]))
    assert (weighted.value, weighted.low, weighted.high) == (0.5, 0.25, 0.75)


SCORES = st.integers(2, 30).flatmap(
    lambda n: st.tuples(
        *[st.lists(st.integers(-5, 5).map(float) | st.floats(-1e6, 1e6), min_size=n, max_size=n)] * 2
    )
)


@settings(max_examples=40)
@given(SCORES)
def test_correlations_equal_scipys_ties_included(pair):
    x, y = map(np.array, pair)
    with warnings.catch_warnings():  # scipy warns where a side is (nearly) constant
        warnings.simplefilter("ignore")
        pearson, spearman = scipy.stats.pearsonr(x, y)[0], scipy.stats.spearmanr(x, y)[0]
    np.testing.assert_array_equal(correlation.ranks(x), scipy.stats.rankdata(x))
    if np.ptp(x) > 1e-6 * np.abs(x).max() and np.ptp(y) > 1e-6 * np.abs(y).max():
        assert correlation.pearson(x, y) == pytest.approx(pearson, abs=1e-6)
    if not np.isnan(spearman):
        assert correlation.spearman(x, y) == pytest.approx(spearman, abs=1e-9)


def test_constant_scores_correlate_with_nothing():
    assert correlation.pearson([1, 1, 1], [1, 2, 3]) == correlation.spearman([1, 2, 3], [2, 2, 2]) == 0
    assert correlation.pearson([1.0], [2.0]) == 0
    assert correlation.pearson([1e300, 2e300, 3e300], [1, 2, 3]) == pytest.approx(1)


WRITTEN = ["the cat sat on the mat .", "He isn't here", "", "eins zwei drei vier fünf sechs"]
WANTED = ["the cat is on the mat .", "He is not here.", "an empty one", "eins zwei drei vier fünf sieben"]


def test_bleu_and_chrf_are_sacrebleus_and_bear_its_signature():
    for own_metric, metric in (
        (translations.bleu, sacrebleu.metrics.BLEU()),
        (translations.chrf, sacrebleu.metrics.CHRF()),
    ):
        found = own_metric(WRITTEN, WANTED, n_resamples=200)
        assert found.value == metric.corpus_score(WRITTEN, [WANTED]).score
        assert found.signature == str(metric.get_signature())
        assert 0 <= found.low < found.value < found.high <= 100
        assert found == own_metric(WRITTEN, WANTED, n_resamples=200)
        nothing = own_metric(["", ""], ["a b", "c"], n_resamples=10)
        assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)
        assert own_metric(WANTED[:1], WANTED[:1], n_resamples=10).low == pytest.approx(100)


def test_rouge_is_rouge_scores():
    kinds = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL", "rouge_lsum": "rougeLsum"}
    written = [*WRITTEN, "The cat sat.\nThe dog ran away.\nIt rained."]
    wanted = [*WANTED, "It rained all day.\nThe dog ran."]
    found = translations.rouge(written, wanted, n_resamples=100)
    scorer = rouge_scorer.RougeScorer(list(kinds.values()))
    rows = [scorer.score(right, text) for text, right in zip(written, wanted, strict=True)]
    assert found.keys() == kinds.keys()
    assert found["rouge_lsum"].value > found["rouge_l"].value
    for name, kind in kinds.items():
        assert found[name].value == pytest.approx(100 * np.mean([row[kind].fmeasure for row in rows]))
        assert found[name].low <= found[name].value <= found[name].high


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(UserError, match=r"sacrebleu is not installed\n.*parakit\[eval\]"):
        translations.bleu(WRITTEN, WANTED)


def test_ranks_of_partners_count_all_that_are_as_near():
    generator = rng(2, "retrieval")
    vectors, candidates = generator.normal(size=(50, 8)), generator.normal(size=(30, 8))
    partner = generator.integers(0, 30, 50)
    expected = []
    for vector, own in zip(vectors, partner, strict=True):
        similar = [float(vector @ candidate) for candidate in candidates]
        expected.append(1 + sum(one > similar[own] for i, one in enumerate(similar) if i != own))
    assert retrieval.retrieval_ranks(vectors, candidates, partner).tolist() == expected
    alike = retrieval.retrieval_ranks(np.ones((4, 2)), np.ones((3, 2)), np.array([0, 1, 2, 0]))
    assert alike.tolist() == [3, 3, 3, 3]
