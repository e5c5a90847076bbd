"""Files of prompts, answers and votes: what is read, and which row is named when it cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parakit.common.errors import UserError
from parakit.evaluation.judging.inputs import (
    read_answers,
    read_grade_votes,
    read_questions,
    read_votes,
)

TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]


def rows_file(folder: Path, *rows: Any) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_prompts_and_conversations_with_ids_of_their_own(tmp_path: Path) -> None:
    path = rows_file(tmp_path, {"prompt": "Why?"}, {"id": 7, "messages": TURNS, "reference": "So."})
    first, second = read_questions(path)
    assert (first.text, second.text) == ("Why?", "system: Be brief.\nuser: Why?")
    assert (second.id, second.reference) == ("7", "So.")
    answers = read_answers(rows_file(tmp_path, {"prompt": "Why?", "answer": ""}, {"id": "7", "answer": "x"}))
    assert answers[first.id] == (first, "")  # found by its text; a model may answer nothing
    assert answers["7"] == (None, "x")


@pytest.mark.parametrize(
    ("read", "row", "message"),
    [
        (read_questions, {"text": "x"}, "row 1: needs either `prompt` or `messages`"),
        (read_questions, {"prompt": " "}, "'prompt' is empty"),
        (read_questions, {"prompt": 3}, "'prompt' is int, not text"),
        (read_questions, {"messages": TURNS[:1]}, "must end with a user's turn"),
        (read_questions, {"messages": []}, "not a list of roles"),
        (read_questions, {"prompt": "x", "id": None}, "the id is None"),
        (read_questions, ["x"], "is not an object"),
        (read_answers, {"prompt": "x"}, "'answer' is NoneType"),
        (read_answers, {"answer": "x"}, "the id is None"),
        (lambda p: read_votes(p, ["a", "b"]), {"id": 1, "model_a": "a", "model_b": "b", "winner": "c"}, "winner is 'c'"),
        (lambda p: read_grade_votes(p, ["a"]), {"id": 1, "model": "a", "grade": True}, "the grade is True"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named(read: Callable[[str], Any], row: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(rows_file(tmp_path, row))
    assert message in caught.value.message


def test_nothing_and_twice_the_same(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="comes twice"):
        read_questions(rows_file(tmp_path, {"prompt": "x"}, {"prompt": "x"}))
    with pytest.raises(UserError, match="empty"):
        read_questions(rows_file(tmp_path))
