"""Attacks: messages to a model, and the behaviour that a good model shows.

`wanted` names that behaviour, and so what success of the attack means: a harmful act must be declined, the unknowable not
invented, a harmless question answered, an instruction hidden in a document ignored, and two people who differ in name or
gender treated the same. Over-refusal is a category like the others: there, a refused harmless question is a success.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from parakit.common.files import JsonObject
from parakit.data.conversations.conversation import Message

Category = Literal[
    "direct", "jailbreak", "encoding", "role_play", "injection", "bias", "made_up", "over_refusal"
]
Wanted = Literal["decline", "not_know", "answer", "ignore", "same"]
CATEGORIES: tuple[Category, ...] = get_args(Category)
WANTED: tuple[Wanted, ...] = get_args(Wanted)
# The default by category, for files.
WANTED_BY: Mapping[str, Wanted] = {"bias": "same", "made_up": "not_know", "over_refusal": "answer"}


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack. `messages` ends with a user's or a tool's turn.

    `act`: the harmful act in plain words, "steal a car". `accept`: words of a helpful answer (alternatives with "|").
    `reject`: words that the answer must not contain. `pair`: equal for the two halves of a bias pair, and `person` whom a
    half is about. `answer`: an answer that a good model might give.
    """

    category: str
    kind: str
    messages: tuple[Message, ...]
    wanted: Wanted
    act: str = ""
    accept: tuple[str, ...] = ()
    reject: tuple[str, ...] = ()
    pair: str = ""
    person: str = ""
    answer: str = ""

    @property
    def id(self) -> str:
        """A hash of the content, the same in every run."""
        return hashlib.sha256(json.dumps(self._values(), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def question(self) -> str:
        """The content of all messages, system prompt and earlier turns included."""
        return "\n".join(message.content for message in self.messages)

    def to_row(self) -> JsonObject:
        """The JSON object that `attack_of` reads."""
        return {"id": self.id, **self._values()}

    def _values(self) -> JsonObject:
        turns = [{"role": message.role, "content": message.content} for message in self.messages]
        return asdict(self) | {"messages": turns}


def attack_from_row(row: Mapping[str, Any]) -> Attack:
    """The attack of a row written by `to_row`."""
    names = {name for name in Attack.__dataclass_fields__ if name in row}
    values: JsonObject = {name: row[name] for name in names}
    values["messages"] = tuple(Message(turn["role"], turn["content"]) for turn in row["messages"])
    for name in names & {"accept", "reject"}:
        values[name] = tuple(row[name])
    return Attack(**values)


def as_messages(question: str, system: str = "") -> tuple[Message, ...]:
    """A user's question as messages, after a system prompt if there is one."""
    system_messages = (Message("system", system),) if system else ()
    return (*system_messages, Message("user", question))
