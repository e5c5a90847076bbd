"""Citations of an answer, checked: each is a stretch of a passage, letter by letter, that has what its sentence says.

A model may mark a sentence with the number of a passage, as [2]. A mark is a proposal. What is cited is the stretch of at
most three sentences that has most of the sentence's content words: at least six in ten, and every number. It is looked
for in the passage that the mark names, then in the others; a sentence without one is reported as unsupported. What this
cannot see: a sentence that joins the right words in a wrong way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from parakit.assistants.retrieval.store import StoredPassage
from parakit.common.files import JsonObject
from parakit.data.conversations.from_documents.checks import content_words, found_words

MIN_SUPPORT = 0.6  # of a sentence's content words
MAX_SENTENCES = 3  # of a cited stretch
_SENTENCE = re.compile(r"\S.*?(?:[.!?。！？][\"'”’)]*(?:\s*\[\d[\d,; ]*\])*(?=\s|$)|\n|$)", re.DOTALL)
_MARK = re.compile(r"\s*\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\]")


@dataclass(frozen=True)
class Citation:
    """What supports a sentence of the answer. `number`: the passage's place among those that went in, from 1; `begin`,
    `end`: of `quote` in the passage's text; `support`: the share of the sentence's content words that it has.
    """

    number: int
    passage: StoredPassage
    begin: int
    end: int
    support: float

    @property
    def quote(self) -> str:
        """The cited stretch."""
        return self.passage.text[self.begin : self.end]

    @property
    def pages(self) -> list[int]:
        """The pages that the cited stretch is on; empty where the format has none."""
        return self.passage.pages_between(self.begin, self.end)

    @property
    def place(self) -> str:
        """The file, the pages and the headings of the cited stretch, for people."""
        return self.passage.place_on(self.pages)

    def to_json(self) -> JsonObject:
        """Plain values; positions are those in the document's text."""
        first = self.passage.begin
        return {
            "number": self.number,
            "source": self.passage.source,
            "heading": self.passage.heading,
            "pages": self.pages,
            "begin": first + self.begin,
            "end": first + self.end,
            "quote": self.quote,
            "support": round(self.support, 3),
        }


@dataclass(frozen=True)
class CitedAnswer:
    """`text`: the answer with the numbers of the citations behind its sentences, and no other marks. `n_wrong_marks`: marks
    of the model at sentences that their passage does not support.
    """

    text: str
    citations: tuple[Citation, ...]
    unsupported: tuple[str, ...]
    n_wrong_marks: int


def cite(answer: str, passages: Sequence[StoredPassage]) -> CitedAnswer:
    """Find and check what supports each sentence of an answer among the passages that the model was given."""
    spans = [list(_stretches(one.text)) for one in passages]
    parts: list[str] = []
    citations: list[Citation] = []
    unsupported: list[str] = []
    n_wrong, position = 0, 0
    for match in _SENTENCE.finditer(answer):
        parts.append(answer[position : match.start()])
        position = match.end()
        marks = [int(number) for found in _MARK.findall(match[0]) for number in re.findall(r"\d+", found)]
        sentence = _MARK.sub("", match[0])
        stripped = sentence.strip()
        found = _support(stripped, marks, passages, spans) if content_words(stripped) else None
        if found is None:
            n_wrong += len(marks)
            unsupported += [stripped] if content_words(stripped) else []
            parts.append(sentence)
            continue
        n_wrong += found.number not in marks and bool(marks)
        if found not in citations:
            citations.append(found)
        end = len(sentence.rstrip())
        parts.append(f"{sentence[:end]} [{found.number}]{sentence[end:]}")
    parts.append(answer[position:])
    return CitedAnswer("".join(parts).strip(), tuple(citations), tuple(unsupported), n_wrong)


def _support(
    sentence: str,
    marks: Sequence[int],
    passages: Sequence[StoredPassage],
    spans: Sequence[Sequence[tuple[int, int]]],
) -> Citation | None:
    words = content_words(sentence)
    numbers = {word for word in words if any(c.isdigit() for c in word)}
    marked = [number for number in marks if 1 <= number <= len(passages)]
    others = [number for number in range(1, len(passages) + 1) if number not in marked]
    for group in (marked, others):
        best: Citation | None = None
        for number in group:
            passage = passages[number - 1]
            for begin, end in spans[number - 1]:
                present = found_words(words, passage.text[begin:end])
                share = len(present) / len(words)
                if share >= MIN_SUPPORT and numbers <= present and (best is None or share > best.support):
                    best = Citation(number, passage, begin, end, share)
        if best is not None:
            return best
    return None


def _stretches(text: str) -> list[tuple[int, int]]:
    """Runs of one to `MAX_SENTENCES` sentences of a passage, the shortest first."""
    found = []
    for match in _SENTENCE.finditer(text):
        end = match.start() + len(match[0].rstrip())
        if end > match.start():
            found.append((match.start(), end))
    return [
        (found[first][0], found[first + n - 1][1])
        for n in range(1, MAX_SENTENCES + 1)
        for first in range(len(found) - n + 1)
    ]
