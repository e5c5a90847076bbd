"""Whether an answer is right: the expected words are in it. Case, punctuation, articles and how numbers are written do not
count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from benchmarks.registry import Figures
from parakit.evaluation.intervals import paired_difference, wilson_interval

_NUMBERS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]
_DROPPED = {"the", "a", "an"}


def normalized(text: str) -> list[str]:
    """Words without case, punctuation, possessive endings and articles; thousands without commas, small numbers as digits."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text.casefold()).replace("’", "'")
    words = re.findall(r"\w+(?:\.\d+)?", re.sub(r"'s\b", "", text))
    return [str(_NUMBERS.index(word)) if word in _NUMBERS else word for word in words if word not in _DROPPED]


def is_right(answer: str, expected: str) -> bool:
    """Whether the words of `expected` are in `answer`, one after another."""
    found, wanted = normalized(answer), normalized(expected)
    return any(found[i : i + len(wanted)] == wanted for i in range(len(found) - len(wanted) + 1))


def share_right(right: Sequence[bool]) -> Figures:
    """A share with Wilson's 95 % interval."""
    low, high = wilson_interval(sum(right), len(right))
    return {"share": sum(right) / max(1, len(right)), "low": low, "high": high, "n": len(right)}


def compared(start: Sequence[bool], tuned: Sequence[bool]) -> Figures:
    """Both models on the same questions: their shares, and the difference with its paired 95 % interval."""
    gain = paired_difference(start, tuned)
    return {
        "start": share_right(start),
        "tuned": share_right(tuned),
        "gain": gain.difference,
        "gain_low": gain.low,
        "gain_high": gain.high,
        "p_value": gain.p_value,
    }
