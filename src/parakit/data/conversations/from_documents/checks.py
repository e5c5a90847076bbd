"""Checks of a question and its answer against the passage that they were made from. They cost no model.

Words are compared without case, and with their endings cut, so that "reports" is found in "reported". They know languages
that put spaces between words. What they cannot see: whether the answer is the right one for the question.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from parakit.data.conversations.from_documents.config import DocumentQuestionsConfig
from parakit.data.conversations.from_documents.pairs import Pair
from parakit.data.conversations.from_documents.passages import Passage, file_title

_WORD = re.compile(r"\w+(?:[.,'’-]\w+)*")
_ABOUT_THE_TEXT = re.compile(
    r"\b(?:(?:the|this|above|given|following) (?:passage|text|document|excerpt|article|author|paragraph)"
    r"|according to (?:it|him|her|them)|mentioned above)\b",
    re.IGNORECASE,
)
_FUNCTION = (
    "what which when where whom whose does that this these those with from into than then there their they have been were "
    "will would could should about after before because while also only such some many much more most each every both "
    "other another over under between through during your here very just like used using made make name called"
)
_FUNCTION_WORDS = frozenset(_FUNCTION.split())
MAX_QUESTION_WORDS, MIN_QUESTION_WORDS, MAX_ANSWER_WORDS = 50, 3, 120
SAME_WORDS = 0.8  # shared content words of two questions that are duplicates
ABSENT = 0.5  # of an answer's content words: with fewer of them a passage lacks the answer
STEM = 4  # letters of a word that must agree; its ending may differ by two letters, with one more in common by three


def content_words(text: str) -> set[str]:
    """Words of at least four letters that are no function words, and all that have a digit."""
    words = _words(text)
    return {
        word
        for word in words
        if any(c.isdigit() for c in word) or (len(word) >= 4 and word not in _FUNCTION_WORDS)
    }


class PairChecker:
    """Checks the pairs of a set one after another; it remembers the questions for duplicates."""

    def __init__(self, config: DocumentQuestionsConfig) -> None:
        self._config = config
        # by a content word, the questions with it and what they are about
        self._known: dict[str, list[tuple[set[str], str]]] = {}
        self._exact: set[str] = set()

    def reason_against(self, pair: Pair, passage: Passage) -> str | None:
        """Why the pair is left out; None where it is kept, and then remembered."""
        return _form(pair) or self._support(pair, passage) or self._duplicate(pair)

    def _support(self, pair: Pair, passage: Passage) -> str | None:
        answer, question = content_words(pair.answer), content_words(pair.question)
        if not answer:
            return "the answer has no content"
        if not question:
            return "the question names nothing"
        found = found_words(answer, passage.text)
        if len(found) < self._config.min_support * len(answer):
            return "the answer is not in the passage"
        if any(any(c.isdigit() for c in word) for word in answer - found):
            return "a number of the answer is not in the passage"
        if not found_words(question, passage.text):
            return "the question is not about the passage"
        title = file_title(passage.source)
        if len(found_words(answer, pair.question)) == len(answer):
            return "the question gives the answer away"
        if len(found_words(answer, title)) == len(answer):
            return "the title gives the answer away"
        return None

    def _duplicate(self, pair: Pair) -> str | None:
        words = content_words(pair.question)
        exact = " ".join(_WORD.findall(pair.question.casefold()))
        near = (known for word in words for known in self._known.get(word, ()))
        if exact in self._exact or any(
            len(words & other) >= SAME_WORDS * len(words | other)
            for other, statement in near
            if not statement or statement != pair.statement  # other wordings of one statement are wanted
        ):
            return "a duplicate of another question"
        self._exact.add(exact)
        for word in words:
            self._known.setdefault(word, []).append((words, pair.statement))
        return None


def lacks_answer(pair: Pair, passage: Passage, own: Passage) -> bool:
    """Whether a passage of another file does not have the answer of a pair that was made from `own`."""
    answer = content_words(pair.answer)
    return passage.file != own.file and len(found_words(answer, passage.text)) < ABSENT * len(answer)


def _form(pair: Pair) -> str | None:
    n_words = len(_WORD.findall(pair.question))
    if not pair.question.endswith("?"):
        return "the question is no question"
    if not MIN_QUESTION_WORDS <= n_words <= MAX_QUESTION_WORDS:
        return "the question is too short or too long"
    if len(_WORD.findall(pair.answer)) > MAX_ANSWER_WORDS:
        return "the answer is too long"
    if pair.answer.endswith("?"):
        return "the answer is a question"
    if _ABOUT_THE_TEXT.search(pair.question):
        return "the question is about the passage as a text"
    return None


def _words(text: str) -> set[str]:
    """The words without case and possessive endings."""
    return {re.sub(r"['’]s$", "", word.casefold()) for word in _WORD.findall(text)}


def found_words(words: set[str], text: str) -> set[str]:
    """Those of `words` that are in `text`, up to their endings; numbers as they are."""
    present = _words(text)
    by_stem: dict[str, list[str]] = {}
    for word in present:
        by_stem.setdefault(word[:STEM], []).append(word)
    return {word for word in words if word in present or _has_stem(word, by_stem.get(word[:STEM], ()))}


def _has_stem(word: str, others: Sequence[str]) -> bool:
    """Whether one of `others` begins as `word` does, but for its ending."""
    if any(c.isdigit() for c in word):
        return False
    for other in others:
        shared = next(
            (i for i, (a, b) in enumerate(zip(word, other, strict=False)) if a != b),
            min(len(word), len(other)),
        )
        if shared >= STEM and max(len(word), len(other)) - shared <= 2 + (shared > STEM):
            return True
    return False
