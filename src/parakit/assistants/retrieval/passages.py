"""Passages of a document by its structure: sections under headings, paragraphs in them, sentences in those.

A passage never crosses into a section unless both are short, ends between paragraphs where that leaves it at least half
full, else between sentences, and repeats whole sentences of the one before it in its section. It is a stretch of the text,
letter by letter: `text[begin:end]`. Its headings, from the outermost to its own, are its context in every search.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

SEPARATOR = " > "  # between headings
MAX_HEADING_CHARS = 120
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(\S.*?)[ \t]*#*[ \t]*")
_FENCE = re.compile(r" {0,3}(```|~~~)")
_PARAGRAPH_END = re.compile(r"\n(?:[ \t\r]*\n)+")
_BREAKS = (  # ends of what an atom may be, the best first
    re.compile(r"[.!?][\"'”’)\]]*\s+|[。！？]\s*"),
    re.compile(r"\n+"),
    re.compile(r"\s+"),
)


@dataclass(frozen=True)
class DocumentPassage:
    """A stretch of a document. `heading`: its headings, joined; empty where there are none. `pages`: the characters of
    `text` at which pages begin, and their numbers; empty where the format has none.
    """

    text: str
    begin: int
    end: int
    heading: str = ""
    pages: tuple[tuple[int, int], ...] = ()

    @cached_property
    def digest(self) -> bytes:
        """sha256 of what is searched: the headings and the text."""
        return hashlib.sha256(self.searched.encode()).digest()

    @property
    def searched(self) -> str:
        """The headings and the text, without headings that the text begins with."""
        return f"{self.heading}\n{self.text}" if self.heading else self.text


@dataclass(frozen=True)
class _Section:
    headings: tuple[str, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class _Atom:
    """What is never cut: a sentence, or a part of a very long one. `ends_paragraph`: a paragraph ends with it."""

    begin: int
    end: int
    ends_paragraph: bool


def split_passages(text: str, max_chars: int, overlap_chars: int) -> list[DocumentPassage]:
    """The passages of a text, each of at most `max_chars` characters. Together they hold every character that is no white
    space.
    """
    found = []
    for section in _joined(list(_sections(text)), text, max_chars):
        heading = SEPARATOR.join(section.headings)
        for begin, end in _packed(text, section, max_chars, overlap_chars):
            stretch = text[begin:end]
            begin += len(stretch) - len(stretch.lstrip())
            if stripped := stretch.strip():
                found.append(DocumentPassage(stripped, begin, begin + len(stripped), heading))
    return found


def _sections(text: str) -> Iterator[_Section]:
    """What is between two headings, the first of them included; headings in fenced code are none."""
    headings: list[tuple[int, str]] = []
    begin = position = 0
    fence = ""
    for line in text.splitlines(keepends=True):
        if mark := _FENCE.match(line):
            fence = "" if fence == mark[1] else fence or mark[1]
        elif not fence and (match := _HEADING.fullmatch(line.rstrip("\r\n"))):
            if text[begin:position].strip():
                yield _Section(tuple(title for _, title in headings), begin, position)
                begin = position
            level = len(match[1])
            headings = [one for one in headings if one[0] < level]
            headings.append((level, match[2][:MAX_HEADING_CHARS]))
        position += len(line)
    if text[begin:].strip():
        yield _Section(tuple(title for _, title in headings), begin, len(text))


def _joined(sections: list[_Section], text: str, max_chars: int) -> Iterator[_Section]:
    """Sections that are short, a quarter of a passage, together with the next where both fit into one passage."""
    current: _Section | None = None
    for section in sections:
        if current is None:
            current = section
        elif current.end - current.begin < max_chars // 4 and section.end - current.begin <= max_chars:
            shared = [a for a, b in zip(current.headings, section.headings, strict=False) if a == b]
            current = _Section(tuple(shared), current.begin, section.end)
        else:
            yield current
            current = section
    if current is not None:
        yield current


def _packed(text: str, section: _Section, max_chars: int, overlap_chars: int) -> Iterator[tuple[int, int]]:
    """Where the passages of a section begin and end."""
    if section.end - section.begin <= max_chars:
        yield section.begin, section.end
        return
    atoms = list(_atoms(text, section, max(max_chars // 3, 1)))
    first = 0
    while first < len(atoms):
        last = _last_of_passage(atoms, first, max_chars)
        yield atoms[first].begin, atoms[last].end
        if last == len(atoms) - 1:
            return
        following = last + 1
        while (
            following - 1 > first
            and atoms[last].end - atoms[following - 1].begin <= overlap_chars
            and atoms[last + 1].end - atoms[following - 1].begin <= max_chars
        ):
            following -= 1
        first = following


def _last_of_passage(atoms: list[_Atom], first: int, max_chars: int) -> int:
    """The last atom of the passage that begins with `first`."""
    limit, last = atoms[first].begin + max_chars, first
    while last + 1 < len(atoms) and atoms[last + 1].end <= limit:
        last += 1
    if last + 1 == len(atoms):
        return last
    half = atoms[first].begin + max_chars // 2
    ends = (i for i in range(last, first, -1) if atoms[i].ends_paragraph and atoms[i].end >= half)
    return next(ends, last)


def _atoms(text: str, section: _Section, limit: int) -> Iterator[_Atom]:
    begin = section.begin
    ends = [match.end() for match in _PARAGRAPH_END.finditer(text, section.begin, section.end)]
    for end in [*ends, section.end]:
        if begin < end:
            pieces = list(_pieces(text, begin, end, limit, _BREAKS))
            for one_begin, one_end in pieces:
                yield _Atom(one_begin, one_end, one_end == end)
        begin = end


def _pieces(
    text: str, begin: int, end: int, limit: int, breaks: tuple[re.Pattern[str], ...]
) -> Iterator[tuple[int, int]]:
    """A paragraph cut at sentences; what is longer than `limit` at lines, then at spaces, then anywhere."""
    if not breaks:
        for start in range(begin, end, limit):
            yield start, min(start + limit, end)
        return
    start = begin
    for stop in [*(match.end() for match in breaks[0].finditer(text, begin, end)), end]:
        if stop - start > limit:
            yield from _pieces(text, start, stop, limit, breaks[1:])
        elif stop > start:
            yield start, stop
        start = stop
