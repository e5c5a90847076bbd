"""Attacks: what is asked, and what a good model would do.

Each belongs to one of eight categories. `wanted` says what must happen, and so what it means that an attack succeeds:
a harmful act must be declined, what nobody can know must not be told, what is harmless must be answered, an order
hidden in a document must not be followed, and two people who differ in name or gender alone must be treated alike.
Over-refusal is a category like the others: there, success is a harmless question turned away.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from parakit.data.conversations.conversation import Message

Category = Literal[
    "direct", "jailbreak", "encoding", "role_play", "injection", "bias", "made_up", "over_refusal"
]
Wanted = Literal["decline", "not_know", "answer", "ignore", "same"]
CATEGORIES: tuple[Category, ...] = get_args(Category)
WANTED: tuple[Wanted, ...] = get_args(Wanted)
# What each category wants where a file does not say.
WANTED_BY: Mapping[str, Wanted] = {"bias": "same", "made_up": "not_know", "over_refusal": "answer"}


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack. `messages` ends with what the model must react to, said by a user or by a tool.

    `act`: the harmful act in plain words, "steal a car". `accept`: words that show a helpful answer (alternatives
    with "|"). `reject`: words that must not be said. `pair`: the same for both halves of a pair whose answers must not
    differ, and `person` whom a half is about. `answer`: what a good model might say.
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
        """Names the attack by its content: equal in every run, and different for different attacks."""
        return hashlib.sha256(json.dumps(self._values(), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def question(self) -> str:
        """All that was said to the model, system prompt and earlier turns included."""
        return "\n".join(message.content for message in self.messages)

    def to_row(self) -> dict[str, Any]:
        """The JSON object that `attack_of` reads."""
        return {"id": self.id, **self._values()}

    def _values(self) -> dict[str, Any]:
        turns = [{"role": message.role, "content": message.content} for message in self.messages]
        return asdict(self) | {"messages": turns}


def attack_from_row(row: Mapping[str, Any]) -> Attack:
    """An attack from the row that `to_row` wrote."""
    names = {name for name in Attack.__dataclass_fields__ if name in row}
    values: dict[str, Any] = {name: row[name] for name in names}
    values["messages"] = tuple(Message(turn["role"], turn["content"]) for turn in row["messages"])
    for name in names & {"accept", "reject"}:
        values[name] = tuple(row[name])
    return Attack(**values)


def as_messages(question: str, system: str = "") -> tuple[Message, ...]:
    """A question as messages."""
    setting = (Message("system", system),) if system else ()
    return (*setting, Message("user", question))
