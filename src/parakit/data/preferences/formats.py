"""The shapes in which preferences come, told apart by their keys:

    chosen, rejected                         with `prompt` or `messages`: text, or a list of messages
    chosen, rejected                         alone: two conversations that begin alike; lists of messages, or one text
                                             with "\\n\\nHuman:" and "\\n\\nAssistant:" before the turns
    instruction, (input), chosen, rejected   as Alpaca's instructions
    prompt, ranking                          answers from best to worst; `rewards` may stand beside them
    prompt, completions, ranks               1 is the best
    prompt, completions, rewards             the highest is the best

`margin` may stand in a pair. Other keys are left behind. A row that has another shape is an error; one that is
understood and has nothing to teach (equal answers, an empty one, a prompt that the assistant ended) is a
`UninformativeExample`, which readers count by its reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Message, parse_messages
from parakit.data.conversations.formats import instruction_text
from parakit.data.preferences.rankings import Ranking

HINT = 'a row looks like {"prompt": "Hello", "chosen": "Hello to you!", "rejected": "What?"}; see docs/preferences.md'
_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}

IDENTICAL = "the answers are the same"
EMPTY = "an answer is empty"
OTHER_PROMPTS = "chosen and rejected answer different prompts"
ENDS_ANSWERED = "the prompt ends with an assistant's turn"
ENDS_ASKED = "the conversation ends without an answer"
TIED = "no answer is better than another"


class UninformativeExample(Exception):
    """A row without a preference in it; `reason` is one of a few that are counted."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def parse_ranking(row: object, where: str) -> Ranking:
    """The ranking that a row stands for. `UserError` opening with `where` for one of no known shape."""
    if not isinstance(row, Mapping):
        raise UserError(f"{where}: a {type(row).__name__}, not an object with keys", HINT)
    ranking = _shape(row, where)(row, where)
    answers = [answer.strip() for answer in ranking.completions]
    if not all(answers):
        raise UninformativeExample(EMPTY)
    if len(set(answers)) < len(answers):
        raise UninformativeExample(IDENTICAL)
    if not ranking.prompt or ranking.prompt[-1].role not in ("user", "tool"):
        answered = ranking.prompt and ranking.prompt[-1].role == "assistant"
        if answered:
            raise UninformativeExample(ENDS_ANSWERED)
        raise UserError(f"{where}: the prompt asks nothing", "end it with a user's turn")
    if ranking.prompt[-1].role == "user" and not ranking.prompt[-1].content.strip():
        raise UserError(f"{where}: the prompt is empty", "fill it in, or take the row out")
    return ranking


def _shape(row: Mapping[str, Any], where: str) -> Callable[[Mapping[str, Any], str], Ranking]:
    """The reader of this row's shape."""
    has_pair = "chosen" in row and "rejected" in row
    has_prompt = "prompt" in row or "messages" in row or "instruction" in row
    if has_pair:
        return _pair if has_prompt else _implicit_pair
    if has_prompt and "ranking" in row:
        return _ranking
    if has_prompt and "completions" in row and ("ranks" in row or "rewards" in row):
        return _scored
    found = ", ".join(map(repr, row)) or "none"
    lone = next((key for key in ("chosen", "rejected") if key in row), None)
    missing = {"chosen": "rejected", "rejected": "chosen", None: "chosen"}[lone]
    if "completions" in row:
        missing = "rewards" if has_prompt else "prompt"
    elif "ranking" in row:
        missing = "prompt"
    raise UserError(f"{where}: no {missing!r}; its keys are {found}", HINT)


def _pair(row: Mapping[str, Any], where: str) -> Ranking:
    prompt = _prompt(row, where)
    answers = tuple(_answer(row[key], prompt, key, where) for key in ("chosen", "rejected"))
    return Ranking(prompt, answers, margin=_margin(row, where))


def _implicit_pair(row: Mapping[str, Any], where: str) -> Ranking:
    """Two whole conversations; what both begin with is the prompt."""
    sides = [_conversation(row[key], key, where) for key in ("chosen", "rejected")]
    for side in sides:
        if side[-1].role != "assistant":
            raise UninformativeExample(ENDS_ASKED)
    if sides[0][:-1] != sides[1][:-1]:
        raise UninformativeExample(OTHER_PROMPTS)
    answers = (sides[0][-1].content, sides[1][-1].content)
    return Ranking(sides[0][:-1], answers, margin=_margin(row, where))


