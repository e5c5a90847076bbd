"""Train, validation and test by the document's own digest.

A document's split depends on its text and on the two fractions, and on nothing else: adding, removing or
reordering others never moves it, so what was held out stays held out as a corpus grows. Validation grows
from the low end of the digests and test from the high end: a larger fraction only takes documents from
train.
"""

from __future__ import annotations

SPLITS = ("train", "validation", "test")


def split_of(digest: str, validation_fraction: float, test_fraction: float) -> str:
    """`train`, `validation` or `test` for a sha256 digest in hexadecimal."""
    place = int(digest[:13], 16) / 2**52  # 13 hexadecimal digits are exact in a double; in [0, 1)
    if place < validation_fraction:
        return "validation"
    return "test" if place >= 1 - test_fraction else "train"
