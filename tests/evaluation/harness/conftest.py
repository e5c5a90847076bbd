"""A small folder of benchmark data in every layout, and a cache folder of the test's own."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import pytest

from tests.evaluation.harness.benchmark_data import mmlu_csv, write_archive, write_rows

pytest.importorskip("lm_eval")

SUBJECTS = ("abstract_algebra", "anatomy")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers of one test are no other's; the index of task files is made once."""
    shared = tmp_path_factory.getbasetemp() / "harness-cache"
    folder = tmp_path / "cache"
    folder.mkdir()
    shared.mkdir(exist_ok=True)
    monkeypatch.setattr("parakit.evaluation.harness.task_index.cache_folder", lambda: shared)
    monkeypatch.setattr("parakit.evaluation.tasks.cache_folder", lambda: folder)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks")
    parts = {"test": (5, 0), "dev": (5, 50)}
    files = {f"{split}/{s}_{split}.csv": mmlu_csv(*of) for split, of in parts.items() for s in SUBJECTS}
    write_archive(folder / "mmlu" / "mmlu.tar.gz", files)
    choices = ["the bird", "the book", "Tom", "Anna"]
    questions = [{"query": f"Question: Who sees {i}?", "choices": choices, "gold": i % 4} for i in range(6)]
    for name in ("arc_easy", "arc_challenge"):
        write_rows(folder / "foundry_eval" / f"{name}.jsonl.gz", questions)
    write_rows(
        folder / "foundry_eval" / "piqa.jsonl.gz",
        [{"query": "Question: How does it work?\n", "choices": ["a", "b"], "gold": 1}],
    )
    write_rows(
        folder / "foundry_eval" / "winogrande.jsonl.gz",
        [
            {
                "context_options": ["Anna sees Tom so Tom", "Anna sees Tom so Anna"],
                "continuation": "is right.",
                "gold": 1,
            }
        ],
    )
    passage = "Passage: Tom has a book.\nQuestion: What is this?\nIt was.\nQuestion: does tom have a book?"
    write_rows(
        folder / "foundry_eval" / "boolq.jsonl.gz", [{"query": passage, "choices": ["no", "yes"], "gold": 1}]
    )
    gsm = [
        {"question": f"How many are {i} and {i}?", "answer": f"{i} + {i} = {2 * i}\n#### {2 * i}"}
        for i in range(8)
    ]
    write_rows(folder / "gsm8k" / "test.jsonl.gz", gsm[:3])
    write_rows(folder / "gsm8k" / "train.jsonl", gsm)
    texts = [{"text": f"Anna sees the bird {i} and Tom sees the book"} for i in range(4)]
    write_rows(folder / "lambada_openai" / "lambada_test.jsonl.gz", texts)
    (folder / "hellaswag").mkdir()
    items = ["Birds: Anna sees the bird. the bird", "1", "flies.", "walks.", "is a book.", "was."]
    items += ["Work and Business: How to see. Look at it.", "3", "Yes.", "No.", "Here.", "There."]
    (folder / "hellaswag" / "hellaswag_val_full.txt.bz2").write_bytes(
        bz2.compress(("\n".join(items) + "\n").encode())
    )
    (folder / "truthfulqa").mkdir()
    table = "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
    table += 'A,B,What is it?,It is,It is; "It" was.,No; Yes,x\n'
    (folder / "truthfulqa" / "TruthfulQA.csv.gz").write_bytes(gzip.compress(table.encode()))
    return folder
