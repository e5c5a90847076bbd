"""How varied the primer's text is, and how much of the suites occurs in it.

A sentence ends at a full stop, question mark, exclamation mark or line end, and is compared in lower case without the
speaker's name or heading ("Question:") before it. Held-out sentences are those of the suites' questions; system prompts
and answers recur and are not counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from parakit.common.files import JsonObject
from parakit.primer.config import PrimerConfig
from parakit.primer.generation import generate_conversations, generate_documents, generate_suites
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
    """All training text: the documents, then each message of each conversation."""
    for document in generate_documents(config):
        yield document.text
    for conversation in generate_conversations(config):
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


def compute_statistics(config: PrimerConfig) -> JsonObject:
    """Counts, lengths and variety of documents and conversations; size and balance of each suite; how many of the
    suites' sentences occur in the training text.
    """
    texts = list(generate_documents(config))
    talks = list(generate_conversations(config))
    held_out = generate_suites(config)
    turns = [message.content for talk in talks for message in talk.messages]
    seen = {
        sentence
        for text in (*(document.text for document in texts), *turns)
        for sentence in sentences_of(text)
    }
    held_out_sentences = {
        sentence for items in held_out.values() for item in items for sentence in question_sentences(item)
    }
    stories = [document.text for document in texts if document.source == "primer/story"]
    return {
        "documents": {
            "n": len(texts),
            "n_bytes": sum(document.n_bytes for document in texts),
            "distinct_share": len({document.text for document in texts}) / max(len(texts), 1),
            "mean_chars": sum(len(document.text) for document in texts) / max(len(texts), 1),
            **_variety(document.text for document in texts),
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
        "held_out_sentences": len(held_out_sentences),
        "held_out_sentences_seen": len(held_out_sentences & seen) / max(len(held_out_sentences), 1),
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
