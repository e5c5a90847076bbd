"""How much of a text is lines that were there before, counted with bounded memory (lossy counting, Manku & Motwani 2002).

Digits do not count, so that the lines of a log that differ in their times are equal. Short lines ("}", a speaker's name)
repeat in every text and are not looked at. Memory: 200,000 lines of at most 200 characters.
"""

from __future__ import annotations

import re
from collections import Counter

from parakit.common.files import JsonObject
from parakit.data.personal.sensitive import mask

MIN_CHARS, MAX_CHARS = 20, 200  # of a line that counts; its end does not
MAX_COUNTED = 200_000  # lines kept; beyond, those met once are forgotten
N_FREQUENT, MIN_FREQUENT = 10, 3
SHOWN_CHARS = 80

_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"[^\W\d_]{3}")


class LineCounter:
    """Counts the lines of texts."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self.n_lines = self.n_chars = self.repeated_chars = 0

    def add(self, text: str) -> None:
        """Count the lines of `text`."""
        lines = [line[:MAX_CHARS] for line in map(str.strip, text.split("\n")) if len(line) >= MIN_CHARS]
        for line in _DIGITS.sub("0", "\n".join(lines)).split("\n"):
            if not _WORD.search(line):
                continue
            n = self._counts[line]
            self._counts[line] = n + 1
            self.n_lines += 1
            self.n_chars += len(line)
            if n:
                self.repeated_chars += len(line)
        if len(self._counts) > MAX_COUNTED:
            self._counts = Counter({line: n for line, n in self._counts.items() if n > 1})

    def to_dict(self) -> JsonObject:
        """Shares of the lines' characters: in lines that were there before, and in the most frequent ones,
        which are shown without personal data and passwords.
        """
        frequent = [(line, n) for line, n in self._counts.most_common(N_FREQUENT) if n >= MIN_FREQUENT]
        whole = max(1, self.n_chars)
        return {
            "lines": self.n_lines,
            "repeated_share": round(self.repeated_chars / whole, 4),
            "frequent_share": round(sum(len(line) * n for line, n in frequent) / whole, 4),
            "frequent": [{"line": mask(line)[:SHOWN_CHARS], "count": n} for line, n in frequent],
        }
