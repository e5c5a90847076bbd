"""`training_growth` fits exponents, and counts the memory of what it measures."""

from __future__ import annotations

import pytest

from benchmarks.speed import training_growth as growth


def test_the_exponent_of_a_square() -> None:
    assert growth.exponent([1, 2, 4, 8], [3, 12, 48, 192]) == pytest.approx(2)


def test_series_at_small_sizes() -> None:
    figures = growth.training_growth(widths=(32, 64), rows=(1, 2), contexts=(8, 16), steps=1)
    assert figures["series"]["parameters"][0]["parameters"] < figures["series"]["parameters"][1]["parameters"]
    assert set(figures["exponents"]) == {"parameters", "tokens", "context"}
