"""Marks in a text where its pages begin: two noncharacters of Unicode, which no text has, with the number between them.

So the places of pages outlast what cleaning does to the text around them. A reader writes marks only where they are wanted
(`InputFile.mark_pages`), and the caller takes them out again.
"""

from __future__ import annotations

import re

OPEN, CLOSE = "\ufdd0", "\ufdd1"
MARK = re.compile(f"{OPEN}(\\d{{1,6}}){CLOSE}")
PageStarts = list[tuple[int, int]]  # (character, page) in the order of the text


def page_mark(page: int) -> str:
    """The mark at the beginning of a page, counted from 1."""
    return f"{OPEN}{page}{CLOSE}"


def without_marks(text: str) -> str:
    """The text alone."""
    return MARK.sub("", text)


def without_repeats(text: str) -> str:
    """The text without marks of the page that it is on already."""
    page = ""

    def keep(match: re.Match[str]) -> str:
        nonlocal page
        repeated, page = match[1] == page, match[1]
        return "" if repeated else match[0]

    return MARK.sub(keep, text)


def page_starts(text: str) -> tuple[str, PageStarts]:
    """The text alone, and at which of its characters pages begin; footnotes may lead back to an earlier page."""
    starts: PageStarts = []
    parts, position, length = [], 0, 0
    for match in MARK.finditer(text):
        parts.append(text[position : match.start()])
        length += len(parts[-1])
        starts.append((length, int(match[1])))
        position = match.end()
    return "".join([*parts, text[position:]]), starts


def pages_of(starts: PageStarts, begin: int, end: int) -> PageStarts:
    """The page at each beginning in the stretch from `begin` to `end`, positions counted from `begin`; empty where its
    first page is not known.
    """
    before = [page for place, page in starts if place <= begin]
    if not before:
        return []
    return [(0, before[-1]), *((place - begin, page) for place, page in starts if begin < place < end)]
