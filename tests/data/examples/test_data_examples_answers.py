"""Rows of questions with answers, and of texts with several labels: every form that is read, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parakit.common.errors import UserError
from parakit.data.examples import iter_examples, load_examples_report, prepare_examples, read_examples

CONTEXT = "Anna lives in Norwick, and Tom in Norwick too."
ROW = {"question": "Where does Anna live?", "context": CONTEXT}


def rows_of(path: Path, task: str, *rows: object) -> list[dict]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [row for _, row in read_examples(path, task)]


def test_an_answer_is_found_in_its_context(tmp_path: Path) -> None:
    squad = {"answers": {"text": ["Norwick", "in Norwick"], "answer_start": [34, 31]}, "id": "5"}
    read = rows_of(
        tmp_path / "a.jsonl", "answer", ROW | {"answers": ["Norwick"]}, ROW | squad, ROW | {"answers": []}
    )
    assert read[0] == ROW | {"answers": ["Norwick"], "answer_start": 14}
    assert read[1] == ROW | {"answers": ["Norwick", "in Norwick"], "answer_start": 34}
    assert read[2] == ROW | {"answers": []}
    nothing = {"answers": {"text": [], "answer_start": []}}
    assert rows_of(tmp_path / "b.jsonl", "answer", ROW | nothing) == [ROW | {"answers": []}]


def test_tables_separate_answers_and_labels_by_bars(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        f'question,context,answers,answer_start\nwhere?,"{CONTEXT}",Norwick|in Norwick,34\nwho?,"{CONTEXT}",,\n'
    )
    first, second = (row for _, row in read_examples(tmp_path / "a.csv", "answer"))
    assert first["answers"] == ["Norwick", "in Norwick"]
    assert first["answer_start"] == 34
    assert second["answers"] == []
    (tmp_path / "l.tsv").write_text("text\tlabels\na sunny day\tsun | warm\nnothing\t\n")
    assert [row["labels"] for _, row in read_examples(tmp_path / "l.tsv", "multi_label")] == [
        ["sun", "warm"],
        [],
    ]


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("answer", ROW | {"answers": ["Paris"]}, "does not hold the answer 'Paris'"),
        ("answer", ROW | {"answers": ["Norwick"], "answer_start": 3}, "at character 3"),
        ("answer", ROW | {"answers": ["Norwick"], "answer_start": -32}, "at character -32"),
        ("answer", ROW | {"answers": ["Norwick"], "answer_start": "14"}, "not an integer"),
        ("answer", ROW | {"answers": "Norwick"}, "not a list"),
        ("answer", ROW | {"answers": {"text": "Norwick"}}, "'answers' is"),
        ("answer", ROW, "no 'answers'"),
        ("multi_label", {"text": "x", "labels": "sun"}, "not a list"),
        ("multi_label", {"text": "x", "labels": ["sun", 3]}, r"labels\[1\]"),
    ],
)
def test_what_is_no_example_is_named(tmp_path: Path, task: str, row: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rows_of(tmp_path / "a.jsonl", task, row)


def test_labels_are_those_of_the_train_split(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "labels": ["b", "a"][: i % 3]} for i in range(60)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = prepare_examples(
        [str(tmp_path / "a.jsonl")], "multi_label", tmp_path / "set", validation_fraction=0.2
    )
    report = load_examples_report(out)
    assert report["labels"] == ["a", "b"]
    read = [row for split in ("train", "validation") for row in iter_examples(out, split)]
    assert sorted(map(json.dumps, read)) == sorted(map(json.dumps, rows))
    with pytest.raises(UserError, match="none of the labels given"):
        prepare_examples([str(tmp_path / "a.jsonl")], "multi_label", tmp_path / "two", labels=["a"])
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "x", "labels": []}) + "\n")
    with pytest.raises(UserError, match="no label"):
        prepare_examples([str(tmp_path / "b.jsonl")], "multi_label", tmp_path / "none", validation_fraction=0)
