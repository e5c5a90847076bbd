"""Instructions and conversations in the shapes of Alpaca, ShareGPT and OpenAI; turns that are context; what is left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parakit.common.errors import UserError
from parakit.common.files import read_json
from parakit.data.conversations.conversation import (
    Conversation,
    Message,
    read_conversations,
    write_conversations,
)
from parakit.data.conversations.sets import iter_conversations, prepare_conversations

WANTED = (Message("user", "Greet\n\nAnn"), Message("assistant", "Hello, Ann!"))


def rows_in(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("file_suffix", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Greet", "input": "Ann", "output": "Hello, Ann!"},
        {
            "conversations": [
                {"from": "human", "value": "Greet\n\nAnn"},
                {"from": "gpt", "value": "Hello, Ann!"},
            ]
        },
        {
            "messages": [
                {"role": "user", "content": "Greet\n\nAnn"},
                {"role": "assistant", "content": "Hello, Ann!"},
            ]
        },
    ],
    ids=["alpaca", "sharegpt", "openai"],
)
def test_one_conversation_in_every_shape_and_format(
    file_suffix: str, row: dict[str, Any], tmp_path: Path
) -> None:
    path = rows_in(tmp_path / f"c.{file_suffix}", [row, row])
    assert list(read_conversations(path)) == [Conversation(WANTED)] * 2


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"conversations": [{"from": "humna", "value": "x"}]}, "did you mean 'human'"),
        ({"conversations": [{"value": "x"}]}, "message 1: not an object with a role and a content"),
        ({"instruction": "x", "output": 3}, "message 2: content is int"),
        ({"instruction": "x", "output": "y", "history": [["a"]]}, "'history' is not a list of pairs"),
        (
            {"messages": [{"role": "system", "content": "x"}], "system": "y"},
            "has 'system', and its first message",
        ),
        ({"messages": [{"role": "user", "content": "x", "weight": 0}]}, "weight 0 of a turn of 'user'"),
        ({"messages": [{"role": "assistant", "content": "x", "weight": 0.5}]}, "weight 0.5"),
    ],
)
def test_errors_name_row_and_value(row: dict[str, Any], told: str, tmp_path: Path) -> None:
    path = rows_in(tmp_path / "c.jsonl", [{"instruction": "a", "output": "b"}, row])
    with pytest.raises(UserError, match="row 2") as caught:
        list(read_conversations(path))
    assert told in str(caught.value)


def test_a_turn_of_weight_0_survives_a_round_trip(tmp_path: Path) -> None:
    conversation = Conversation((*WANTED[:1], Message("assistant", "Hm.", 0), *WANTED))
    write_conversations(tmp_path / "c.jsonl", [conversation])
    assert list(read_conversations(tmp_path / "c.jsonl")) == [conversation]


def test_what_has_nothing_to_teach_is_left_out_counted_and_named(tmp_path: Path) -> None:
    good = [{"instruction": f"Say {i}", "output": str(i)} for i in range(30)]
    question = {"role": "user", "content": "a"}
    bad: list[dict[str, Any]] = [
        {"messages": [question, {"role": "assistant", "content": "b"}, question]},
        {"instruction": "Say", "output": " "},
        {"messages": [question, {"role": "assistant", "content": "b", "weight": 0}]},
    ]
    folder = prepare_conversations([str(rows_in(tmp_path / "c.jsonl", good + bad))], tmp_path / "out")
    report = read_json(folder / "report.json")
    assert report["skipped_rows"] == {
        "it ends without an answer": 1,
        "an answer is empty": 1,
        "no answer counts (weight 0)": 1,
    }
    assert report["skipped_locations"]["an answer is empty"] == ["c.jsonl, row 32"]
    assert sum(1 for split in ("train", "validation") for _ in iter_conversations(folder, split)) == 30


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "b", "output": "B", "history": [["a", "A"]]},
        {
            "conversations": [
                {"from": w, "value": v} for w, v in zip(["human", "gpt"] * 2, "aAbB", strict=True)
            ]
        },
        {
            "messages": [
                {"role": r, "content": c} for r, c in zip(["user", "assistant"] * 2, "aAbB", strict=True)
            ]
        },
    ],
    ids=["alpaca", "sharegpt", "openai"],
)
def test_system_and_history_of_a_row_become_messages(row: dict[str, Any], tmp_path: Path) -> None:
    (found,) = read_conversations(rows_in(tmp_path / "c.jsonl", [row | {"system": "Be brief."}]))
    content = [(message.role, message.content) for message in found.messages]
    assert content == [("system", "Be brief."), *zip(["user", "assistant"] * 2, "aAbB", strict=True)]
