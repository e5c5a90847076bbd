"""Questions that need the conversation before them, as queries that stand alone.

By rule: a question with a pronoun, with the beginning of a follow-up or with hardly any content gets the content words of
the user's last question that it does not have. By a model: it rewrites the question, and what it writes is taken only where
it is one line with most of the question's own content. What the rule cannot do: choose between two things that were named.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from parakit.assistants.retrieval.config import Rewrite
from parakit.data.conversations.conversation import Message
from parakit.data.conversations.from_documents.checks import content_words, found_words

if TYPE_CHECKING:
    from parakit.inference.chat_models.chat_model import ChatModel

_PRONOUNS = "it its itself they them their he him his she her hers this that these those there one ones same"
_PRONOUN = re.compile(rf"\b(?:{'|'.join(_PRONOUNS.split())})\b", re.IGNORECASE)
_BEGINNING = re.compile(r"\s*(?:and|but|or|so|then|also|what about|how about|why|really)\b", re.IGNORECASE)
_WORD = re.compile(r"\w+(?:[.,'’-]\w+)*")
MIN_CONTENT = 2  # content words of a question that stands alone
MAX_REWRITTEN_WORDS = 60
_REQUEST = (
    "Rewrite the last question so that it can be understood without the conversation: put names in place of pronouns and"
    " add what is left out. Write the question only.\n\n{turns}\n\nLast question: {question}"
)


def needs_context(question: str) -> bool:
    """Whether a question seems to refer to what was written before it. Pronouns and beginnings are English."""
    return bool(
        _PRONOUN.search(question) or _BEGINNING.match(question) or len(content_words(question)) < MIN_CONTENT
    )


def standalone_query(
    question: str, history: Sequence[Message], rewrite: Rewrite = "words", model: ChatModel | None = None
) -> str:
    """The query for a question after `history`; the question itself where it needs none of it."""
    users = [one.content for one in history if one.role == "user"]
    if rewrite == "none" or not users or not needs_context(question):
        return question
    if rewrite == "model" and model is not None:
        written = _by_model(question, history, model)
        if written is not None:
            return written
    return _by_words(question, users)


def _by_words(question: str, users: Sequence[str]) -> str:
    """The question and the content words of the questions before it, up to the last one that stands alone."""
    added: list[str] = []
    known = content_words(question)
    for earlier in reversed(users):
        wanted = content_words(earlier)
        for word in _WORD.findall(earlier):
            folded = re.sub(r"['’]s$", "", word.casefold())
            if folded in wanted and folded not in known:
                known.add(folded)
                added.append(word)
        if not needs_context(earlier):
            break
    return " ".join([question, *added])


def _by_model(question: str, history: Sequence[Message], model: ChatModel) -> str | None:
    turns = "\n".join(f"{one.role}: {one.content}" for one in history[-4:] if one.role != "system")
    request = Message("user", _REQUEST.format(turns=turns, question=question))
    written = (model.generate([[request]], max_new_tokens=80)[0] or "").strip().strip('"')
    own = content_words(question)
    if not written or "\n" in written or len(written.split()) > MAX_REWRITTEN_WORDS:
        return None
    return written if 2 * len(found_words(own, written)) >= len(own) else None
