"""How varied the primer is, and that its suites are new: counts over everything that the primer hands out.

A sentence is what stands between full stops, question marks, exclamation marks and line ends, in lower case,
without the name of the speaker or the heading ("Question:") before it. The held-out sentences are all
sentences of the suites' questions; system prompts and answers ("I don't know.") recur by their nature and
are no part of the question.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from parakit.primer.assembly import conversations, documents, suites
from parakit.primer.config import PrimerConfig
from parakit.primer.grading import SuiteItem
from parakit.primer.world import NAMES

_HEADING = re.compile(rf"^(?:{'|'.join(('Question', 'Answer', 'Setting', 'English', 'French', *NAMES))}): ")
_END = re.compile(r"[.!?]+[\"']?(?:\s+|$)")
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*|\d")


def sentences_of(text: str) -> Iterator[str]:
    """The sentences of a text, normalised so that equal ones compare equal."""
    for line in text.splitlines():
        for sentence in _END.split(_HEADING.sub("", line)):
            if sentence := sentence.strip(" \"'"):
                yield sentence.lower()


def words_of(text: str) -> list[str]:
    """Words in lower case, and single digits."""
    return _WORD.findall(text.lower())


def question_sentences(item: SuiteItem) -> set[str]:
    """The held-out sentences of one item: those of the user's message."""
    return set(sentences_of(item.messages[-1].content))


def training_texts(config: PrimerConfig) -> Iterator[str]:
    """Every text that a model may be trained on: the documents, then each message of each conversation."""
    for document in documents(config):
        yield document.text
    for conversation in conversations(config):
        for message in conversation.messages:
            yield message.content


def _variety(texts: Iterable[str]) -> dict[str, float]:
    words: Counter[str] = Counter()
    sentences: Counter[str] = Counter()
    for text in texts:
        words.update(words_of(text))
        sentences.update(sentences_of(text))
    n_words, n_sentences = max(words.total(), 1), max(sentences.total(), 1)
    return {
        "n_words": words.total(),
        "n_word_types": len(words),
        "type_token_ratio": len(words) / n_words,
        "n_sentences": sentences.total(),
        "distinct_sentence_share": len(sentences) / n_sentences,
        "mean_sentence_words": n_words / n_sentences,
    }


def statistics(config: PrimerConfig) -> dict:
    """Counts, lengths and variety of documents and conversations; size, balance and newness of each suite."""
    read = list(documents(config))
    talks = list(conversations(config))
    held_out = suites(config)
    turns = [message.content for talk in talks for message in talk.messages]
    seen = {
        sentence
        for text in (*(document.text for document in read), *turns)
        for sentence in sentences_of(text)
    }
    asked = {
        sentence for items in held_out.values() for item in items for sentence in question_sentences(item)
    }
    stories = [document.text for document in read if document.source == "primer/story"]
    return {
        "documents": {
            "n": len(read),
            "n_bytes": sum(document.n_bytes for document in read),
            "distinct_share": len({document.text for document in read}) / max(len(read), 1),
            "mean_chars": sum(len(document.text) for document in read) / max(len(read), 1),
            **_variety(document.text for document in read),
        },
        "stories": {"n": len(stories), **_variety(stories)},
        "conversations": {
            "n": len(talks),
            "n_bytes": sum(len(turn.encode()) for turn in turns),
            "mean_messages": len(turns) / max(len(talks), 1),
            "distinct_share": len(set(talks)) / max(len(talks), 1),
            **_variety(turns),
        },
        "suites": {name: _suite_statistics(items) for name, items in held_out.items()},
        "held_out_sentences": len(asked),
        "held_out_sentences_seen": len(asked & seen) / max(len(asked), 1),
    }


def _suite_statistics(items: list[SuiteItem]) -> dict[str, float]:
    answers = Counter(item.answer for item in items)
    return {
        "n": len(items),
        "n_answers": len(answers),
        "commonest_answer_share": max(answers.values()) / len(items),
        "mean_question_words": sum(len(words_of(item.messages[-1].content)) for item in items) / len(items),
        "mean_answer_words": sum(len(words_of(item.answer)) for item in items) / len(items),
    }
