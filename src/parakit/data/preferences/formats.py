"""The formats of preferences, recognized by their keys:

    chosen, rejected                         with `prompt`, `question` or `messages`: text, or a list of messages
    chosen, rejected                         alone: two conversations with the same beginning; lists of messages, or a
                                             text with "\\n\\nHuman:" and "\\n\\nAssistant:" before the turns
    instruction, (input), chosen, rejected   as Alpaca's instructions
    prompt, ranking                          answers from best to worst, optionally with `rewards`
    prompt, completions, ranks               1 is the best
    prompt, completions, rewards             the highest is the best

A `system` prompt may go with a prompt, and a pair may have a `margin`. Other keys are counted, or refused where they bear
text (`data.readers.tracked_row`). An answer is text: one with calls of functions, or with its reasoning apart, is an error,
as is a row of another format. One without anything to learn (equal answers, an empty one, a prompt that ends with the
assistant) raises `UninformativeExample`, which readers count.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from itertools import pairwise

from parakit.common.errors import UserError
from parakit.data.conversations.formats import instruction_text, with_system
from parakit.data.conversations.messages import Message, check_unicode, parse_messages
from parakit.data.preferences.rankings import Ranking
from parakit.data.readers.tracked_row import TrackedRow, as_row
from parakit.data.row_report import UninformativeExample

HINT = (
    'a row looks like {"prompt": "Hello", "chosen": "Hello to you!", "rejected": "What?"}; see docs/rows.md'
)
_TURN = re.compile(r"\n\n(Human|Assistant):")
_PROMPTS = ("prompt", "question", "messages", "instruction")
_ROLES = {"Human": "user", "Assistant": "assistant"}

IDENTICAL = "the answers are the same"
EMPTY = "an answer is empty"
OTHER_PROMPTS = "chosen and rejected answer different prompts"
ENDS_ANSWERED = "the prompt ends with an assistant's turn"
ENDS_UNANSWERED = "the conversation ends without an answer"
TIED = "no answer is better than another"


def parse_ranking(row: object, where: str) -> Ranking:
    """The ranking of a row. `UserError` opening with `where` for an unknown format."""
    row = as_row(row, where, HINT)
    ranking = _format_of(row)(row)
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


def _format_of(row: TrackedRow) -> Callable[[TrackedRow], Ranking]:
    """The reader of this row's format."""
    has_pair = "chosen" in row and "rejected" in row
    has_prompt = any(row.peek(key) is not None for key in _PROMPTS)
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
    raise UserError(f"{row.where}: no {missing!r}; its keys are {keys:.300}", HINT)


def _pair(row: TrackedRow) -> Ranking:
    prompt = _prompt(row)
    answers = tuple(_answer(row[key], prompt, key, row) for key in ("chosen", "rejected"))
    return Ranking(prompt, answers, margin=_margin(row))


def _implicit_pair(row: TrackedRow) -> Ranking:
    """Two whole conversations; their common beginning is the prompt."""
    conversations = [_conversation(row, key) for key in ("chosen", "rejected")]
    for conversation in conversations:
        if conversation[-1].role != "assistant":
            raise UninformativeExample(ENDS_UNANSWERED)
    first, second = conversations
    if first[:-1] != second[:-1]:
        raise UninformativeExample(OTHER_PROMPTS)
    answers = tuple(_plain_text(conversation[-1], row.where) for conversation in conversations)
    return Ranking(first[:-1], answers, margin=_margin(row))


def _ranking(row: TrackedRow) -> Ranking:
    prompt = _prompt(row)
    answers = _answers(row, "ranking", prompt)
    rewards = _numbers(row, "rewards", len(answers)) if row.get("rewards") is not None else None
    if rewards and any(better < worse for better, worse in pairwise(rewards)):
        raise UserError(
            f"{row.where}: 'rewards' {list(rewards)} do not fall from best to worst",
            "put the answers in their order, or call them 'completions'",
        )
    return Ranking(prompt, answers, rewards, _margin(row))


def _scored(row: TrackedRow) -> Ranking:
    """Completions in any order. Of those with one rank or reward only the first is kept."""
    prompt = _prompt(row)
    answers = _answers(row, "completions", prompt)
    by_rank = "ranks" in row
    values = _numbers(row, "ranks" if by_rank else "rewards", len(answers))
    scores = {answer: -value if by_rank else value for answer, value in zip(answers, values, strict=True)}
    if len(scores) < len(answers):
        raise UninformativeExample(IDENTICAL)
    by_score = {value: answer for answer, value in reversed(scores.items())}
    if len(by_score) < 2:
        raise UninformativeExample(TIED)
    order = sorted(by_score, reverse=True)
    return Ranking(prompt, tuple(by_score[value] for value in order), None if by_rank else tuple(order))


