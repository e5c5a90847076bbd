"""A document: the unit that is split, deduplicated, encoded and kept apart from its neighbours.

Its text is always Unicode that UTF-8 can write. Bytes that were not valid travel as lone surrogates
(Python's `surrogateescape`, PEP 383) until here, so that they can be counted one by one; `repair` turns
each of them, and each NUL, into U+FFFD and says how many they were.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_BAD = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Document:
    """`n_bytes` counts the raw bytes that `text` stands for: a bad byte is one, though its U+FFFD takes
    three.
    """

    text: str
    source: str
    n_bytes: int

    @property
    def digest(self) -> str:
        """sha256 of the UTF-8 text, in hexadecimal. The source does not count: equal texts are duplicates."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def repair(text: str) -> tuple[str, int]:
    """The text with U+FFFD for each lone surrogate and each NUL, and how many there were."""
    if "\0" in text:
        return _BAD.subn("\ufffd", text)
    try:
        text.encode()
    except UnicodeEncodeError:
        return _BAD.subn("\ufffd", text)
    return text, 0


def make_document(text: str, source: str) -> tuple[Document, int]:
    """A document of `text`, repaired, and the number of bad bytes that it held."""
    text, n_bad = repair(text)
    return Document(text, source, len(text.encode()) - 2 * n_bad), n_bad
