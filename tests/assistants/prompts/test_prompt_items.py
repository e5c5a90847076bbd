"""Tables of inputs, and examples drawn out of training rows."""

from __future__ import annotations

import pytest

from parakit.assistants.prompts.items import PromptItem, read_items, require_fields
from parakit.assistants.prompts.selection import example_pool, select_examples
from parakit.common.errors import UserError


def item(question: str, *answers: str) -> PromptItem:
    return PromptItem(question, {"question": question}, answers)


def test_a_table_is_the_same_as_csv_and_as_json_lines(tmp_path):
    (tmp_path / "a.csv").write_text(
        'question,n,answer\n"One, two?",3,three\nFour?,5,\n', encoding="utf-8-sig"
    )
    (tmp_path / "a.jsonl").write_text(
        '{"question": "One, two?", "n": 3, "answer": ["three"]}\n{"question": "Four?", "n": 5}\n'
    )
    items = read_items(tmp_path / "a.csv")
    assert items == read_items(tmp_path / "a.jsonl")
    assert [one.answers for one in items] == [("three",), ()]
    assert items[0].fields == {"question": "One, two?", "n": "3"}
    assert read_items(tmp_path / "a.csv", limit=1) == items[:1]
    assert read_items(tmp_path / "a.csv", answer_field="n")[0].answers == ("3",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "a,b\n1,2,3\n", "has 3 cells, and the header 2"),
        ("a.csv", "a,a\n1,2\n", "two columns have one name"),
        ("a.csv", "a,b\n", "has no rows"),
        ("a.jsonl", '{"id": 1, "q": "a"}\n{"id": 1, "q": "b"}\n', "the id '1' comes twice"),
        ("a.jsonl", '{"q": {"a": 1}}\n', "is dict, not text"),
        ("a.txt", "a\n", "is no table"),
    ],
)
def test_a_table_that_is_wrong_is_refused(tmp_path, name: str, text: str, message: str):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read_items(tmp_path / name)


def test_a_missing_column_is_named_with_the_nearest_one():
    with pytest.raises(UserError, match=r"no field 'question'.*\n.*did you mean 'questions'"):
        require_fields(["question"], [PromptItem("1", {"questions": "a"})], "zero_shot", "a.csv")


def test_equal_inputs_have_their_own_ids(tmp_path):
    (tmp_path / "a.csv").write_text("q,answer\na,1\na,1\n")
    first, second = read_items(tmp_path / "a.csv")
    assert second.id == f"{first.id} #2"


def test_no_test_item_is_an_example():
    rows = [item("a b", "1"), item("c", "2"), item("d"), item("e", "3")]
    pool = example_pool(rows, [item(" A  b", "9")], "train.csv")
    assert [row.id for row in pool.rows] == ["c", "e"]
    assert pool.n_overlapping == 1
    with pytest.raises(UserError, match="only rows that are test items"):
        example_pool(rows[:1], [item("a b")], "train.csv")
    with pytest.raises(UserError, match="3 examples are wanted, and there are 2"):
        select_examples(pool, [item("x")], 3, "random", 0)


def test_random_examples_are_the_same_for_all_items_and_change_with_the_seed():
    pool = example_pool([item(f"row {i}", str(i)) for i in range(30)], [], "train.csv")
    chosen = select_examples(pool, [item("x"), item("y")], 4, "random", 0)
    assert chosen[0] == chosen[1]
    assert len({one["answer"] for one in chosen[0]}) == 4
    assert chosen == select_examples(pool, [item("x"), item("y")], 4, "random", 0)
    assert chosen != select_examples(pool, [item("x"), item("y")], 4, "random", 1)


def test_the_most_similar_example_is_next_to_the_question():
    rows = [
        item("the red fox", "1"),
        item("a blue whale sings", "2"),
        item("red paint", "3"),
        item("no", "4"),
    ]
    pool = example_pool(rows, [], "train.csv")
    (chosen,) = select_examples(pool, [item("where is the red fox?")], 2, "similar", 0)
    assert [one["answer"] for one in chosen] == ["3", "1"]
    (chosen,) = select_examples(pool, [item("zebra")], 2, "similar", 0)  # nothing is like it
    assert [one["answer"] for one in chosen] == ["2", "1"]
