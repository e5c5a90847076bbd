"""The formats of conversations and instructions, recognized by their keys:

    messages                         OpenAI's: a list of {"role": ..., "content": ...}
    conversations                    ShareGPT's: a list of {"from": "human" or "gpt" or ..., "value": ...}
    instruction, (input), output     Alpaca's: one question and its answer, optionally with `history`, earlier pairs

Each may have a `system` key. The result is a list of messages in OpenAI's format, not checked yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.settings import closest_match

SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}


def extract_messages(row: object, where: str) -> list[Any] | None:
    """The messages of a row of a known format; None for another. `UserError` opening with `where` for invalid values."""
    if not isinstance(row, Mapping):
        return None
    if isinstance(row.get("messages"), list):
        return _with_system(row, row["messages"], where)
    if isinstance(row.get("conversations"), list):
        turns = [
            _turn(turn, f"{where}, turn {number}") for number, turn in enumerate(row["conversations"], 1)
        ]
        return _with_system(row, turns, where)
    if "instruction" in row and "output" in row:
        question = {"role": "user", "content": instruction_text(row, where)}
        messages = [*_history(row, where), question, {"role": "assistant", "content": row["output"]}]
        return _with_system(row, messages, where)
    return None


def _with_system(row: Mapping[str, Any], messages: list[Any], where: str) -> list[Any]:
    """The messages with the row's `system` in front."""
    if not row.get("system"):
        return messages
    if messages and isinstance(messages[0], Mapping) and messages[0].get("role") == "system":
        raise UserError(
            f"{where}: the row has 'system', and its first message is a system message too",
            "keep one of the two",
        )
    return [{"role": "system", "content": row["system"]}, *messages]


def _history(row: Mapping[str, Any], where: str) -> list[JsonObject]:
    """The messages of Alpaca's history, pairs of a question and an answer."""
    history = row.get("history") or []
    if not isinstance(history, list) or not all(
        isinstance(pair, list) and len(pair) == 2 for pair in history
    ):
        raise UserError(
            f"{where}: 'history' is not a list of pairs", 'write it as [["question", "answer"], ...]'
        )
    roles = ("user", "assistant")
    return [
        {"role": role, "content": text} for pair in history for role, text in zip(roles, pair, strict=True)
    ]


def instruction_text(row: Mapping[str, Any], where: str) -> str:
    """Alpaca's question: the instruction, then an empty line and the input where there is one."""
    parts = []
    for key in ("instruction", "input"):
        value = row.get(key)
        if value is not None and not isinstance(value, str):
            raise UserError(f"{where}: {key!r} is {type(value).__name__}, not text")
        if value and value.strip():
            parts.append(value)
    return "\n\n".join(parts)


def _turn(turn: object, where: str) -> JsonObject:
    if not isinstance(turn, Mapping) or "from" not in turn or "value" not in turn:
        raise UserError(f"{where}: not an object with 'from' and 'value'")
    speaker = turn["from"]
    if not isinstance(speaker, str) or speaker not in SHAREGPT_ROLES:
        near = closest_match(speaker, SHAREGPT_ROLES) if isinstance(speaker, str) else None
        known = f"known are {', '.join(SHAREGPT_ROLES)}"
        raise UserError(f"{where}: unknown speaker {speaker!r}", f"did you mean {near!r}?" if near else known)
    rest = {key: value for key, value in turn.items() if key == "weight"}
    return {"role": SHAREGPT_ROLES[speaker], "content": turn["value"]} | rest
