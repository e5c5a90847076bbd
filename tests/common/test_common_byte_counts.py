"""Amounts of bytes as people write them."""

from __future__ import annotations

import pytest

from parakit.common.byte_counts import UNITS, parse_bytes
from parakit.common.errors import UserError


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("5GB", 5 * 10**9), ("500 mb", 5 * 10**8), ("1.5k", 1500), ("12", 12), ("8GiB", 8 * 2**30), (" 24 GB ", 24 * 10**9),
        ("2TiB", 2**41), ("7b", 7), ("0.5KiB", 512),
    ],
)  # fmt: skip
def test_amounts(text: str, n_bytes: int) -> None:
    assert parse_bytes(text, "memory") == n_bytes


@pytest.mark.parametrize(
    "text", ["", "five", "-1GB", "0", "5PB", "8 bananas", "1ib", "nan", "1e9", "0.1", "9" * 40]
)
def test_what_is_none_is_named(text: str) -> None:
    with pytest.raises(UserError, match="is not an amount of bytes"):
        parse_bytes(text, "memory")


def test_units() -> None:
    assert sorted(UNITS) == sorted(
        ["", "b", *(f"{prefix}{ending}" for prefix in "kmgt" for ending in ("", "b", "ib"))]
    )
