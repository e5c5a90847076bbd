"""Rows as people have them: prompts with completions, tools and their calls, parts, reasoning; each in every file format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import (
    Conversation,
    Message,
    parse_conversation,
    read_conversations,
    write_conversations,
)
from parakit.data.conversations.messages import ToolCall
from parakit.data.readers.rows import read_rows
from parakit.data.readers.tracked_row import TrackedRow
from parakit.data.row_report import RowReport

USER, YES = {"role": "user", "content": "2 + 3?"}, {"role": "assistant", "content": "5"}
FUNCTION = {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
TOOL = {"type": "function", "function": FUNCTION}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"b": 3, "a": 2}'}}
ASKED, ANSWERED = Message("user", "2 + 3?"), Message("assistant", "5")
CALLED = Message("assistant", "", tool_calls=(ToolCall("add", '{"b": 3, "a": 2}', "c1"),))
CALLED_BARE = Message("assistant", "", tool_calls=(ToolCall("add", '{"b": 3, "a": 2}'),))
RESULT = Message("tool", "5", name="add", tool_call_id="c1")
PLAIN = (ASKED, ANSWERED)
CALL_OF = {"name": "add", "arguments": {"b": 3, "a": 2}}

ROWS: dict[str, tuple[dict[str, Any], tuple[Message, ...], list[Any]]] = {
    "prompt, completion": ({"prompt": "2 + 3?", "completion": "5"}, PLAIN, []),
    "prompt and completion of messages": ({"prompt": [USER], "completion": [YES]}, PLAIN, []),
    "an answer in the prompt is context": (
        {"prompt": [USER, YES, USER], "completion": "5"},
        (ASKED, Message("assistant", "5", 0), *PLAIN),
        [],
    ),
    "question, answer": ({"question": "2 + 3?", "answer": "5"}, PLAIN, []),
    "Dolly": (
        {"instruction": "Add.", "context": "2 + 3?", "response": "5"},
        (Message("user", "Add.\n\n2 + 3?"), ANSWERED),
        [],
    ),
    "a prompt alone": ({"prompt": "2 + 3?"}, (ASKED,), []),
    "conversations with roles": ({"conversations": [USER, YES]}, PLAIN, []),
    "system and a prompt": (
        {"system": "Add.", "prompt": "2 + 3?", "completion": "5"},
        (Message("system", "Add."), *PLAIN),
        [],
    ),
    "developer": (
        {"messages": [{"role": "developer", "content": "Add."}, USER, YES]},
        (Message("system", "Add."), *PLAIN),
        [],
    ),
    "OpenAI's tools": (
        {
            "tools": [TOOL],
            "messages": [
                USER,
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "c1", "name": "add", "content": "5"},
                YES,
            ],
        },
        (ASKED, CALLED, RESULT, ANSWERED),
        [TOOL],
    ),
    "OpenAI's former functions": (
        {
            "functions": [FUNCTION],
            "messages": [
                USER,
                {"role": "assistant", "content": None, "function_call": CALL["function"]},
                {"role": "function", "name": "add", "content": "5"},
                YES,
            ],
        },
        (ASKED, CALLED_BARE, Message("tool", "5", name="add"), ANSWERED),
        [TOOL],
    ),
    "ShareGPT's tools": (
        {
            "tools": json.dumps([FUNCTION]),
            "conversations": [
                {"from": "human", "value": "2 + 3?"},
                {"from": "function_call", "value": json.dumps(CALL_OF)},
                {"from": "observation", "value": "5"},
                {"from": "gpt", "value": "5"},
            ],
        },
        (ASKED, CALLED_BARE, Message("tool", "5"), ANSWERED),
        [TOOL],
    ),
    "calls without a wrapping": (
        {"messages": [USER, {"role": "assistant", "tool_calls": [CALL_OF]}]},
        (ASKED, CALLED_BARE),
        [],
    ),
    "parts": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "2 +"}, {"type": "text", "text": " 3?"}],
                },
                {"role": "assistant", "content": [{"type": "text", "text": "5"}]},
            ]
        },
        PLAIN,
        [],
    ),
    "reasoning": (
        {"messages": [USER, YES | {"reasoning_content": "Count."}]},
        (ASKED, Message("assistant", "5", reasoning_content="Count.")),
        [],
    ),
    "a think block stays text": (
        {"messages": [USER, {"role": "assistant", "content": "<think>Count.</think>5"}]},
        (ASKED, Message("assistant", "<think>Count.</think>5")),
        [],
    ),
}


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("name", ROWS)
def test_rows_as_people_have_them_are_read_and_written_again(name: str, suffix: str, tmp_path: Path) -> None:
    row, messages, tools = ROWS[name]
    found = list(read_conversations(written(tmp_path / f"c.{suffix}", [row, row])))
    assert [one.messages for one in found] == [messages] * 2
    assert json.loads(found[0].tools or "[]") == tools
    write_conversations(tmp_path / "again.jsonl", found)
    assert list(read_conversations(tmp_path / "again.jsonl")) == found


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"messages": [USER, YES], "images": ["a.png"]}, "row 1: has 'images', and Parakit reads text only"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, YES]},
        "row 1, message 1, part 1: is of type 'image_url'",
    ),
    ({"conversations": [{"from": "human", "value": "x", "image": "y"}]}, "row 1, message 1: has 'image'"),
    (
        {"prompt": "a", "completion": "b", "context": "c"},
        "row 1: 'context' (a part of the prompt) is not read",
    ),
    ({"prompt": "a", "input": "b", "output": "c"}, "row 1: 'input' (a part of the prompt) is not read"),
    ({"messages": [USER | {"tool_calls": [CALL]}]}, "row 1, message 1: 'tool_calls' (calls of functions)"),
    ({"messages": [USER | {"reasoning": "x"}]}, "row 1, message 1: 'reasoning' (reasoning) is not read"),
    ({"messages": [USER, YES | {"refusal": "No."}]}, "row 1, message 2: 'refusal' (an answer)"),
    ({"messages": [USER, YES], "chat_template_kwargs": {"x": 1}}, "(settings of the chat template)"),
    ({"messages": [USER, YES], "system_prompt": "a", "system": "b"}, "'system_prompt' (a system prompt)"),
    ({"messages": [USER, YES], "tools": [{"name": 3}]}, "row 1, tool 1: no name of a function"),
    ({"messages": [USER, YES], "tools": "add"}, "row 1: 'tools' is text that is not JSON"),
    (
        {"messages": [USER, {"role": "assistant", "tool_calls": [CALL_OF | {"arguments": "2, 3"}]}]},
        "message 2: the arguments of 'add' is text that is not JSON",
    ),
    (
        {"messages": [USER, {"role": "assistant", "tool_calls": [CALL_OF | {"arguments": [2, 3]}]}]},
        "the arguments of 'add' are list, not an object",
    ),
    ({"conversations": [{"from": "function_cal", "value": "{}"}]}, "did you mean 'function_call'"),
    ({"conversations": [{"from": "function_call", "value": "add(2)"}]}, "the call is text that is not JSON"),
    ({"messages": [USER, YES | {"wieght": 0}]}, "did you mean 'weight'"),
    ({"messages": [USER, YES], "tools": [{"name": "\ud800"}]}, "'tools' holds half of a surrogate pair"),
    ({"messages": [USER, YES], "tests": ["\ud800"]}, "'tests' holds half of a surrogate pair"),
]


@pytest.mark.parametrize(("row", "message"), REFUSED)
def test_what_would_be_lost_is_refused_with_the_rows_number(row: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        list(read_rows([("c.jsonl, row 1", row)], parse_conversation, RowReport(), "hint"))
    assert message in str(caught.value)
    assert caught.value.hint


def test_a_copy_of_what_is_read_is_no_loss() -> None:
    """UltraChat's `prompt` is the first message; some rows repeat the system prompt."""
    system = {"role": "system", "content": "Add."}
    row = TrackedRow({"prompt": "2 + 3?", "system": "Add.", "messages": [system, USER, YES]}, "row 1")
    assert parse_conversation(row) == Conversation((Message("system", "Add."), *PLAIN))
    assert row.close() == ["prompt"]
