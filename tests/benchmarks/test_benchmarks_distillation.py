"""What a student keeps and gains is worked out seed by seed; the interval is Student's."""

from __future__ import annotations

import pytest

from benchmarks.quality.distillation.run import gains, interval

SCORES = {
    "teacher": [{"suite_mean": 0.8}] * 3,
    "student": [{"suite_mean": value} for value in (0.80, 0.76, 0.84)],
    "labels_only": [{"suite_mean": value} for value in (0.70, 0.72, 0.74)],
    "fresh": [{"suite_mean": 0.5}],  # of the first seed alone
}


def test_what_is_kept_and_gained_is_paired_by_seed() -> None:
    found = gains(SCORES)
    assert found["kept"] == {"median": 1.0, "low": 0.95, "high": 1.05, "n": 3}
    assert found["gain_over_labels_only"]["low"] == pytest.approx(0.04)
    assert found["gain_over_labels_only"]["high"] == pytest.approx(0.1)
    assert found["gain_over_fresh"] == {"median": 0.3, "low": 0.3, "high": 0.3, "n": 1}
    assert "gain_over_fresh_interval" not in found


def test_the_interval_is_students() -> None:
    """Of 1, 2, 3, 4, 5: deviation sqrt(2.5), quantile 2.776 (97.5 %, four degrees of freedom)."""
    found = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found["mean"] == 3.0
    assert found["high"] - found["mean"] == pytest.approx(2.776 * (2.5 / 5) ** 0.5)
    assert found["mean"] - found["low"] == pytest.approx(found["high"] - found["mean"])
