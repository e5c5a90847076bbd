"""Removal of Project Gutenberg's header and licence around a book.

A Gutenberg file marks its book with '*** START OF THIS PROJECT GUTENBERG EBOOK ... ***' and '*** END OF ...'. The text
outside the two is equal in every file, and a model would memorize it. A file without a start marker near its beginning is
unchanged, so a text that merely quotes the markers keeps every byte. A file may hold several books.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain

from parakit.data.read_report import ReadReport

_HEAD = 65_536  # characters in which the start marker must occur
# a title may continue over two more lines; without closing asterisks the marker is one line
_START = re.compile(
    r"^[ \t]*\*\*\*[ ]?START OF (?:THE|THIS) PROJECT GUTENBERG EBOOK"
    r"(?:[^*\n]*(?:\n[^*\n]+){0,2}\*\*\*)?[^\n]*(?:\n|\Z)",
    re.MULTILINE | re.IGNORECASE,
)
_END = re.compile(
    r"^[ \t]*\*\*\*[ ]?END OF (?:THE|THIS) PROJECT GUTENBERG EBOOK", re.MULTILINE | re.IGNORECASE
)


def strip_gutenberg(blocks: Iterable[str], report: ReadReport) -> Iterator[str]:
    """Yield a stream of text without Gutenberg's headers and licences; counts books and removed characters.

    All blocks but the last must end at line ends. Memory: the first 64 Ki characters, or one block.
    """
    blocks = iter(blocks)
    head = ""
    for block in blocks:
        head += block
        if len(head) >= _HEAD:
            break
    start = _START.search(head, 0, _HEAD)
    if not start:
        yield from chain([head] if head else [], blocks)
        return
    report.headers_stripped += 1
    report.stripped_chars += start.end()
    inside = True
    for block in chain([head[start.end() :]], blocks):
        position = 0
        while position < len(block):
            marker = (_END if inside else _START).search(block, position)
            if inside:
                end = marker.start() if marker else len(block)
                if end > position:
                    yield block[position:end]
            else:
                end = marker.end() if marker else len(block)
                report.stripped_chars += end - position
                report.headers_stripped += bool(marker)
            position = end
            inside = inside if not marker else not inside
