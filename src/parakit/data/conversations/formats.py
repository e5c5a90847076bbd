"""The formats of conversations and instructions, recognized by their keys, the first that fits:

    messages                        a list of messages
    conversations, conversation     the same, or ShareGPT's: a list of {"from": "human" or "gpt" or ..., "value": ...}
    QUESTION, ANSWER                each a text or a list of messages; assistant's turns of a question do not count
    QUESTION                        alone: a prompt, for reinforcement learning

QUESTION is `prompt`, `question`, or Alpaca's `instruction` with `input` (Dolly's `context`) and `history`, earlier pairs;
ANSWER is `completion`, `output`, `response` or `answer`. Each may have a `system` prompt, and `tools` (or `functions`), as
a list or as its JSON text. The messages are not checked yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.data.conversations.messages import is_assistant, parse_objects
from parakit.data.readers.tracked_row import TrackedRow

HINT = 'a row looks like {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", ...}]}'
_TOOL_HINT = 'a tool looks like {"type": "function", "function": {"name": "add", "parameters": {...}}}'
_SYSTEM = ("system", "system_prompt", "system_message")
QUESTIONS = ("prompt", "question", "instruction")
_ANSWERS = ("completion", "output", "response", "answer")


def extract_conversation(row: TrackedRow) -> tuple[list[Any], list[JsonObject]]:
    """The messages and the tools of a row. `UserError` for another format and for invalid values."""
    return with_system(row, _extract_messages(row)), _extract_tools(row)


def _extract_messages(row: TrackedRow) -> list[Any]:
    for key in ("messages", "conversations", "conversation"):
        if isinstance(row.peek(key), list) and row.is_set(key):
            return row[key]
    question = next((key for key in QUESTIONS if row.is_set(key)), None)
    if question is None:
        keys = ", ".join(map(repr, row)) or "none"
        raise UserError(f"{row.where}: no list of messages; its keys are {keys:.300}", HINT)
    answer = next((key for key in _ANSWERS if row.peek(key) is not None), None)
    messages = question_messages(row, question)
    if answer is None:
        return messages
    context = [message | {"weight": 0} if is_assistant(message) else message for message in messages]
    completion = row[answer]
    if not isinstance(completion, list):
        completion = [{"role": "assistant", "content": completion}]
    return [*context, *completion]


def question_messages(row: TrackedRow, key: str) -> list[Any]:
    """The messages of a row's question, with Alpaca's history."""
    value = row[key]
    if isinstance(value, list) and key != "instruction":
        return list(value)
    text = instruction_text(row) if key == "instruction" else _text(value, key, row.where)
    return [*_history(row), {"role": "user", "content": text}]


def with_system(row: TrackedRow, messages: list[Any]) -> list[Any]:
    """The messages with the row's `system` in front."""
    key = next((key for key in _SYSTEM if row.is_set(key)), None)
    if key is None:
        return messages
    system = row[key]
    first = messages[0] if messages and isinstance(messages[0], Mapping) else {}
    if "system" in (first.get("role"), first.get("from")):
        if system in (first.get("content"), first.get("value")):
            return messages
        raise UserError(
            f"{row.where}: the row has {key!r}, and its first message is a system message too",
            "keep one of the two",
        )
    return [{"role": "system", "content": system}, *messages]


def instruction_text(row: TrackedRow) -> str:
    """Alpaca's question: the instruction, then an empty line and the input (Dolly's context) where there is one."""
    keys = ("instruction", "input" if row.is_set("input") else "context")
    parts = [_text(row[key], key, row.where) for key in keys if row.is_set(key)]
    return "\n\n".join(parts)


def _history(row: TrackedRow) -> list[JsonObject]:
    """The messages of Alpaca's history, pairs of a question and an answer."""
    history = row["history"] if row.is_set("history") else []
    if not isinstance(history, list) or not all(
        isinstance(pair, list) and len(pair) == 2 for pair in history
    ):
        raise UserError(
            f"{row.where}: 'history' is not a list of pairs", 'write it as [["question", "answer"], ...]'
        )
    roles = ("user", "assistant")
    return [
        {"role": role, "content": text} for pair in history for role, text in zip(roles, pair, strict=True)
    ]


def _extract_tools(row: TrackedRow) -> list[JsonObject]:
    """OpenAI's objects {"type": "function", "function": {...}}; a bare function is wrapped into one."""
    key = next((key for key in ("tools", "functions") if row.is_set(key)), None)
    if key is None:
        return []
    tools = []
    for number, tool in enumerate(parse_objects(row[key], row.where, repr(key)), 1):
        where = f"{row.where}, tool {number}"
        if not isinstance(tool, Mapping):
            raise UserError(f"{where}: {type(tool).__name__}, not an object", _TOOL_HINT)
        is_wrapped = isinstance(tool.get("function"), Mapping)
        function = tool["function"] if is_wrapped else tool
        if not isinstance(function.get("name"), str) or not function["name"]:
            raise UserError(f"{where}: no name of a function", _TOOL_HINT)
        tools.append(dict(tool) if is_wrapped else {"type": "function", "function": dict(tool)})
    return tools


def _text(value: object, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where}: {key!r} is {type(value).__name__}, not text", HINT)
    return value
