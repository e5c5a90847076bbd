"""What the short suite (`make test`, which selects "not long") leaves to the long one: combinations of parameters, and
examples of properties.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import settings

SHORT_SHARE = 3  # a property has a third of its examples in the short suite, and ten at least
_short = False


def choose_suite(markers: str) -> None:
    """Take the suite from the `-m` that pytest was given, before it imports the tests."""
    global _short
    _short = markers == "not long"
    settings.load_profile("short" if _short else "long")


def examples(n: int) -> settings:
    """Hypothesis's `settings` with `n` examples, or with a third of them in the short suite."""
    return settings(max_examples=max(10, n // SHORT_SHARE) if _short else n)


def crossed(names: str, *values: Sequence[Any], strength: int = 1) -> pytest.MarkDecorator:
    """`parametrize` with each value crossed with each; `names` as there. The combinations that the short suite keeps hold
    every value (`strength` 1), every pair of values of two parameters (2) and so on; the others are marked long.
    """
    rows = {
        one: [column[i] for column, i in zip(values, one, strict=True)]
        for one in itertools.product(*(range(len(column)) for column in values))
    }
    parts = {one: set(itertools.combinations(enumerate(one), strength)) for one in rows}
    missing, kept = set().union(*parts.values()), set()
    while missing:
        best = max(parts, key=lambda one: len(parts[one] & missing))
        kept.add(best)
        missing -= parts[best]
    cases = [pytest.param(*row, marks=() if one in kept else pytest.mark.long) for one, row in rows.items()]
    return pytest.mark.parametrize(names.replace(" ", "").split(","), cases)


def shortened(name: str, values: Sequence[Any], short: Sequence[Any]) -> pytest.MarkDecorator:
    """`parametrize` with one parameter; the values that are not in `short` are marked long."""
    assert set(short) <= set(values)
    rows = [pytest.param(value, marks=() if value in short else pytest.mark.long) for value in values]
    return pytest.mark.parametrize(name, rows)
