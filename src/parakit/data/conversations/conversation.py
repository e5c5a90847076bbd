"""Conversations: messages with roles, one conversation a line of JSON: {"messages": [{"role": "user",
"content": "..."}, ...]}. `formats.py` reads other formats.

Fine-tuning data is small and chosen by hand, so the first invalid row is an error that names it. Other keys of a row (an
id, a source) are ignored, except `tests`; an unknown key of a message is an error, because its meaning would be lost.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.settings import closest_match
from parakit.data.conversations.formats import extract_messages
from parakit.data.readers.rows import file_suffix, read_records

_HINT = 'a row looks like {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", ...}]}'
ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function that an assistant's turn makes. `arguments` is a JSON object as text, in the order of its
    keys; `id` names the call for the turn of role `tool` that answers it (`Message.tool_call_id`).
    """

    name: str
    arguments: str = "{}"
    id: str | None = None

    def to_row(self) -> JsonObject:
        """OpenAI's object, with the arguments as an object, as chat templates expect them."""
        function = {"name": self.name, "arguments": json.loads(self.arguments)}
        call: JsonObject = {"type": "function", "function": function}
        return call if self.id is None else {"id": self.id} | call


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: the role (`system`, `user`, `assistant` or `tool`) and the text, "" where the row has null. An
    assistant's turn of `weight` 0 is context: the loss leaves it out.

    An assistant's turn may have `tool_calls`, and `reasoning_content`, what it thought before `content`; a `<think>`
    block inside a content stays there as the row has it. A turn of role `tool` may name the function (`name`) and the
    call that it answers.
    """

    role: str
    content: str
    weight: int = 1
    reasoning_content: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    name: str | None = None
    tool_call_id: str | None = None

    def to_row(self) -> JsonObject:
        """The JSON object, which is also what a chat template gets but for the weight; keys without a value are left
        out, as is a weight of 1.
        """
        row: JsonObject = {"role": self.role, "content": self.content}
        for key in ("reasoning_content", "name", "tool_call_id"):
            if (value := getattr(self, key)) is not None:
                row[key] = value
        if self.tool_calls:
            row["tool_calls"] = [call.to_row() for call in self.tool_calls]
        return row if self.weight else row | {"weight": 0}


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in order. `tools`: the functions that the assistant may call, as the JSON text of a list of OpenAI's
    {"type": "function", "function": {...}}, for the chat template's `tools`. `tests`: the row's unit tests as JSON, for
    rewards that run generated code.
    """

    messages: tuple[Message, ...]
    tests: str | None = None
    tools: str | None = None

    def to_row(self) -> dict:
        """The JSON object that `read_conversations` reads."""
        row: JsonObject = {"messages": [message.to_row() for message in self.messages]}
        for key in ("tools", "tests"):
            if (value := getattr(self, key)) is not None:
                row[key] = json.loads(value)
        return row

    def to_line(self) -> str:
        """The row as one line of JSON, line end included."""
        return json.dumps(self.to_row(), ensure_ascii=False) + "\n"

    @property
    def digest(self) -> str:
        """sha256 of the JSON row, in hexadecimal."""
        return hashlib.sha256(self.to_line().encode()).hexdigest()


def read_conversations(path: str | Path) -> Iterator[Conversation]:
    """Stream the conversations of a file: `.jsonl` (as is any name of another ending), `.json` or `.parquet`, plain
    or `.gz`, in the formats of `formats.py`.

    Raises `UserError` with the row's number (from 1) where a row is not a conversation, and for a file that is
    missing or damaged.
    """
    return (conversation for _, conversation in enumerate_conversations(path))


def enumerate_conversations(path: str | Path) -> Iterator[tuple[int, Conversation]]:
    """The same, each with its row number, counted from 1 as editors do."""
    path = Path(path)
    if file_suffix(path) in (".json", ".parquet"):
        for number, (where, row) in enumerate(read_records(path), 1):
            yield number, _conversation(row, where)
        return
    try:
        with _open(path) as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, _parse(line, f"{path.name}, row {number}")
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{path} cannot be read: {error}", "give a file of conversations, one JSON object a line"
        ) from None


def write_conversations(path: str | Path, conversations: Iterable[Conversation]) -> int:
    """Write one JSON row a conversation, in UTF-8, and return how many."""
    n = 0
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for conversation in conversations:
            file.write(conversation.to_line())
            n += 1
    return n


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else open(path, "rb")


def _parse(line: bytes, where: str) -> Conversation:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # bad UTF-8 is a ValueError too
        raise UserError(f"{where}: not JSON ({error})", _HINT) from None
    return _conversation(row, where)


def _conversation(row: object, where: str) -> Conversation:
    messages = extract_messages(row, where)
    if not messages:
        content = (
            f"its keys are {', '.join(map(repr, row))}"
            if isinstance(row, dict) and row
            else f"it is {row!r:.60}"
        )
        raise UserError(f"{where}: no list of messages; {content}", _HINT)
    tests = row.get("tests") if isinstance(row, dict) else None
    tests_json = None if tests is None else json.dumps(tests, ensure_ascii=False, default=str)
    return Conversation(parse_messages(messages, where), tests_json)


def parse_messages(messages: list[object], where: str) -> tuple[Message, ...]:
    """Messages from JSON objects with a role and a content; `UserError` opening with `where` names an invalid one."""
    return tuple(_message(m, f"{where}, message {k}") for k, m in enumerate(messages, 1))


def _message(message: object, where: str) -> Message:
    if not isinstance(message, dict):
        raise UserError(f"{where}: not an object with a role and a content")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        near = closest_match(role, ROLES) if isinstance(role, str) else None
        raise UserError(
            f"{where}: unknown role {role!r}",
            f"did you mean {near!r}?" if near else f"roles are {', '.join(ROLES)}",
        )
    if not isinstance(content, str):
        raise UserError(f"{where}: content is {type(content).__name__}, not text")
    if extra := sorted(set(message) - {"role", "content", "weight"}):
        raise UserError(f"{where}: {extra[0]!r} is not understood", "a message has a role and a content")
    try:
        content.encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{where}: content holds half of a surrogate pair", "write the character itself, or both halves"
        ) from None
    weight = message.get("weight")
    if weight is None or (weight == 1 and role == "assistant"):
        return Message(role, content)
    if role != "assistant" or isinstance(weight, bool) or weight != 0:
        raise UserError(
            f"{where}: weight {weight!r} of a turn of {role!r}",
            "an assistant's turn may have weight 0 (context) or 1; no other turn has one",
        )
    return Message(role, content, 0)
