"""Rows of tasks are read from JSON lines, tables and pairs of files; the first that is none is named."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.common.errors import UserError
from parakit.data import read_examples

# Text that a file can hold, with something in it; no line ends, which only quoted fields can hold.
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(
    lambda text: bool(text.strip())
)


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def rows_of(path: Path | str, task: str, **options: list[str]) -> list[dict]:
    return [row for _, row in read_examples(path, task, **options)]


SAMPLES = {
    "classify": [
        {"text": "Not bad.", "label": "good"},
        {"text": "Bad.", "text_pair": "Why?", "label": "poor"},
    ],
    "tag": [{"words": ["Anna", "sings", "."], "tags": ["name", "verb", "sign"]}],
    "regress": [{"text": "A", "text_pair": "B", "score": 0.5}, {"text": "C", "score": -2.0}],
    "translate": [{"source": "Hello.", "target": "Bonjour."}],
    "embed": [{"text": "Who?", "positive": "I."}, {"text": "Why?", "positive": "So.", "negatives": ["No."]}],
}


@pytest.mark.parametrize("task", SAMPLES)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.csv", "rows.tsv", "rows.tsv.gz"])
def test_every_task_is_read_from_every_format(tmp_path: Path, task: str, name: str) -> None:
    rows = SAMPLES[task]
    if "jsonl" in name:
        text = "\n\n".join(json.dumps({"id": i} | row) for i, row in enumerate(rows))
    else:
        keys = list(dict.fromkeys(key for row in rows for key in row))
        told = [
            [" ".join(v) if isinstance(v, list) else str(v) for v in (row.get(key, "") for key in keys)]
            for row in rows
        ]
        sep = "," if "csv" in name else "\t"
        lines = [sep.join(["id", *keys]), *(sep.join(["7", *fields]) for fields in told)]
        text = "\ufeff" + "\r\n".join(lines) + "\r\n"
    assert rows_of(written(tmp_path, name, text), task) == rows


@given(pairs=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_csv_and_tsv_give_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    rows = [{"source": source, "target": target} for source, target in pairs]
    with open(folder / "rows.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["source", "target"])
        writer.writerows((f"{source}\n{source}", target) for source, target in pairs)
    doubled = [row | {"source": f"{row['source']}\n{row['source']}"} for row in rows]
    assert rows_of(folder / "rows.csv", "translate") == doubled
    lines = "".join(f"{source}\t{target}\n" for source, target in pairs)
    path = written(folder, "rows.tsv", lines)
    assert rows_of(path, "translate", columns=["source", "target"]) == rows


def test_columns_name_a_table_without_a_header(tmp_path: Path) -> None:
    path = written(tmp_path, "cola.tsv", 'gj04\t1\t\tOur "friends\ngj04\t0\t*\tThem went.\n')
    rows = rows_of(path, "classify", columns=["from", "label", "star", "text"])
    assert rows == [{"text": 'Our "friends', "label": "1"}, {"text": "Them went.", "label": "0"}]


def test_two_files_of_lines_are_read_side_by_side(tmp_path: Path) -> None:
    written(tmp_path, "train.en.gz", "Hello.\nTwo dogs\n")
    written(tmp_path, "train.de.gz", "Hallo. \r\nZwei Hunde")
    found = list(read_examples(f"{tmp_path}/train.en.gz:{tmp_path}/train.de.gz", "translate"))
    assert found == [
        ("train.en.gz:train.de.gz, row 1", {"source": "Hello.", "target": "Hallo."}),
        ("train.en.gz:train.de.gz, row 2", {"source": "Two dogs", "target": "Zwei Hunde"}),
    ]


def test_files_of_unequal_length_are_refused_with_both_counts(tmp_path: Path) -> None:
    written(tmp_path, "a.en", "one\ntwo\nthree\n")
    written(tmp_path, "a.de", "eins\n")
    with pytest.raises(UserError, match=r"a\.en has 3 lines and a\.de 1"):
        rows_of(f"{tmp_path}/a.en:{tmp_path}/a.de", "translate")


GOOD = '{"text": "a", "label": "x"}\n'
BAD = [
    ("classify", "r.jsonl", GOOD + '{"txt": "a", "label": "x"}', ["r.jsonl, row 2", "no 'text'", "'txt', 'label'"]),
    ("classify", "r.jsonl", '{"text": "a", "label": null}', ["row 1", "'label' is null"]),
    ("classify", "r.jsonl", '{"text": "a", "label": 1}', ["row 1", "'label' is 1 (int), not text", "quotation"]),
    ("classify", "r.jsonl", '{"text": " ", "label": "x"}', ["row 1", "'text' is empty", "remove the row"]),
    ("classify", "r.jsonl", "\n\n[1]", ["row 1", "a int, not an object"]),
    ("classify", "r.jsonl", GOOD + "{", ["row 2", "not JSON"]),
    ("classify", "r.jsonl", '{"text": "\\ud800", "label": "x"}', ["row 1", "half of a surrogate pair"]),
    ("classify", "r.jsonl", GOOD.replace(": \"a", ": \"éè").encode() + b'{"text": "\xff"}', ["row 2", "byte 11 is not UTF-8"]),
    ("classify", "r.jsonl", "", ["empty"]),
    ("classify", "r.txt", GOOD, [".txt is not a supported file type", ".csv or .tsv"]),
    ("classify", "r.csv", "text,lable\na,x\n", ["row 1", "the header has no 'label'", "call column 'lable' 'label'"]),
    ("classify", "r.csv", "text,label,label\na,x,y\n", ["row 1", "'label' twice"]),
    ("classify", "r.csv", "text,label\na,x\na,b,x\n", ["row 3", "3 fields where there are 2 columns"]),
    ("classify", "r.csv", 'text,label\n"a,x\n', ["row 2", "not CSV"]),
    ("classify", "r.tsv", "text\tlabel\n\tx\n", ["row 2", "'text' is empty"]),
    ("tag", "r.jsonl", '{"words": ["a", "b"], "tags": ["x"]}', ["row 1", "2 words and 1 tags"]),
    ("tag", "r.jsonl", '{"words": "a b", "tags": ["x"]}', ["row 1", "'words' is 'a b' (str), not a list"]),
    ("tag", "r.jsonl", '{"words": ["a", ""], "tags": ["x", "y"]}', ["row 1", "'words[1]' is empty"]),
    ("tag", "r.jsonl", '{"words": [], "tags": []}', ["row 1", "'words' is an empty list"]),
    ("tag", "r.tsv", "words\ttags\na b\tx\n", ["row 2", "2 words and 1 tags"]),
    ("regress", "r.jsonl", '{"text": "a", "score": NaN}', ["row 1", "'score' is nan", "finite"]),
    ("regress", "r.jsonl", '{"text": "a", "score": 1e999}', ["row 1", "'score' is inf"]),
    ("regress", "r.jsonl", '{"text": "a", "score": "1"}', ["row 1", "'score' is '1' (str), not a number"]),
    ("regress", "r.jsonl", '{"text": "a", "score": true}', ["row 1", "'score' is True (bool)"]),
    ("regress", "r.csv", "text,score\na,inf\n", ["row 2", "'score' is inf"]),
    ("regress", "r.csv", "text,score\na,one\n", ["row 2", "'score' is 'one', not a number"]),
    ("translate", "r.txt", "a", [".txt is not a supported file type", "SOURCE:TARGET"]),
    ("embed", "r.jsonl", '{"text": "a"}', ["row 1", "no 'positive'"]),
    ("embed", "r.jsonl", '{"text": "a", "positive": "b", "negatives": ["c", "b"]}', ["row 1", "'negatives[1]'", "positive"]),
    ("embed", "r.jsonl", '{"text": "a", "positive": "b", "negatives": "c"}', ["row 1", "'negatives' is 'c' (str), not a list"]),
]  # fmt: skip


@pytest.mark.parametrize(("task", "name", "text", "parts"), BAD)
def test_the_first_row_that_is_none_is_named(
    tmp_path: Path, task: str, name: str, text: str | bytes, parts: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        rows_of(written(tmp_path, name, text), task)
    for part in parts:
        assert part in str(caught.value)
    assert caught.value.hint


def test_unusable_paths_and_tasks_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "rows.jsonl", GOOD)
    with pytest.raises(UserError, match=r"did you mean .*rows\.jsonl"):
        rows_of(tmp_path / "row.jsonl", "classify")
    with pytest.raises(UserError, match="is a folder"):
        rows_of(tmp_path, "classify")
    with pytest.raises(UserError, match="did you mean 'classify'"):
        rows_of(path, "clasify")
    with pytest.raises(UserError, match="not SOURCE:TARGET"):
        rows_of(f"{path}:{path}:{path}", "translate")
    with pytest.raises(UserError, match="'text' is empty"):
        rows_of(written(tmp_path, "rows.csv", 'text,label\n"\n",x\n'), "classify")
    with pytest.raises(UserError, match=r"`columns` has no 'label'"):
        rows_of(written(tmp_path, "none.csv", "a,x\n"), "classify", columns=["text", "from"])
    damaged = written(tmp_path, "cut.jsonl.gz", GOOD)
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.raises(UserError, match="damaged gzip"):
        rows_of(damaged, "classify")
