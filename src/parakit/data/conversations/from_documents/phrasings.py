"""Several questions about one statement, each worded in another way, all with the title of the document in them.

Facts are learned from several wordings and then found by one that was not trained on (Allen-Zhu and Li 2023, "Physics of
language models: part 3.1"). The wordings reuse the words of the statement; the checks of every pair apply to them too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from parakit.data.conversations.from_documents.pairs import Pair
from parakit.data.conversations.from_documents.statements import Statement

# What takes the fact's place in a question, and what the fact is called.
_REQUESTED = {
    "date": ("on what date", "date"),
    "year": ("in which year", "year"),
    "count": ("how many", "number"),
    "name": ("what name", "name"),
    "place": ("which place", "place"),
    "agent": ("whom", "name"),
}
_PREPOSITION = re.compile(r"\b(?:on|in)\s+$")
_AUXILIARY = re.compile(
    r"(?P<subject>\S+(?: \S+){0,7}?) (?P<aux>is|was|are|were|has|had|can|will) (?P<rest>.*)"
)
_CLAUSE = re.compile(r"[,;:()–—]\s*|\s(?:and|but|which|who|while|where|when|although)\s")
_SMALL = (  # first words of a sentence that are no names
    "the it he she they in on at a an its his her their this these after during as by for from with to there when while"
    " although"
)
N_KEYWORDS = 6
MIN_PREFIX_WORDS = 4  # before the fact, for a question that breaks off there


def questions_about(statement: Statement, title: str) -> list[Pair]:
    """The pairs of one statement. All have its digest as `statement`, by which the checks know wordings of one fact."""
    wordings = {"definition": _of_definition, "field": _of_field}.get(statement.kind, _of_sentence)
    key = f"{title}\n{statement.before}\n{statement.after}\n{statement.subject}"
    answer = statement.answer[:1].upper() + statement.answer[1:]
    found = {re.sub(r"\s+", " ", question).strip(): None for question in wordings(statement, title)}
    return [Pair(question, answer, key) for question in found]


def _of_definition(statement: Statement, title: str) -> Iterator[str]:
    verb, _, subject = statement.subject.partition(" ")
    yield f"What {verb} {_lowered(subject)}?"
    yield f"{title}: what kind of thing {verb} {_lowered(subject)}?"
    yield f'How would you describe "{subject}" in a few words?'
    yield f"What does {title} say that {_lowered(subject)} {verb}?"


def _of_field(statement: Statement, title: str) -> Iterator[str]:
    subject, name = statement.subject, statement.before
    name = name[:1].lower() + name[1:] if name[1:2].islower() else name  # an abbreviation stays
    yield f"What is the {name} of {subject}?"
    yield f"{subject}: which {name} is given?"
    yield f'What does "{title}" name as the {name} for {subject}?'
    yield f"I need the {name} of {subject}. What is it?"


def _of_sentence(statement: Statement, title: str) -> Iterator[str]:
    wh, noun = _REQUESTED[statement.kind]
    before, after = statement.before, statement.after.rstrip(".!\"'”’ ")
    before_wh = _PREPOSITION.sub("", before) if statement.kind in ("date", "year") else before
    head, tail = _clause(before_wh, after)
    yield f"According to {title}, {_lowered(head)}{wh}{tail}?"
    if turned := _inverted(before_wh, after, wh, statement.kind):
        yield turned if _mentions(turned, title) else f"{title}: {turned[0].lower()}{turned[1:]}"
    yield f'Which {noun} completes this about {title}: "{before}____{after}"?'
    if len(before.split()) >= MIN_PREFIX_WORDS:
        yield f'{title}: how does "{before.rstrip()} ..." go on?'
    keywords = re.findall(r"[\w'’.-]*\w", f"{head} {tail}")[-N_KEYWORDS:]
    yield f'Which {noun} belongs to "{" ".join(keywords)}" in {title}?'


def _inverted(before: str, after: str, wh: str, kind: str) -> str | None:
    """ "X was opened" as "In which year was X opened?", where an auxiliary verb comes early and before the fact."""
    if kind not in ("date", "year", "place"):
        return None
    match = _AUXILIARY.fullmatch(before.strip())
    if match is None or re.search(r"[,;:]", match["subject"]):
        return None
    place = re.search(r"\b(in|at|near)$", match["rest"])
    if kind == "place" and not place:
        return None
    rest = match["rest"][: place.start()] if place else match["rest"]
    first = f"{place[1].capitalize()} {wh}" if kind == "place" and place else wh.capitalize()
    tail = _CLAUSE.split(after)[0]
    return f"{first} {match['aux']} {_lowered(match['subject'])} {rest.strip()}{tail}?"


def _clause(before: str, after: str) -> tuple[str, str]:
    """The clause around the fact, or the whole sentence where the clause is too short to be clear."""
    head = _CLAUSE.split(before)[-1]
    tail_match = _CLAUSE.search(after)
    tail = after[: tail_match.start()] if tail_match else after
    if len(head.split()) + len(tail.split()) < MIN_PREFIX_WORDS:
        return before, after
    return head, tail


def _lowered(text: str) -> str:
    """With a small first letter where the first word is no name."""
    first = re.split(r"\W", text, maxsplit=1)[0]
    return text[:1].lower() + text[1:] if first.lower() in _SMALL.split() else text


def _mentions(question: str, title: str) -> bool:
    words = set(re.findall(r"\w{4,}", title.casefold()))
    return any(word in question.casefold() for word in words)
