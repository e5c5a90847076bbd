"""Statements of a passage that hold a fact, found by plain patterns, and what is left when the fact is taken out.

A fact is a date, a year, a number with what it counts, or a name in a sentence; the definition at the beginning of a
sentence ("X is a ..."); the value of a line "key: value"; a cell of a Markdown table. No model and no grammar: what the
patterns cannot decide is left out. The words that they know are English; key-value lines and tables work in any language.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["date", "year", "count", "name", "place", "agent", "definition", "field"]

_MONTH = r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_DAYS = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
_NAME_WORD = rf"(?!(?:{_MONTH}|{_DAYS}|Dr|Mr|Mrs|Ms|St|The)\b)[A-Z][\w'’&.-]*\w"
_NAME = rf"{_NAME_WORD}(?: (?:of (?:the )?|the |van |von |de |del |la )?{_NAME_WORD}){{0,5}}"
_WORDED = "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty"
_NUMBER = (
    rf"(?:(?:[$£€] ?)?\d[\d,.]*\d|\d|(?:{_WORDED})\b)(?: (?:million|billion|thousand|hundred|percent))?%?"
)
_DATE = rf"\d{{1,2}} {_MONTH},? \d{{4}}|{_MONTH} \d{{1,2}}(?:, \d{{4}})?|{_MONTH} \d{{4}}"
_NOT_COUNTED = (
    r"(?<![\w.,:/-])(?<![–/-] )(?!(?:1\d{3}|20\d\d) )"  # the rest of another number, a score, a year
)
_BEFORE_NAME = "named|called|known as|titled|is|was|were|of|from|to|with|for"
_PATTERNS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("date", re.compile(rf"\b(?:on |in )?({_DATE})\b")),
    ("year", re.compile(r"\bin (1[0-9]{3}|20\d\d)\b(?!\s*[-–]\s*\d)")),
    ("count", re.compile(rf"{_NOT_COUNTED}({_NUMBER}) [a-z]{{3,}}")),
    ("agent", re.compile(rf"\bby ((?:the )?{_NAME})")),
    ("place", re.compile(rf"\b(?:in|at|near) ((?:the )?{_NAME})")),
    ("name", re.compile(rf"\b(?:{_BEFORE_NAME}) ((?:the )?{_NAME})")),
)
_DEFINITION = re.compile(
    r"(?P<subject>[A-Z][^,.;:()]{1,60}?)(?: \([^()]*\))? (?P<verb>is|was|are|were) "
    r"(?P<answer>(?:an?|one of the) [^,;.()]{8,110})"
)
_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?=[\"“'(]?[A-Z0-9])")
_SHORT_FORMS = r"Mr|Mrs|Ms|Dr|St|No|Nos|vs|Jr|Sr|Co|Inc|Ltd|Prof|Gen|Lt|Col|Capt|ca|etc|approx|e\.g|i\.e"
_ABBREVIATED = re.compile(rf"(?:\b(?:{_SHORT_FORMS})|\b[A-Z])\.$")
_FIELD = re.compile(r"[-*•]?\s*(?:\*\*)?([^\W\d_][^:=|?!.]{1,40}?)(?:\*\*)?\s*:(?:\*\*)?\s+(\S.{0,118})")
_ROW = re.compile(r"\s*\|(.+)\|\s*")
_RULE = re.compile(r"[\s|:-]+")
_HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*")
MIN_WORDS, MAX_WORDS = 6, 45  # of a sentence
MAX_ANSWER_WORDS = 8  # of a fact inside of a sentence


@dataclass(frozen=True)
class Statement:
    """`before` + `answer` + `after` is the text of a sentence. Of a field, `before` is its name and `after` is empty;
    `subject` is what a definition or a field is about.
    """

    kind: Kind
    before: str
    answer: str
    after: str = ""
    subject: str = ""


def statements_of(text: str, title: str, has_heading: bool = True) -> list[Statement]:
    """The facts of a passage in the order of the text. `title`: of its document, which lines "key: value" are about where it
    `has_heading`; without one, as in a row of a table, they are about the value of the first.
    """
    found: list[Statement] = []
    subject, lines = title, text.splitlines()
    block: list[tuple[str, str]] = []  # neighbouring lines "key: value"
    prose: list[str] = []

    def finish() -> None:
        nonlocal block, prose
        found.extend(_fields(block, subject, has_heading or subject != title))
        found.extend(one for sentence in sentences(" ".join(prose)) for one in _in_sentence(sentence))
        block, prose = [], []

    header: list[str] = []
    for line in lines:
        if heading := _HEADING.fullmatch(line.strip()):
            finish()
            subject = heading[2] if len(heading[1]) == 1 or heading[2] == title else f"{heading[2]} ({title})"
        elif row := _ROW.fullmatch(line):
            finish()
            cells = [cell.strip() for cell in row[1].split("|")]
            if not header:
                header = cells
            elif not _RULE.fullmatch(row[1]):
                found.extend(_cells(header, cells))
            continue
        elif field := _FIELD.fullmatch(line.strip()):
            if prose:
                finish()
            block.append((field[1].strip(), field[2].strip()))
        elif line.strip():
            if block:
                finish()
            prose.append(line.strip())
        else:
            finish()
        header = []
    finish()
    return found


def sentences(text: str) -> Iterator[str]:
    """The sentences of a paragraph; a full stop after an initial or a common abbreviation ends none."""
    start = 0
    for match in _END.finditer(text):
        if not _ABBREVIATED.search(text[start : match.start()].rstrip("\"'”’)]")):
            yield text[start : match.end()].strip()
            start = match.end()
    if text[start:].strip():
        yield text[start:].strip()


def _in_sentence(sentence: str) -> Iterator[Statement]:
    words = sentence.split()
    if not MIN_WORDS <= len(words) <= MAX_WORDS or sentence[-1] not in ".!\"'”’)" or sentence.count('"') % 2:
        return
    if match := _DEFINITION.match(sentence):
        subject, verb = match["subject"], match["verb"]
        yield Statement("definition", f"{subject} {verb} ", match["answer"].strip(), "", f"{verb} {subject}")
    taken: list[tuple[int, int]] = []
    for kind, pattern in _PATTERNS:
        for match in pattern.finditer(sentence):
            start, end = match.span(1)
            answer = sentence[start:end].rstrip(".,")
            overlaps = any(start < b and a < end for a, b in taken)
            if overlaps or start == 0 or len(answer.split()) > MAX_ANSWER_WORDS:
                continue
            taken.append((start, end))
            yield Statement(kind, sentence[:start], answer, sentence[start + len(answer) :])


def _fields(block: list[tuple[str, str]], subject: str, has_heading: bool) -> Iterator[Statement]:
    if len(block) > 1 and not has_heading:
        (_, subject), *block = block
    for name, value in block:
        if len(value.split()) <= MAX_ANSWER_WORDS * 2:
            yield Statement("field", name, value.rstrip("."), "", subject)


def _cells(header: list[str], cells: list[str]) -> Iterator[Statement]:
    """The cells of a row are about its first one."""
    for name, value in zip(header[1:], cells[1:], strict=False):
        if name and value and cells[0] and len(value.split()) <= MAX_ANSWER_WORDS * 2:
            yield Statement("field", name, value, "", cells[0])
