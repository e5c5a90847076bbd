"""Questions and answers about a passage by rules alone: its statements, each worded in several ways."""

from __future__ import annotations

import hashlib
from heapq import nsmallest

from parakit.data.conversations.from_documents.config import WrittenByRules
from parakit.data.conversations.from_documents.pairs import Pair
from parakit.data.conversations.from_documents.passages import Passage, file_title
from parakit.data.conversations.from_documents.phrasings import questions_about
from parakit.data.conversations.from_documents.statements import Statement, statements_of


def pairs_by_rules(passage: Passage, config: WrittenByRules) -> list[Pair]:
    """The pairs of a passage, not checked yet: of at most `max_facts` statements, in the order of the text, at most
    `wordings` each. Which ones is drawn from digests, so that it does not depend on other passages.
    """
    title = passage.title or file_title(passage.file)
    found = list(dict.fromkeys(statements_of(passage.text, title, bool(passage.title))))
    drawn = set(nsmallest(config.max_facts, found, key=_draw))
    pairs: list[Pair] = []
    for statement in (one for one in found if one in drawn):
        every = questions_about(statement, title)
        chosen = set(nsmallest(config.wordings, every, key=_draw))
        pairs += [pair for pair in every if pair in chosen]
    return pairs


def _draw(one: Statement | Pair) -> str:
    return hashlib.sha256(repr(one).encode()).hexdigest()
