"""Reasoning in a conversation whose chat template does not write it: the plain form, as a model writes it when it is used.

The last answer begins with its reasoning between tags. Earlier answers lose their reasoning, as they do in use,
where a template gets the history without it, and are context: they would teach the model to answer without reasoning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from parakit.data.conversations.messages import Message


def with_plain_reasoning(messages: Sequence[Message], opening: str, closing: str) -> list[Message]:
    """The conversation with the reasoning of its last answer as text between `opening` and `closing`."""
    turns = without_earlier_reasoning(messages, len(messages) - 1)
    last = turns[-1] if turns else None
    if last is not None and last.reasoning_content:
        thought = f"{opening}\n{last.reasoning_content.strip()}\n{closing}\n\n{last.content}"
        turns[-1] = replace(last, content=thought.rstrip(), reasoning_content=None)
    return turns


def without_earlier_reasoning(messages: Sequence[Message], first: int) -> list[Message]:
    """The conversation without the reasoning of the answers before message `first`, which become context."""
    return [
        replace(one, reasoning_content=None, weight=0)
        if number < first and one.role == "assistant" and one.reasoning_content
        else one
        for number, one in enumerate(messages)
    ]
