"""Answers to questions as SQuAD measures them (Rajpurkar et al. 2016, section 6.1): exact matches, and F1 of words.

Both compare lower-case words without punctuation and articles, and take the best of several right answers.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def words(text: str) -> list[str]:
    """The words that are compared."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def exact(prediction: str, answers: Sequence[str]) -> bool:
    """Whether the words are those of one of the answers."""
    return any(words(prediction) == words(one) for one in answers)


def f1(prediction: str, answers: Sequence[str]) -> float:
    """The best F1 of the words; of an empty answer 1 or 0."""
    return max(_f1(words(prediction), words(one)) for one in answers)


def _f1(predicted: Sequence[str], right: Sequence[str]) -> float:
    if not predicted or not right:
        return float(predicted == right)
    n_shared = sum((Counter(predicted) & Counter(right)).values())
    return 2 * n_shared / (len(predicted) + len(right))
