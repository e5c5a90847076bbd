"""A document: the unit that is split, deduplicated and encoded, and that packing keeps apart from its neighbours.

Its text is Unicode that UTF-8 can write. Readers decode invalid bytes as lone surrogates (Python's `surrogateescape`,
PEP 383); `repair` counts them and replaces each, and each NUL, by U+FFFD.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

_ROW = re.compile(r":\d+$")
_BAD = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Document:
    """`n_bytes` counts the raw bytes of `text`: a bad byte is one, although its U+FFFD takes three. `steps` names the
    cleaning steps that changed it.
    """

    text: str
    source: str
    n_bytes: int
    steps: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """The file that the document is from: its source without a row's number."""
        return _ROW.sub("", self.source)

    @property
    def digest(self) -> str:
        """sha256 of the UTF-8 text, in hexadecimal. The source does not count: equal texts are duplicates."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def to_row(self) -> str:
        """The document as one line of JSON, without its end; `steps` only where there are any."""
        row = {"text": self.text, "source": self.source, "n_bytes": self.n_bytes}
        return json.dumps(row | ({"steps": self.steps} if self.steps else {}), ensure_ascii=False)

    @classmethod
    def from_row(cls, row: str | bytes) -> Document:
        """The document of a line that `to_row` wrote."""
        values = json.loads(row)
        text, source, n_bytes = values["text"], values["source"], values["n_bytes"]
        if not (isinstance(text, str) and isinstance(source, str) and isinstance(n_bytes, int)):
            raise ValueError(f"text, source or n_bytes is of another type: {row[:80]!r}")
        return cls(text, source, n_bytes, tuple(values.get("steps", ())))


def repair(text: str) -> tuple[str, int]:
    """The text with U+FFFD for each lone surrogate and each NUL, and their number."""
    if "\0" in text:
        return _BAD.subn("\ufffd", text)
    try:
        text.encode()
    except UnicodeEncodeError:
        return _BAD.subn("\ufffd", text)
    return text, 0


def make_document(text: str, source: str) -> tuple[Document, int]:
    """A document of `text`, repaired, and the number of its bad bytes."""
    text, n_bad = repair(text)
    return Document(text, source, len(text.encode()) - 2 * n_bad), n_bad
