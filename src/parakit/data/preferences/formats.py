"""The formats of preferences, recognized by their keys:

    chosen, rejected                         with `prompt` or `messages`: text, or a list of messages
    chosen, rejected                         alone: two conversations with the same beginning; lists of messages, or a
                                             text with "\\n\\nHuman:" and "\\n\\nAssistant:" before the turns
    instruction, (input), chosen, rejected   as Alpaca's instructions
    prompt, ranking                          answers from best to worst, optionally with `rewards`
    prompt, completions, ranks               1 is the best
    prompt, completions, rewards             the highest is the best

A pair may have a `margin`. Other keys are ignored. A row of another format is an error; one without anything to learn
(equal answers, an empty one, a prompt that ends with the assistant) raises `UninformativeExample`, which readers count.
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
ENDS_UNANSWERED = "the conversation ends without an answer"
TIED = "no answer is better than another"


class UninformativeExample(Exception):
    """A row without a preference; `reason` is one of the constants above."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def parse_ranking(row: object, where: str) -> Ranking:
    """The ranking of a row. `UserError` opening with `where` for an unknown format."""
    if not isinstance(row, Mapping):
        raise UserError(f"{where}: a {type(row).__name__}, not an object with keys", HINT)
    ranking = _format_of(row, where)(row, where)
    answers = [answer.strip() for answer in ranking.completions]
    if not all(answers):
        raise UninformativeExample(EMPTY)
    if len(set(answers)) < len(answers):
        raise UninformativeExample(IDENTICAL)
    if not ranking.prompt or ranking.prompt[-1].role not in ("user", "tool"):
        answered = ranking.prompt and ranking.prompt[-1].role == "assistant"
        if answered:
            raise UninformativeExample(ENDS_ANSWERED)
        raise UserError(f"{where}: the prompt has no question", "end it with a user's turn")
    if ranking.prompt[-1].role == "user" and not ranking.prompt[-1].content.strip():
        raise UserError(f"{where}: the prompt is empty", "fill it in, or remove the row")
    return ranking


def _format_of(row: Mapping[str, Any], where: str) -> Callable[[Mapping[str, Any], str], Ranking]:
    """The reader of this row's format."""
    has_pair = "chosen" in row and "rejected" in row
    has_prompt = "prompt" in row or "messages" in row or "instruction" in row
    if has_pair:
        return _pair if has_prompt else _implicit_pair
    if has_prompt and "ranking" in row:
        return _ranking
    if has_prompt and "completions" in row and ("ranks" in row or "rewards" in row):
        return _scored
    keys = ", ".join(map(repr, row)) or "none"
    lone = next((key for key in ("chosen", "rejected") if key in row), None)
    missing = {"chosen": "rejected", "rejected": "chosen", None: "chosen"}[lone]
    if "completions" in row:
        missing = "rewards" if has_prompt else "prompt"
    elif "ranking" in row:
        missing = "prompt"
    raise UserError(f"{where}: no {missing!r}; its keys are {keys}", HINT)


def _pair(row: Mapping[str, Any], where: str) -> Ranking:
    prompt = _prompt(row, where)
    answers = tuple(_answer(row[key], prompt, key, where) for key in ("chosen", "rejected"))
    return Ranking(prompt, answers, margin=_margin(row, where))


def _implicit_pair(row: Mapping[str, Any], where: str) -> Ranking:
    """Two whole conversations; their common beginning is the prompt."""
    conversations = [_conversation(row[key], key, where) for key in ("chosen", "rejected")]
    for conversation in conversations:
        if conversation[-1].role != "assistant":
            raise UninformativeExample(ENDS_UNANSWERED)
    first, second = conversations
    if first[:-1] != second[:-1]:
        raise UninformativeExample(OTHER_PROMPTS)
    answers = (first[-1].content, second[-1].content)
    return Ranking(first[:-1], answers, margin=_margin(row, where))


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
    scores = {answer: -value if by_rank else value for answer, value in zip(answers, values, strict=True)}
    if len(scores) < len(answers):
        raise UninformativeExample(IDENTICAL)
    by_score = {value: answer for answer, value in reversed(scores.items())}
    if len(by_score) < 2:
        raise UninformativeExample(TIED)
    order = sorted(by_score, reverse=True)
    return Ranking(prompt, tuple(by_score[value] for value in order), None if by_rank else tuple(order))


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
    unfinished = messages[-1].role == "assistant" and not messages[-1].content
    return messages[:-1] if unfinished else messages


def _conversation(value: object, key: str, where: str) -> tuple[Message, ...]:
    messages: tuple[Message, ...] = ()
    if isinstance(value, list) and value:
        messages = parse_messages(value, where)
    elif isinstance(value, str) and value.startswith("\n\nHuman:"):
        messages = _transcript(value)
    if not messages:
        raise UserError(
            f"{where}: {key!r} is not a conversation, and the row has no 'prompt'",
            "add the prompt, or write chosen and rejected as lists of messages",
        )
    return messages


def _transcript(text: str) -> tuple[Message, ...]:
    """ "\\n\\nHuman: ...\\n\\nAssistant: ..." as messages."""
    parts = _TURN.split(text)[1:]
    turns = [
        Message(_ROLES[speaker], text.strip()) for speaker, text in zip(parts[::2], parts[1::2], strict=True)
    ]
    return tuple(turns)


def _answer(value: object, prompt: tuple[Message, ...], key: str, where: str) -> str:
    """The text of an answer given as text, as one message, or as a conversation that begins with the prompt."""
    if isinstance(value, str):
        return _text(value, key, where)
    if not isinstance(value, list) or not value:
        raise UserError(f"{where}: {key!r} is {type(value).__name__}, not text or a list of messages", HINT)
    messages = parse_messages(value, where)
    if messages[-1].role != "assistant":
        raise UninformativeExample(ENDS_UNANSWERED)
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
    """Text that UTF-8 can write; it may be empty."""
    (message,) = parse_messages([{"role": "user", "content": value}], f"{where}, {key!r}")
    return message.content
