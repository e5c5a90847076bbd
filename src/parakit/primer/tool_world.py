"""The functions of the primer's tool tasks, the little state that they read and change, and whether a task is solved.

Counts and places are drawn for each task, so that no answer can be known without a call. A task is solved by its outcome: the
state that the calls leave, and what the last answer says; which calls led there does not matter.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.data.conversations.messages import Message
from parakit.primer.grading import final_number, normalise

KEY = "tool_task"  # in the `tests` of a conversation
CHANGING = frozenset(("give_items",))
_SUM = re.compile(r"\s*(-?\d{1,6})\s*([-+*])\s*(\d{1,6})\s*")


def _function(name: str, description: str, **properties: str) -> JsonObject:
    parameters = {
        "type": "object",
        "properties": {key: {"type": kind} for key, kind in properties.items()},
        "required": list(properties),
    }
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


FUNCTIONS: tuple[JsonObject, ...] = (
    _function("count_items", "How many of an item a person has.", person="string", item="string"),
    _function("find_person", "The town where a person is today.", person="string"),
    _function(
        "give_items",
        "Give items of one person to another.",
        giver="string",
        receiver="string",
        item="string",
        number="integer",
    ),
    _function("calculate", "The result of a sum.", expression="string"),
)
TOOLS = json.dumps(list(FUNCTIONS))
"""As a conversation has them."""


@dataclass(frozen=True)
class ToolTask:
    """What a task is about and what solves it, as plain data.

    `stock`: person, item, count; `places`: person, town; `after`: the stock that the calls must leave. The last answer's final
    number is `number`, and it has all of `words`; `no_calls`: the task needs none, and a call fails it.
    """

    stock: dict[str, dict[str, int]]
    places: dict[str, str]
    after: dict[str, dict[str, int]]
    number: int | None = None
    words: tuple[str, ...] = ()
    no_calls: bool = False

    def to_tests(self) -> str:
        """The JSON text for a conversation's `tests`."""
        return json.dumps({KEY: asdict(self)})

    @classmethod
    def from_tests(cls, tests: str | None) -> ToolTask:
        """The task in a conversation's `tests`; `UserError` where there is none."""
        try:
            row = json.loads(tests or "{}")[KEY]
            return cls(**{**row, "words": tuple(row["words"])})
        except (KeyError, TypeError, ValueError):
            raise UserError(
                "a conversation has no task of the built-in world's tools",
                "generate them with `conversations: {primer: {kind: tools}}`",
            ) from None


@dataclass
class ToolWorld:
    """The state of one task while a model works on it."""

    task: ToolTask
    stock: dict[str, dict[str, int]] = field(init=False)
    n_calls: int = 0
    n_invalid: int = 0
    """Calls of no function, or with other arguments than its schema has."""

    def __post_init__(self) -> None:
        self.stock = copy.deepcopy(self.task.stock)

    def call(self, name: str, arguments: str | JsonObject) -> str:
        """The result of a call as text; a mistake is an "error: ..." that the model reads."""
        self.n_calls += 1
        try:
            values = json.loads(arguments) if isinstance(arguments, str) else arguments
            return str(getattr(self, f"_{name}")(**_checked(name, values)))
        except (KeyError, ValueError, TypeError, AttributeError):
            self.n_invalid += 1
            return "error: no such function or arguments"

    def _count_items(self, person: str, item: str) -> int:
        return self.stock.get(person, {}).get(item, 0)

    def _find_person(self, person: str) -> str:
        return self.task.places.get(person, f"error: nobody knows where {person} is")

    def _give_items(self, giver: str, receiver: str, item: str, number: int) -> str:
        has = self._count_items(giver, item)
        if not 0 < number <= has:
            return f"error: {giver} has only {has} {item}"
        self.stock[giver][item] = has - number
        self.stock.setdefault(receiver, {})[item] = self._count_items(receiver, item) + number
        return "done"

    def _calculate(self, expression: str) -> str:
        match = _SUM.fullmatch(expression)
        if match is None:
            return "error: write one sum, such as 7 + 5"
        a, b = int(match[1]), int(match[3])
        return str(a + b if match[2] == "+" else a - b if match[2] == "-" else a * b)


def _checked(name: str, values: Any) -> JsonObject:
    properties = _PROPERTIES[name]
    kinds = {"string": str, "integer": int}
    if set(values) != set(properties) or not all(
        type(values[key]) is kinds[schema["type"]] for key, schema in properties.items()
    ):
        raise ValueError("other arguments")
    return values


_PROPERTIES = {one["function"]["name"]: one["function"]["parameters"]["properties"] for one in FUNCTIONS}


@dataclass(frozen=True)
class ToolOutcome:
    """Whether a task is solved, and its calls."""

    is_solved: bool
    n_calls: int
    n_invalid: int


def outcome(task: ToolTask, messages: Sequence[Message]) -> ToolOutcome:
    """Of a finished conversation, whose calls are made once more on a fresh state; its counts are of the last question."""
    world = world_after(task, messages)
    last = messages[-1]
    answer = last.content if last.role == "assistant" and not last.tool_calls else ""
    text = normalise(answer)
    is_solved = (
        bool(text)
        and world.stock == task.after
        and (task.number is None or final_number(text) == task.number)
        and all(re.search(rf"(?<!\w){re.escape(normalise(word))}(?!\w)", text) for word in task.words)
        and not (task.no_calls and world.n_calls)
    )
    return ToolOutcome(is_solved, world.n_calls, world.n_invalid)


def world_after(task: ToolTask, messages: Sequence[Message]) -> ToolWorld:
    """The state after the calls of some messages; its counts are of those after the last question."""
    world = ToolWorld(task)
    for message in messages:
        if message.role == "user":
            world.n_calls = world.n_invalid = 0
        for call in message.tool_calls:
            world.call(call.name, call.arguments)
    return world
