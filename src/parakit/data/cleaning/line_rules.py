"""The rules of C4 (Raffel et al. 2020, section 2.2), which judge lines and what is left of the document.

A line stays that ends in a terminal mark, has enough words, and is no notice about JavaScript, cookies or terms; marks of
citations are removed. The lists of phrases are C4's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from parakit.data.cleaning.steps import Removed
from parakit.data.cleaning.text_units import count_sentences

C4_RULES: dict[str, float] = {
    "max_word_length": 1000,  # of a line that stays, in characters
    "citations": 1,  # 1: marks such as [3] are removed
    "terminal_punctuation": 1,
    "min_words_per_line": 3,
    "lorem_ipsum": 1,
    "javascript": 1,
    "curly_bracket": 1,
    "policy": 1,
    "min_sentences": 5,
}
"""Each rule with its published threshold; 1 and 0 switch those that have none."""

_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
_END = (".", "?", "!", '"', "'")
_POLICY = re.compile("terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies")


class C4Lines:
    """Removes lines, or the document. `rules` has the thresholds of those that are applied."""

    def __init__(self, rules: Mapping[str, float]) -> None:
        self._on = {name for name, value in rules.items() if value}
        self._max_word = rules.get("max_word_length", float("inf"))
        self._min_words = rules.get("min_words_per_line", 0)
        self._min_sentences = rules.get("min_sentences", 0)

    def __call__(self, text: str) -> str | Removed:
        kept, n_sentences = [], 0
        for line in text.splitlines():
            cleaned = self._line(line.strip())
            if isinstance(cleaned, Removed):
                return cleaned
            if cleaned is not None:
                n_sentences += count_sentences(cleaned)
                kept.append(cleaned)
        if n_sentences < self._min_sentences:
            return Removed("c4.min_sentences")
        return "\n".join(kept).strip()

    def _line(self, line: str) -> str | Removed | None:
        """The line that stays; None: it does not."""
        words = line.split()
        if any(len(word) > self._max_word for word in words):
            return None
        if "citations" in self._on and "[" in line:
            line = _CITATION.sub("", line)
        if "terminal_punctuation" in self._on and (not line.endswith(_END) or line.endswith("...")):
            return None
        if len(words) < self._min_words:
            return None
        low = line.lower()
        if "lorem_ipsum" in self._on and "lorem ipsum" in low:
            return Removed("c4.lorem_ipsum")
        if "javascript" in self._on and "javascript" in low:
            return None
        if "curly_bracket" in self._on and "{" in line:
            return Removed("c4.curly_bracket")
        if "policy" in self._on and _POLICY.search(low):
            return None
        return line
