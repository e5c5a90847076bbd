"""Saved conversations: one line of JSON, {"messages": [{"role": ..., "content": ...}]}, the form in which
tuning data is read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parakit.common.errors import UserError
from parakit.common.files import write_text_atomic
from parakit.tokens.tokenizer.special_tokens import ROLES


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: who speaks and what is said. `text` has its like, which this room may not import."""

    role: str
    content: str


def save_messages(path: str | Path, messages: Sequence[Message], *, overwrite: bool = False) -> None:
    """Write a conversation. A file that exists is a `UserError` unless `overwrite`."""
    path = Path(path)
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists already", "choose another name")
    if not path.parent.is_dir():
        raise UserError(
            f"{path}: the folder {path.parent} does not exist", "make it first, or choose another place"
        )
    rows = [{"role": message.role, "content": message.content} for message in messages]
    write_text_atomic(path, json.dumps({"messages": rows}, ensure_ascii=False) + "\n")


def load_messages(path: str | Path) -> list[Message]:
    """Read the first conversation of a file; `UserError` naming the fault when it is none."""
    path = Path(path)
    hint = 'a conversation is a line {"messages": [{"role": "user", "content": "..."}, ...]}'
    try:
        with open(path, encoding="utf-8") as file:
            row = json.loads(next((line for line in file if line.strip()), ""))
        messages = [Message(entry["role"], entry["content"]) for entry in row["messages"]]
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}", "check the path") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{path}: holds no conversation", hint) from None
    for number, message in enumerate(messages, 1):
        if message.role not in ROLES or not isinstance(message.content, str):
            raise UserError(
                f"{path}: message {number} has the role {message.role!r}", f"roles: {', '.join(ROLES)}"
            )
    if not messages:
        raise UserError(f"{path}: holds no conversation", hint)
    return messages
