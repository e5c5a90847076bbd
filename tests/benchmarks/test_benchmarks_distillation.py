"""What a student gains is worked out seed by seed, against the better of the two rates of those without a teacher."""

from __future__ import annotations

from itertools import islice

import pytest

from benchmarks.distillation.encoder_suite import judged_answers
from benchmarks.distillation.run import gains, interval

SCORES = {
    "teacher": [{"suite_mean": 0.8}] * 3,
    "student": [{"suite_mean": value} for value in (0.80, 0.76, 0.84)],
    "labels_only_slow": [{"suite_mean": value} for value in (0.70, 0.72, 0.74)],
    "labels_only_fast": [{"suite_mean": value} for value in (0.90, 0.71, 0.60)],
    "fresh": [{"suite_mean": 0.5}] * 3,
}


def test_gains_are_paired_by_seed_and_taken_over_the_better_rate() -> None:
    found = gains(SCORES)
    assert found["kept"] == {"median": 1.0, "low": 0.95, "high": 1.05, "n": 3}
    assert found["gain_over_labels_only"]["low"] == pytest.approx(0.04)  # over the slow ones, whose median is higher
    assert found["gain_over_labels_only"]["high"] == pytest.approx(0.1)
    assert found["gain_over_fresh"]["median"] == pytest.approx(0.3)


def test_the_interval_is_students() -> None:
    """Of 1, 2, 3, 4, 5: deviation sqrt(2.5), quantile 2.776 (97.5 %, four degrees of freedom)."""
    found = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found["mean"] == 3.0
    assert found["high"] - found["mean"] == pytest.approx(2.776 * (2.5 / 5) ** 0.5)
    assert found["mean"] - found["low"] == pytest.approx(found["high"] - found["mean"])


def test_answers_to_be_judged_are_right_or_wrong_and_never_met_in_training() -> None:
    trained = {(row["text"], row["text_pair"]) for row in islice(judged_answers(False), 400)}
    tested = list(islice(judged_answers(True), 400))
    assert {row["label"] for row in tested} == {"right", "wrong"}
    assert 150 < sum(row["label"] == "right" for row in tested) < 250
    assert not trained & {(row["text"], row["text_pair"]) for row in tested if row["label"] == "right"}
