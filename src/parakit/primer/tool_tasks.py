"""Tasks of the built-in world that need functions: questions, the conversation that solves each, and its checkable outcome.

Seven kinds: a count, a place, a sum and a difference of two counts (two calls in one turn, then a calculation), a gift (some
fail, which the answer has to say), a gift of everything, and small talk that needs no call. Held out are pairs of a person and
an item, or a town, as in the other skills.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import cycle

from parakit.common.files import JsonObject
from parakit.data.conversations.conversation import Conversation
from parakit.data.conversations.messages import Message, ToolCall
from parakit.primer.seeded_random import Random, is_held_out
from parakit.primer.skills import small_talk
from parakit.primer.skills.arithmetic import OBJECTS
from parakit.primer.tool_world import TOOLS, ToolTask, ToolWorld
from parakit.primer.world import NAMES, TOWNS

HELD_OUT_PERCENT = 20
MAX_COUNT = 20

COUNT = (
    "How many {o} does {n} have?",
    "How many {o} has {n} got?",
    "Count the {o} of {n}.",
    "Say how many {o} {n} has.",
    "What is the number of {o} that {n} has?",
)
PLACE = (
    "Where is {n} today?",
    "In which town is {n} today?",
    "Find {n}, please.",
    "Which town is {n} in now?",
)
SUM = (
    "How many {o} do {n} and {q} have together?",
    "How many {o} do {n} and {q} have in all?",
    "What is the sum of the {o} of {n} and {q}?",
)
DIFFERENCE = (
    "How many more {o} does {n} have than {q}?",
    "By how many {o} does {n} have more than {q}?",
)
GIFT = (
    "Give {k} {o} from {n} to {q}.",
    "Let {n} give {k} {o} to {q}.",
    "Please move {k} {o} from {n} to {q}.",
    "{n} gives {k} {o} to {q}. Do it, please.",
)
GIFT_OF_ALL = (
    "Give all the {o} of {n} to {q}.",
    "Move all {o} from {n} to {q}, please.",
    "Let {n} give all {o} to {q}.",
)


@dataclass
class _Solution:
    """A conversation as it grows, with the state that its calls change."""

    task: ToolTask
    messages: list[Message]
    world: ToolWorld

    def call(self, *calls: tuple[str, JsonObject]) -> list[str]:
        """One turn with these calls; the results."""
        made = [
            ToolCall(name, json.dumps(arguments), f"call{len(self.messages)}{i}")
            for i, (name, arguments) in enumerate(calls)
        ]
        results = [self.world.call(one.name, one.arguments) for one in made]
        self.messages.append(Message("assistant", "", tool_calls=tuple(made)))
        self.messages += [
            Message("tool", result, name=one.name, tool_call_id=one.id)
            for one, result in zip(made, results, strict=True)
        ]
        return results

    def finish(self, answer: str) -> Conversation:
        self.messages.append(Message("assistant", answer))
        return Conversation(tuple(self.messages), self.task.to_tests(), TOOLS)


def _begin(task: ToolTask, question: str) -> _Solution:
    return _Solution(task, [Message("user", question)], ToolWorld(task))


def _pair(random: Random, held_out: bool) -> tuple[str, str]:
    while True:
        name, item = random.pick(NAMES), random.pick(OBJECTS)
        if is_held_out(HELD_OUT_PERCENT, "tools", name, item) == held_out:
            return name, item


def _other(random: Random, name: str, item: str, held_out: bool) -> str:
    """Another person; in training not one whose pair with the item is held out."""
    while True:
        other = random.pick(NAMES)
        if other != name and (held_out or not is_held_out(HELD_OUT_PERCENT, "tools", other, item)):
            return other


def _count(random: Random, held_out: bool) -> Conversation:
    name, item = _pair(random, held_out)
    k = random.between(2, MAX_COUNT)
    stock = {name: {item: k}}
    made = _begin(ToolTask(stock, {}, stock, number=k), random.pick(COUNT).format(n=name, o=item))
    made.call(("count_items", {"person": name, "item": item}))
    return made.finish(f"{name} has {k} {item}.")


def _place(random: Random, held_out: bool) -> Conversation:
    while True:
        name, town = random.pick(NAMES), random.pick(TOWNS).name
        if is_held_out(HELD_OUT_PERCENT, "tools", name, town) == held_out:
            break
    task = ToolTask({}, {name: town}, {}, words=(town,))
    made = _begin(task, random.pick(PLACE).format(n=name))
    made.call(("find_person", {"person": name}))
    return made.finish(f"{name} is in {town} today.")


def _two_counts(random: Random, held_out: bool, is_sum: bool) -> Conversation:
    name, item = _pair(random, held_out)
    other = _other(random, name, item, held_out)
    small, large = random.between(2, MAX_COUNT - 1), random.between(2, MAX_COUNT - 1)
    if not is_sum:
        small, large = min(small, large), max(small, large) + 1
    stock = {name: {item: large}, other: {item: small}}
    sign, result = ("+", large + small) if is_sum else ("-", large - small)
    question = random.pick(SUM if is_sum else DIFFERENCE).format(n=name, q=other, o=item)
    made = _begin(ToolTask(stock, {}, stock, number=result), question)
    made.call(*(("count_items", {"person": one, "item": item}) for one in (name, other)))
    made.call(("calculate", {"expression": f"{large} {sign} {small}"}))
    if is_sum:
        return made.finish(f"{name} and {other} have {result} {item} together.")
    return made.finish(f"{name} has {result} more {item} than {other}. The answer is {result}.")


def _sum(random: Random, held_out: bool) -> Conversation:
    return _two_counts(random, held_out, True)


def _difference(random: Random, held_out: bool) -> Conversation:
    return _two_counts(random, held_out, False)


def _gift(random: Random, held_out: bool) -> Conversation:
    name, item = _pair(random, held_out)
    other = _other(random, name, item, held_out)
    fails = random.maybe(0.3)
    k = random.between(2, 9)
    has = random.between(1, k - 1) if fails else random.between(k, MAX_COUNT)
    stock = {name: {item: has}, other: {item: random.between(0, 9)}}
    after = stock if fails else _moved(stock, name, other, item, k)
    words = ("only", str(has)) if fails else ("gave", str(k))
    made = _begin(
        ToolTask(stock, {}, after, words=words), random.pick(GIFT).format(n=name, q=other, o=item, k=k)
    )
    made.call(("give_items", {"giver": name, "receiver": other, "item": item, "number": k}))
    return made.finish(f"{name} has only {has} {item}." if fails else f"{name} gave {k} {item} to {other}.")


def _gift_of_all(random: Random, held_out: bool) -> Conversation:
    name, item = _pair(random, held_out)
    other = _other(random, name, item, held_out)
    k = random.between(2, MAX_COUNT)
    stock = {name: {item: k}, other: {item: random.between(0, 9)}}
    task = ToolTask(stock, {}, _moved(stock, name, other, item, k), words=("gave", str(k)))
    made = _begin(task, random.pick(GIFT_OF_ALL).format(n=name, q=other, o=item))
    made.call(("count_items", {"person": name, "item": item}))
    made.call(("give_items", {"giver": name, "receiver": other, "item": item, "number": k}))
    return made.finish(f"{name} gave {k} {item} to {other}.")


def _moved(stock: dict[str, dict[str, int]], giver: str, receiver: str, item: str, k: int) -> dict:
    after = copy.deepcopy(stock)
    after[giver][item] -= k
    after[receiver][item] += k
    return after


def _talk(random: Random, held_out: bool) -> Conversation:
    question, answer = small_talk.draw(random)
    return _begin(ToolTask({}, {}, {}, no_calls=True), question).finish(answer)


KINDS: dict[str, Callable[[Random, bool], Conversation]] = {
    "count": _count,
    "place": _place,
    "sum": _sum,
    "difference": _difference,
    "gift": _gift,
    "gift_of_all": _gift_of_all,
    "no_call": _talk,
}


def generate_tool_tasks(
    n_tasks: int, seed: int = 0, held_out: bool = False
) -> Iterator[tuple[str, Conversation]]:
    """`n_tasks` tasks with their kinds, all equally frequent; a larger number continues the same stream."""
    random = Random(seed, "tool_tasks", "held_out" if held_out else "train")
    for _, (kind, draw) in zip(range(n_tasks), cycle(KINDS.items()), strict=False):
        yield kind, draw(random, held_out)


def generate_tool_conversations(
    n_conversations: int, max_tasks: int, seed: int = 0
) -> Iterator[Conversation]:
    """Conversations of one to `max_tasks` training tasks in one state: the tools are described once for all of them, so that a
    token of training has more calls. The outcome is that of the last task, with what the earlier ones changed.
    """
    if max_tasks == 1:
        yield from (conversation for _, conversation in generate_tool_tasks(n_conversations, seed))
        return
    random, kinds = Random(seed, "tool_conversations"), tuple(KINDS.values())
    for _ in range(n_conversations):
        parts = [random.pick(kinds)(random, False)]
        for _ in range(random.between(0, max_tasks - 1)):
            part = random.pick(kinds)(random, False)
            if not any(_share_state(part, other) for other in parts):
                parts.append(part)
        yield _joined(parts)


def _share_state(one: Conversation, other: Conversation) -> bool:
    """Whether two tasks are about the same items of a person, or the same person's place."""
    a, b = (ToolTask.from_tests(part.tests) for part in (one, other))
    return bool(_pairs(a) & _pairs(b) or set(a.places) & set(b.places))


def _pairs(task: ToolTask) -> set[tuple[str, str]]:
    return {(person, item) for person, items in task.stock.items() for item in items}


def _joined(parts: list[Conversation]) -> Conversation:
    """One conversation of several tasks, each in its part of the state."""
    tasks = [ToolTask.from_tests(part.tests) for part in parts]
    stock, after = _union(task.stock for task in tasks), _union(task.after for task in tasks)
    places: dict[str, str] = {}
    messages: list[Message] = []
    for number, (part, task) in enumerate(zip(parts, tasks, strict=True)):
        places |= task.places
        for message in part.messages:
            calls = tuple(replace(call, id=f"{call.id}of{number}") for call in message.tool_calls)
            answered = message.tool_call_id and f"{message.tool_call_id}of{number}"
            messages.append(replace(message, tool_calls=calls, tool_call_id=answered))
    whole = replace(tasks[-1], stock=stock, after=after, places=places)
    return Conversation(tuple(messages), whole.to_tests(), TOOLS)


def _union(stocks: Iterable[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    joined: dict[str, dict[str, int]] = {}
    for stock in stocks:
        for person, items in stock.items():
            joined.setdefault(person, {}).update(items)
    return joined