def _prompt(row: TrackedRow) -> tuple[Message, ...]:
    key = next(key for key in _PROMPTS if row.peek(key) is not None)
    value = row[key]
    if key != "instruction" and isinstance(value, list):
        return parse_messages(with_system(row, value), row.where, row)
    text = instruction_text(row) if key == "instruction" else _text(value, key, row.where)
    if not text.startswith("\n\nHuman:"):
        return parse_messages(with_system(row, [{"role": "user", "content": text}]), row.where, row)
    messages = _transcript(text)
    unfinished = messages[-1].role == "assistant" and not messages[-1].content
    messages = messages[:-1] if unfinished else messages
    return (*parse_messages(with_system(row, []), row.where, row), *messages)


def _conversation(row: TrackedRow, key: str) -> tuple[Message, ...]:
    value = row[key]
    if isinstance(value, list) and value:
        return parse_messages(with_system(row, value), row.where, row)
    if isinstance(value, str) and value.startswith("\n\nHuman:"):
        return (*parse_messages(with_system(row, []), row.where, row), *_transcript(value))
    raise UserError(
        f"{row.where}: {key!r} is not a conversation, and the row has no 'prompt'",
        "add the prompt, or write chosen and rejected as lists of messages",
    )


def _transcript(text: str) -> tuple[Message, ...]:
    """ "\\n\\nHuman: ...\\n\\nAssistant: ..." as messages."""
    parts = _TURN.split(text)[1:]
    turns = [
        Message(_ROLES[speaker], text.strip()) for speaker, text in zip(parts[::2], parts[1::2], strict=True)
    ]
    return tuple(turns)


def _answer(value: object, prompt: tuple[Message, ...], key: str, row: TrackedRow) -> str:
    """The text of an answer given as text, as one message, or as a conversation that begins with the prompt."""
    if isinstance(value, str):
        return _text(value, key, row.where)
    values = [value] if isinstance(value, Mapping) else value
    if not isinstance(values, list) or not values:
        raise UserError(
            f"{row.where}: {key!r} is {type(value).__name__}, not text or a list of messages", HINT
        )
    messages = parse_messages(values, f"{row.where}, {key!r}", row)
    if messages[-1].role != "assistant":
        raise UninformativeExample(ENDS_UNANSWERED)
    without_system = prompt[1:] if prompt and prompt[0].role == "system" else prompt
    if len(messages) > 1 and messages[:-1] not in (prompt, without_system):
        raise UninformativeExample(OTHER_PROMPTS)
    return _plain_text(messages[-1], f"{row.where}, {key!r}")


def _plain_text(answer: Message, where: str) -> str:
    """The content of an answer that is nothing else."""
    others = {
        "tool_calls": answer.tool_calls,
        "reasoning_content": answer.reasoning_content,
        "name": answer.name,
        "weight": answer.weight == 0,
    }
    for key, value in others.items():
        if value:
            raise UserError(
                f"{where}: the answer has {key!r}, and a preference compares texts",
                "write it into the content, or remove the key",
            )
    return answer.content


def _answers(row: TrackedRow, key: str, prompt: tuple[Message, ...]) -> tuple[str, ...]:
    values = row[key]
    if not isinstance(values, list) or len(values) < 2:
        raise UserError(f"{row.where}: {key!r} is not a list of two answers or more", HINT)
    return tuple(_answer(value, prompt, f"{key}[{i}]", row) for i, value in enumerate(values))


def _numbers(row: TrackedRow, key: str, n: int) -> tuple[float, ...]:
    values = row[key]
    if not isinstance(values, list) or len(values) != n:
        raise UserError(f"{row.where}: {key!r} is not a list of {n} numbers", "give every answer one")
    return tuple(_number(value, f"{key}[{i}]", row.where) for i, value in enumerate(values))


def _margin(row: TrackedRow) -> float | None:
    value = row.get("margin")
    return None if value is None else _number(value, "margin", row.where)


def _number(value: object, key: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(
            f"{where}: {key!r} is {value!r:.60}, not a finite number", "give a number such as 0.5"
        )
    return float(value)


def _text(value: object, key: str, where: str) -> str:
    """Text that UTF-8 can write; it may be empty."""
    if not isinstance(value, str):
        raise UserError(f"{where}: {key!r} is {type(value).__name__}, not text", HINT)
    return check_unicode(value, where, repr(key))
