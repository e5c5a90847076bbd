"""A document's split depends on nothing but its text and the fractions."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.common.errors import UserError
from parakit.data.config import TextConfig
from parakit.data.splits import split_of

DIGESTS = [hashlib.sha256(str(k).encode()).hexdigest() for k in range(20_000)]


def test_the_splits_have_the_requested_fractions() -> None:
    splits = [split_of(digest, 0.1, 0.05) for digest in DIGESTS]
    assert splits.count("validation") / len(splits) == pytest.approx(0.1, abs=0.01)
    assert splits.count("test") / len(splits) == pytest.approx(0.05, abs=0.01)


def test_no_fraction_no_document() -> None:
    edges = [*DIGESTS[:100], "0" * 64, "f" * 64]
    assert {split_of(digest, 0.0, 0.0) for digest in edges} == {"train"}


@given(st.sampled_from(DIGESTS), st.floats(0, 0.4), st.floats(0, 0.4), st.floats(0, 0.09))
def test_a_larger_fraction_only_takes_from_train(
    digest: str, validation: float, test: float, more: float
) -> None:
    before = split_of(digest, validation, test)
    if before != "train":
        assert split_of(digest, validation + more, test + more) == before


@pytest.mark.parametrize(
    ("start", "split"),
    [
        ("0", "validation"),
        ("3f", "validation"),
        ("40", "train"),
        ("bf", "train"),
        ("c0", "test"),
        ("ff", "test"),
    ],
)
def test_the_digest_read_as_a_fraction_decides(start: str, split: str) -> None:
    """A change here moves documents between the splits of every corpus ever made."""
    assert split_of(start.ljust(64, "f" if start[-1] == "f" else "0"), 0.25, 0.25) == split


def test_fractions_must_leave_something_to_train_on() -> None:
    with pytest.raises(UserError, match="leave nothing to train on"):
        TextConfig.parse({"validation_fraction": 0.5, "test_fraction": 0.5})
