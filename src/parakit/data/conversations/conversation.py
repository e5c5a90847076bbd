"""Conversations: messages with roles, one conversation a line of JSON: {"messages": [{"role": "user",
"content": "..."}, ...]}. `formats.py` reads other formats.

Fine-tuning data is small and chosen by hand, so the first invalid row is an error that names it. Keys of a row that are
not read (an id, a source) are counted; one that bears text or images is an error (`data.readers.tracked_row`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from parakit.common.files import JsonObject
from parakit.data.conversations.formats import HINT, extract_conversation
from parakit.data.conversations.messages import Message, parse_messages, to_json_text
from parakit.data.readers.rows import read_records, read_rows
from parakit.data.readers.tracked_row import TrackedRow
from parakit.data.row_report import RowReport


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


def read_conversations(path: str | Path, report: RowReport | None = None) -> Iterator[Conversation]:
    """Stream the conversations of a file: `.parquet`, or JSON (lines, or an array) of any other name, plain or `.gz`,
    in the formats of `formats.py`. Keys that are not read are counted in `report`.

    Raises `UserError` with the row's number (from 1) where a row is not a conversation, and for a file that is
    missing or damaged.
    """
    return (conversation for _, conversation in locate_conversations(path, report or RowReport()))


def locate_conversations(path: str | Path, report: RowReport) -> Iterator[tuple[str, Conversation]]:
    """The same, each with its location ("c.jsonl, row 7"); rows are counted from 1, as editors do."""
    return read_rows(read_records(path, any_name=True), parse_conversation, report, HINT)


def parse_conversation(row: TrackedRow) -> Conversation:
    """The conversation of a row; `UserError` where it is none."""
    messages, tools = extract_conversation(row)
    tests = row.get("tests")
    return Conversation(
        parse_messages(messages, row.where, row),
        None if tests is None else to_json_text(tests, row.where, "'tests'"),
        to_json_text(tools, row.where, "'tools'") if tools else None,
    )


def write_conversations(path: str | Path, conversations: Iterable[Conversation]) -> int:
    """Write one JSON row a conversation, in UTF-8, and return how many."""
    n = 0
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for conversation in conversations:
            file.write(conversation.to_line())
            n += 1
    return n
