"""Content-defined chunking of long texts into documents, preferably between paragraphs.

After Muthitacharoen et al. 2001, "A low-bandwidth network file system": between a least and a greatest length, the cut is
the boundary whose preceding characters have the smallest checksum. The choice depends on nearby text alone, so after an
insertion two versions of a file soon agree on their cuts again, and their later documents keep their splits. Boundaries
are paragraphs; where the window has none, lines; then sentences; then spaces; then the greatest length. The documents,
joined, are the text.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator

_BOUNDARIES = (
    re.compile(r"\n(?:[ \t\r]*\n)+"),  # the end of a paragraph, with the blank lines after it
    re.compile(r"\n"),
    re.compile(r"[.!?][\"'”’)\]]*\s+|[。！？]"),
    re.compile(r"\s+"),
)
_CONTEXT = 64  # characters before a boundary that enter its checksum


def chunk(blocks: Iterable[str], max_chars: int) -> Iterator[str]:
    """Cut a stream of text into documents of at most `max_chars` characters, and at least a quarter of that where the
    text is long enough.

    The result does not depend on how the text is divided into blocks. Memory: two blocks and two documents.
    """
    least = max(1, max_chars // 4)
    held, start = "", 0
    pending: list[
        str
    ] = []  # joined only when they can be cut, so that a whole book is not copied for each block
    n_pending = 0
    for block in blocks:
        pending.append(block)
        n_pending += len(block)
        if len(held) - start + n_pending <= max_chars + least:
            continue
        held, start = "".join([held[start:], *pending]), 0
        pending, n_pending = [], 0
        while len(held) - start > max_chars + least:
            end = _cut_point(held, start, start + least, start + max_chars)
            yield held[start:end]
            start = end
    held, start = "".join([held[start:], *pending]), 0
    while len(held) - start > max_chars:
        rest = len(held) - start - least  # so that the last document is not too short
        end = _cut_point(held, start, start + least, start + max(least, min(max_chars, rest)))
        yield held[start:end]
        start = end
    if start < len(held):
        yield held[start:]


def _cut_point(text: str, start: int, low: int, high: int) -> int:
    """The boundary in low..high (both included) with the smallest checksum, of the best kind that occurs."""
    for boundary in _BOUNDARIES:
        # one character more than `high`: a boundary that continues there has not ended
        matches = boundary.finditer(text, max(start, low - 1), high + 1)
        ends = [end for match in matches if low <= (end := match.end()) <= high]
        if ends:
            return min(ends, key=lambda end: (_checksum(text, start, end), -end))
    return high


def _checksum(text: str, start: int, end: int) -> int:
    return zlib.crc32(text[max(start, end - _CONTEXT) : end].encode("utf-8", "surrogatepass"))
