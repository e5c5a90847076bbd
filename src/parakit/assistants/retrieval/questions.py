"""Questions that measure an index: from a file, or made from its passages and held out of training data.

A file has JSON lines: {"question": "...", "relevant": ["guide.md"], "answers": ["8080"], "id": "q1"}. `relevant` names
files by the end of their path, or as {"guide.md": 2} with grades; an empty list says that the documents have no answer.
Made questions are those of `parakit text --questions-from rules`. A passage is held out as a whole, by its digest, so no
wording of a fact that is measured is in the training data out of the same index.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from pathlib import Path
from typing import Any

from parakit.assistants.retrieval.store import StoredPassage
from parakit.common.errors import UserError
from parakit.common.json_reading import shown
from parakit.common.progress import log
from parakit.data.conversations.from_documents import (
    DocumentQuestionsConfig,
    Pair,
    PairChecker,
    Passage,
    WrittenByRules,
    pairs_by_rules,
)
from parakit.data.readers.rows import read_records, read_rows
from parakit.data.readers.tracked_row import TrackedRow
from parakit.data.row_report import RowReport
from parakit.data.splits import split_of

HELD_OUT = 0.25  # of the passages
_HINT = 'a row looks like {"question": "Which port?", "relevant": ["guide.md"], "answers": ["8080"]}'


@dataclass(frozen=True)
class IndexQuestion:
    """A question with the grades of the sources that answer it; none: the documents do not. `passage`: that which a made
    question is about.
    """

    id: str
    question: str
    relevant: Mapping[str, float] = field(default_factory=dict)
    answers: tuple[str, ...] = ()
    passage: StoredPassage | None = None


def read_questions(path: str | Path, sources: Iterable[str]) -> list[IndexQuestion]:
    """The questions of a file about an index with these sources. `UserError` for a row that is none, and where no named
    file is in the index; names that are not are reported.
    """
    known = _by_ends(sources)
    report, missing = RowReport(), set[str]()
    found = []
    rows = read_rows(read_records(Path(path), any_name=True), _parse, report, _HINT)
    for number, (_, row) in enumerate(rows, 1):
        relevant = {}
        for name, grade in row["relevant"].items():
            matches = known.get(name, set())
            if len(matches) > 1:
                raise UserError(
                    f"{path}, row {number}: {name} is {len(matches)} files of the index: {', '.join(sorted(matches))}",
                    "write more of the path",
                )
            if not matches:
                missing.add(name)
            relevant.update(dict.fromkeys(matches, grade))
        if relevant or not row["relevant"]:
            one = row["id"] or str(number)
            found.append(IndexQuestion(one, row["question"], relevant, tuple(row["answers"])))
    if missing:
        log(f"{path}: {len(missing)} files that it names are not in the index, such as {sorted(missing)[0]}")
    if not found:
        raise UserError(f"{path}: no question is about the index", "name its files in `relevant`")
    return found


def _parse(row: TrackedRow) -> dict[str, Any]:
    question, relevant = row.get("question"), row.get("relevant")
    if not isinstance(question, str) or not question.strip():
        raise UserError(f"{row.where}: question is {shown(question)}", _HINT)
    if isinstance(relevant, list) and all(isinstance(name, str) for name in relevant):
        relevant = dict.fromkeys(relevant, 1.0)
    if not isinstance(relevant, Mapping) or not all(_is_grade(grade) for grade in relevant.values()):
        raise UserError(f"{row.where}: relevant is {shown(relevant)}", _HINT)
    answers = row.get("answers")
    answers = [answers] if isinstance(answers, str) else answers or []
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise UserError(f"{row.where}: answers is {shown(answers)}", _HINT)
    given = row.get("id")
    grades = {name: float(grade) for name, grade in relevant.items() if grade > 0}
    return {
        "question": question,
        "relevant": grades,
        "answers": answers,
        "id": "" if given is None else str(given),
    }


def _is_grade(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _by_ends(sources: Iterable[str]) -> dict[str, set[str]]:
    """Sources by every end of their path, and of their file's where they have a row."""
    known: dict[str, set[str]] = {}
    for source in set(sources):
        parts = source.split("/")
        for first in range(len(parts)):
            known.setdefault("/".join(parts[first:]), set()).add(source)
    return known


def is_held_out(passage: StoredPassage) -> bool:
    """Whether questions about a passage measure, and are not in training data."""
    digest = hashlib.sha256(passage.text.encode()).hexdigest()
    return split_of(digest, 0.0, HELD_OUT) == "test"


def made_pairs(passages: Iterable[StoredPassage], wordings: int = 1) -> Iterator[tuple[StoredPassage, Pair]]:
    """Checked questions with answers about each passage, by rules; `wordings`: of each fact at most."""
    config = DocumentQuestionsConfig.parse({"writer": "rules"})
    rules, checker = WrittenByRules(wordings=wordings), PairChecker(config)
    for stored in passages:
        title = stored.title or stored.heading.partition(" > ")[0]
        passage = Passage(stored.text, stored.source, stored.source, str(stored.id), title)
        for pair in pairs_by_rules(passage, rules):
            if checker.reason_against(pair, passage) is None:
                yield stored, pair


def made_questions(passages: Sequence[StoredPassage], n: int, held_out: bool = True) -> list[IndexQuestion]:
    """At most `n` questions about the passages that are held out (or about the others), drawn by digest."""
    chosen = [one for one in passages if is_held_out(one) == held_out]
    made = list(made_pairs(chosen))
    drawn = nsmallest(n, made, key=lambda one: hashlib.sha256(one[1].question.encode()).digest())
    if not drawn:
        raise UserError(
            f"the rules find no question about the {len(chosen):,} passages that are held out",
            "give questions of your own with --questions; the rules know English sentences, fields and tables",
        )
    return [
        IndexQuestion(str(i), pair.question, {stored.source: 1.0}, (pair.answer,), stored)
        for i, (stored, pair) in enumerate(drawn, 1)
    ]
