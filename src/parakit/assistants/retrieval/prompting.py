"""The request that a model gets with a question: the passages by number, and what to do where they lack the answer.

Training data out of an index has the same form, so a tuned model reads at work what it read in training.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from parakit.assistants.retrieval.search import Hit
from parakit.assistants.retrieval.store import StoredPassage
from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Message

REFUSAL = "The documents do not say."
INSTRUCTIONS = (
    "Answer the question from the passages, in a sentence or two, and put the number of its passage behind each sentence,"
    f" such as [1]. If the passages do not have the answer, reply only: {REFUSAL}"
)
CountTokens = Callable[[Sequence[Message]], int]


@dataclass(frozen=True)
class FittedContext:
    """The messages to send, the passages in them, and those that the budget could not hold. `n_tokens`: of the messages;
    `budget`: the most that they may have.
    """

    messages: tuple[Message, ...]
    used: tuple[Hit, ...]
    omitted: tuple[Hit, ...]
    n_tokens: int
    budget: int


def request(question: str, passages: Sequence[StoredPassage]) -> Message:
    """The user's message of a question about passages."""
    parts = [f"[{number}] {one.place}\n{one.text}" for number, one in enumerate(passages, 1)]
    return Message("user", "\n\n".join([INSTRUCTIONS, *parts, f"Question: {question}"]))


def fit_context(
    question: str, hits: Sequence[Hit], before: Sequence[Message], count: CountTokens, budget: int
) -> FittedContext:
    """The question with as many of the hits, best first, as `budget` tokens hold; one that is too long is left out whole,
    and shorter ones after it may still go in. `before`: earlier turns, the system prompt included. `UserError` where the
    question itself is too long, or no passage fits.
    """
    bare = [*before, request(question, ())]
    if (n_bare := count(bare)) > budget:
        raise UserError(
            f"the question has {n_bare} tokens with its instructions, and {budget} are left for it and the passages",
            "shorten it or the conversation, lower --max-new-tokens, or take a model with a larger context window",
        )
    used: list[Hit] = []
    omitted: list[Hit] = []
    n_tokens = n_bare
    for hit in hits:
        tried = [one.passage for one in (*used, hit)]
        n_tried = count([*before, request(question, tried)])
        if n_tried <= budget:
            used.append(hit)
            n_tokens = n_tried
        else:
            omitted.append(hit)
    if hits and not used:
        shortest = min(count([*before, request(question, [hit.passage])]) for hit in hits)
        raise UserError(
            f"no passage fits: the shortest needs {shortest} tokens with the question, and {budget} are left",
            "make the index with shorter passages (--passage-chars), lower --max-new-tokens, or take a model with a larger"
            " context window",
        )
    messages = (*before, request(question, [hit.passage for hit in used]))
    return FittedContext(messages, tuple(used), tuple(omitted), n_tokens, budget)


def recent_turns(history: Sequence[Message], count: CountTokens, budget: int) -> list[Message]:
    """The conversation without as few of its oldest messages as leave it within `budget`, beginning with the system prompt,
    which stays, and a user's message.
    """
    system = [one for one in history[:1] if one.role == "system"]
    rest = list(history[len(system) :])
    while rest and (rest[0].role != "user" or count([*system, *rest]) > budget):
        rest.pop(0)
    return [*system, *rest]


_LETTERS = re.compile(r"\w+")


def is_refusal(answer: str, refusal: str = REFUSAL) -> bool:
    """Whether an answer begins with the refusal, whatever its case and punctuation."""
    words, wanted = _LETTERS.findall(answer.casefold()), _LETTERS.findall(refusal.casefold())
    return words[: len(wanted)] == wanted
