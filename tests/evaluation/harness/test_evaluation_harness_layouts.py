"""Local files give the columns of the hub's data sets, and a broken row is named."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from parakit.common.errors import UserError
from parakit.evaluation.harness.layouts import LAYOUTS, layout_files, read_layout
from tests.evaluation.harness.benchmark_data import write_archive, write_rows


def test_mmlu_has_the_subject_s_questions_and_the_examples(data: Path) -> None:
    splits = read_layout(data, "cais/mmlu", "anatomy")
    assert splits is not None
    assert {name: len(rows) for name, rows in splits.items()} == {"test": 5, "dev": 5}
    assert splits["test"][2] == {
        "question": "How many birds are there in 2?",
        "subject": "anatomy",
        "choices": ["one", "two", "three", "four"],
        "answer": 2,
    }


def test_an_unfinished_last_sentence_is_apart_in_hellaswag(data: Path) -> None:
    splits = read_layout(data, "Rowan/hellaswag", None)
    assert splits is not None
    first, second = splits["validation"]
    assert (first["activity_label"], first["ctx_a"], first["ctx_b"]) == (
        "Birds",
        "Anna sees the bird.",
        "the bird",
    )
    assert (second["ctx_a"], second["ctx_b"], second["label"]) == ("How to see. Look at it.", "", "3")


def test_choices_have_letters_in_arc_and_a_gap_in_winogrande(data: Path) -> None:
    arc = read_layout(data, "allenai/ai2_arc", "ARC-Easy")
    assert arc is not None
    assert arc["test"][1]["question"] == "Who sees 1?"
    assert arc["test"][1]["answerKey"] == "B"
    winogrande = read_layout(data, "allenai/winogrande", "winogrande_xl")
    assert winogrande == {
        "validation": [
            {"sentence": "Anna sees Tom so _ is right.", "option1": "Tom", "option2": "Anna", "answer": "2"}
        ]
    }


def test_the_last_question_of_boolq_is_the_question(data: Path) -> None:
    splits = read_layout(data, "aps/super_glue", "boolq")
    assert splits is not None
    assert splits["validation"] == [
        {
            "passage": "Tom has a book.\nQuestion: What is this?\nIt was.",
            "question": "does tom have a book",
            "label": 1,
        }
    ]


def test_truthfulqa_s_answers_become_choices(data: Path) -> None:
    splits = read_layout(data, "truthfulqa/truthful_qa", "multiple_choice")
    assert splits is not None
    row = splits["validation"][0]
    assert row["mc1_targets"] == {"choices": ["It is.", "No.", "Yes."], "labels": [1, 0, 0]}
    assert row["mc2_targets"]["labels"] == [1, 1, 0, 0]


def test_any_data_set_is_read_where_its_files_are_named_after_the_hub(tmp_path: Path) -> None:
    write_rows(tmp_path / "someone" / "questions" / "easy" / "test.jsonl.gz", [{"a": 1}])
    write_rows(tmp_path / "someone" / "questions" / "easy" / "dev.jsonl", [{"a": 2}])
    assert read_layout(tmp_path, "someone/questions", "easy") == {"test": [{"a": 1}], "dev": [{"a": 2}]}
    assert read_layout(tmp_path, "someone/questions", "hard") is None
    assert read_layout(tmp_path, "cais/mmlu", "anatomy") is None  # the file is absent
    assert layout_files("someone/questions", "easy") == [
        "someone/questions/easy/SPLIT{.jsonl,.jsonl.gz,.parquet}"
    ]


@pytest.mark.parametrize(
    ("path", "name", "message"),
    [
        ("cais/mmlu", "anatomy", "anatomy_test.csv: row 2"),
        ("openai/gsm8k", "main", "line 2: has no 'answer'"),
        ("Rowan/hellaswag", None, "row 1 is no context"),
        ("EleutherAI/lambada_openai", "default", "line 1: is not JSON"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, path: str, name: str | None, message: str) -> None:
    csv = "question,choice0,choice1,choice2,choice3,answer\nq,a,b,c,d,0\nq,a,b,c,d,7\n"
    write_archive(tmp_path / "mmlu" / "mmlu.tar.gz", {"test/anatomy_test.csv": csv})
    write_rows(tmp_path / "gsm8k" / "test.jsonl.gz", [{"question": "q", "answer": "1"}, {"question": "q"}])
    for folder, file, content in (
        ("hellaswag", "hellaswag_val_full.txt.bz2", bz2.compress(b"no context\n9\na\nb\nc\nd\n")),
        ("lambada_openai", "lambada_test.jsonl.gz", gzip.compress(b"{broken\n")),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_layout(tmp_path, path, name)


@pytest.mark.long
def test_every_public_file_is_read_whole(public_data: Callable[[str], Path]) -> None:
    data = public_data("mmlu").parent
    names = {
        "cais/mmlu": "all",
        "hails/mmlu_no_train": "anatomy",
        "allenai/ai2_arc": "ARC-Easy",
        "aps/super_glue": "boolq",
        "nyu-mll/blimp": "causative",
    }
    counts = {}
    for path in LAYOUTS:
        splits = read_layout(data, path, names.get(path))
        assert splits is not None
        counts[path] = max(map(len, splits.values()))
    assert counts["cais/mmlu"] == 14_042
    assert counts["Rowan/hellaswag"] == 10_042
    assert min(counts.values()) >= 135
