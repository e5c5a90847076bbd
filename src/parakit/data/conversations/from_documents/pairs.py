"""The form in which a model writes pairs, parsed strictly: a line "Q: ..." and after it a line "A: ..."."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MARK = re.compile(
    r"(?:\*\*)?(?:\d{1,2}[.)]\s*)?(?:\*\*)?(Q|Question|A|Answer)\s*\d{0,2}\s*:(?:\*\*)?\s*(.*)", re.IGNORECASE
)


@dataclass(frozen=True)
class Pair:
    """A question and its answer. `statement`: what the question is about, where several are worded from one text."""

    question: str
    answer: str
    statement: str = ""


def parse_pairs(text: str) -> tuple[list[Pair], int]:
    """The pairs of a text, and how many stretches of it are none: a question without an answer right after it, an answer
    without a question, an empty one, or text outside of both. An answer may go on over more lines, up to an empty one.
    """
    pairs: list[Pair] = []
    question: str | None = None
    answer: list[str] | None = None
    n_wrong = 0

    def finish() -> None:
        nonlocal question, answer, n_wrong
        if answer is not None:
            if question and (whole := " ".join(answer).strip()):
                pairs.append(Pair(question, whole))
            else:
                n_wrong += 1
        elif question is not None:
            n_wrong += 1
        question = answer = None

    for line in (line.strip() for line in text.splitlines()):
        mark = _MARK.fullmatch(line)
        if mark and mark[1][0] in "Qq":
            finish()
            question = mark[2].strip()
        elif mark:
            if answer is not None or question is None:
                finish()
                n_wrong += question is None
                answer = None
            else:
                answer = [mark[2].strip()]
        elif not line:
            if answer is not None:
                finish()
        elif answer is not None:
            answer.append(line)
        else:
            if question is not None:
                finish()
            else:
                n_wrong += 1
    finish()
    return pairs, n_wrong