def _ranking(row: Mapping[str, Any], where: str) -> Ranking:
    prompt = _prompt(row, where)
    answers = _answers(row, "ranking", prompt, where)
    rewards = _numbers(row, "rewards", len(answers), where) if row.get("rewards") is not None else None
    if rewards and any(better < worse for better, worse in pairwise(rewards)):
        raise UserError(
            f"{where}: 'rewards' {list(rewards)} do not fall from best to worst",
            "put the answers in their order, or call them 'completions'",
        )
    return Ranking(prompt, answers, rewards, _margin(row, where))


def _scored(row: Mapping[str, Any], where: str) -> Ranking:
    """Completions in any order. Of those with one rank or reward only the first is kept."""
    prompt = _prompt(row, where)
    answers = _answers(row, "completions", prompt, where)
    by_rank = "ranks" in row
    values = _numbers(row, "ranks" if by_rank else "rewards", len(answers), where)
    worth = {answer: -value if by_rank else value for answer, value in zip(answers, values, strict=True)}
    if len(worth) < len(answers):
        raise UninformativeExample(IDENTICAL)
    kept = {value: answer for answer, value in reversed(worth.items())}
    if len(kept) < 2:
        raise UninformativeExample(TIED)
    order = sorted(kept, reverse=True)
    return Ranking(prompt, tuple(kept[value] for value in order), None if by_rank else tuple(order))


def _prompt(row: Mapping[str, Any], where: str) -> tuple[Message, ...]:
    key = next(key for key in ("prompt", "messages", "instruction") if key in row)
    value = row[key]
    if key == "instruction":
        return (Message("user", _text(instruction_text(row, where), key, where)),)
    if isinstance(value, list):
        return parse_messages(value, where)
    text = _text(value, key, where)
    if not text.startswith("\n\nHuman:"):
        return (Message("user", text),)
    messages = _transcript(text)
    opened = messages[-1].role == "assistant" and not messages[-1].content
    return messages[:-1] if opened else messages


def _conversation(value: object, key: str, where: str) -> tuple[Message, ...]:
    messages: tuple[Message, ...] = ()
    if isinstance(value, list) and value:
        messages = parse_messages(value, where)
    elif isinstance(value, str) and value.startswith("\n\nHuman:"):
        messages = _transcript(value)
    if not messages:
        raise UserError(
            f"{where}: {key!r} is no conversation, and the row has no 'prompt'",
            "add the prompt, or write chosen and rejected as lists of messages",
        )
    return messages


def _transcript(text: str) -> tuple[Message, ...]:
    """ "\\n\\nHuman: ...\\n\\nAssistant: ..." as messages."""
    parts = _TURN.split(text)[1:]
    turns = [Message(_ROLES[who], said.strip()) for who, said in zip(parts[::2], parts[1::2], strict=True)]
    return tuple(turns)


def _answer(value: object, prompt: tuple[Message, ...], key: str, where: str) -> str:
    """An answer as text: given so, as one message, or as a conversation that begins with the prompt."""
    if isinstance(value, str):
        return _text(value, key, where)
    if not isinstance(value, list) or not value:
        raise UserError(f"{where}: {key!r} is {type(value).__name__}, not text or a list of messages", HINT)
    messages = parse_messages(value, where)
    if messages[-1].role != "assistant":
        raise UninformativeExample(ENDS_ASKED)
    if len(messages) > 1 and messages[:-1] != prompt:
        raise UninformativeExample(OTHER_PROMPTS)
    return messages[-1].content


def _answers(row: Mapping[str, Any], key: str, prompt: tuple[Message, ...], where: str) -> tuple[str, ...]:
    values = row[key]
    if not isinstance(values, list) or len(values) < 2:
        raise UserError(f"{where}: {key!r} is not a list of two answers or more", HINT)
    return tuple(_answer(value, prompt, f"{key}[{i}]", where) for i, value in enumerate(values))


def _numbers(row: Mapping[str, Any], key: str, n: int, where: str) -> tuple[float, ...]:
    values = row[key]
    if not isinstance(values, list) or len(values) != n:
        raise UserError(f"{where}: {key!r} is not a list of {n} numbers", "give every answer one")
    return tuple(_number(value, f"{key}[{i}]", where) for i, value in enumerate(values))


def _margin(row: Mapping[str, Any], where: str) -> float | None:
    value = row.get("margin")
    return None if value is None else _number(value, "margin", where)


def _number(value: object, key: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{where}: {key!r} is {value!r}, not a finite number", "give a number such as 0.5")
    return float(value)


def _text(value: object, key: str, where: str) -> str:
    """Text that UTF-8 can write; whether it says anything is looked at later."""
    (message,) = parse_messages([{"role": "user", "content": value}], f"{where}, {key!r}")
    return message.content
