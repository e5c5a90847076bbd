"""The share of touched items, the scores without them, and an evaluation folder that is searched afterwards."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import pytest

from parakit.common.artifacts import Lineage, open_artifact, writing_artifact
from parakit.common.errors import UserError
from parakit.common.files import read_json, write_json_atomic
from parakit.evaluation.contamination.evaluations import search_evaluation, texts_to_search
from parakit.evaluation.contamination.figures import describe_contamination, find_contamination
from parakit.evaluation.contamination.texts import TrainingTexts, named_text
from parakit.evaluation.intervals import wilson_interval
from parakit.evaluation.results import (
    BenchmarkResult,
    Item,
    Protocol,
    read_result,
    summarize_items,
    write_items,
)
from tests.data.duplicates.planted import random_words

PROTOCOL = Protocol("exam", "1", "test 1", "", "")
QUESTIONS = [f"Question: {' '.join(random_words(random.Random(i), 20))}?" for i in range(10)]


@pytest.fixture
def result() -> BenchmarkResult:
    items = [
        Item(f"i{i}", question, "Monday", "Monday", {"acc": float(i < 4), "loss": float(i)})
        for i, question in enumerate(QUESTIONS)
    ]
    items.append(Item("short", "Why?", "So", "So", {"acc": 1.0, "loss": 1.0}))
    return summarize_items(PROTOCOL, items, "acc", lower_is_better=["loss"])


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "web.txt"
    path.write_text(f"Seen today. {QUESTIONS[0].upper()}\n{QUESTIONS[1]} monday, I think.\n{QUESTIONS[5]}")
    return path


def test_scores_with_and_without_the_touched_items(result: BenchmarkResult, text: Path) -> None:
    found = find_contamination({"exam": result}, named_text(text))["exam"].contamination
    assert found is not None
    counts = {name: found[name] for name in ("n", "n_too_short", "n_touched", "n_most", "n_with_answer")}
    assert counts == {"n": 10, "n_too_short": 1, "n_touched": 3, "n_most": 3, "n_with_answer": 1}
    assert (found["share"], found["low"], found["high"]) == (0.3, *wilson_interval(3, 10))
    assert list(found["touched"]) == ["i0", "i1", "i5"]
    assert found["scores_without"]["acc"]["value"] == pytest.approx(3 / 8)
    assert found["scores_without"]["acc"]["n"] == 8
    assert found["scores_touched"]["acc"]["value"] == pytest.approx(2 / 3)
    assert not found["scores_touched"]["loss"]["higher_is_better"]
    (searched,) = found["texts"]
    assert (searched["kind"], searched["n_documents"], searched["n_bytes"]) == (
        "files",
        1,
        text.stat().st_size,
    )
    assert describe_contamination(found) == "30.0 % (3 of 10 items)"
    json.dumps(found)


def test_a_score_that_is_no_mean_over_items_is_left_out(result: BenchmarkResult, text: Path) -> None:
    corpus_level = dataclasses.replace(result.scores["loss"], value=123.0)
    result = dataclasses.replace(result, scores={**result.scores, "loss": corpus_level})
    found = find_contamination({"exam": result}, named_text(text))["exam"].contamination
    assert found is not None
    assert list(found["scores_without"]) == ["acc"]


def test_nothing_searched_is_unknown_and_not_zero(result: BenchmarkResult, text: Path) -> None:
    found = find_contamination({"exam": result}, TrainingTexts(unknown=["a published model"]))[
        "exam"
    ].contamination
    assert found is not None
    assert "share" not in found
    assert describe_contamination(found) == "unknown"
    assert describe_contamination(None) == "not searched"
    partly = TrainingTexts(named_text(text).texts, ["a published model"])
    assert "unknown" in describe_contamination(
        find_contamination({"exam": result}, partly)["exam"].contamination
    )


def test_an_evaluation_folder_is_searched_afterwards(
    result: BenchmarkResult, text: Path, tmp_path: Path
) -> None:
    sample = {"question": QUESTIONS[5], "answer": "Monday", "completion": "Monday", "correct": True}
    suite = {"accuracy": 1.0, "low": 0.2, "high": 1.0, "n": 1, "prompting": "plain", "samples": [sample]}
    with writing_artifact(tmp_path / "e", Lineage("evaluation")) as folder:
        write_items(folder, "exam", result.items)
        content = {"model": {"path": str(tmp_path / "m")}, "benchmarks": {"exam": result.without_items()}}
        write_json_atomic(folder / "results.json", content | {"suites": {"facts": suite}})
    (tmp_path / "m").mkdir()
    unsearched = search_evaluation(tmp_path / "e")
    assert unsearched["benchmarks"]["exam"]["contamination"]["unknown"]
    search_evaluation(tmp_path / "e", [str(text)], tmp_path / "e", overwrite=True)
    results = read_json(open_artifact(tmp_path / "e", "evaluation").path / "results.json")
    assert results["suites"]["facts"]["contamination"]["n_touched"] == 1
    again = read_result(tmp_path / "e", "exam", results)
    assert again.items == result.items
    assert again.contamination is not None
    assert again.contamination["n_touched"] == 3
    with pytest.raises(UserError, match="none, and lineage"):
        texts_to_search(tmp_path / "m", ["none", "lineage"])
    assert texts_to_search(tmp_path / "m", ["none"]) is None
