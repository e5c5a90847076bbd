"""Benchmarks of a recipe (`evaluate.tasks`): in the summary, the report and the card; an evaluation folder of each model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import parakit
from parakit.cli.main import main
from parakit.cli.rendering.show_details import describe
from parakit.common.artifacts import open_artifact
from parakit.common.errors import UserError
from parakit.evaluation.comparison.folders import read_scores
from parakit.recipe import build
from parakit.reports.cards.score_card import split_front_matter
from tests.tiny_builds import tiny_primer

TASKS = ("minimal_pairs", "bias")
N = 10


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A build with tasks and a suite: its folder and its summary."""
    builds = tmp_path_factory.mktemp("benchmarks") / "builds"
    summary = build(tiny_primer(evaluate__tasks=list(TASKS), evaluate__limit=N), builds)
    return builds / "primer", summary.to_dict()


def test_each_score_has_its_interval_its_protocol_and_its_contamination(built) -> None:
    _, summary = built
    for name in TASKS:
        assert list(summary["benchmarks"][name]) == ["base", "tuned"]
        for one in summary["benchmarks"][name].values():
            assert one["low"] <= one["value"] <= one["high"]
            assert one["scores"][one["metric"]]["value"] == one["value"]
            assert (one["protocol"]["n_shots"], one["protocol"]["prompting"]) == (0, "plain")
            assert len(one["protocol"]["prompts_digest"]) == 32
    kinds = {
        role: sorted(text["kind"] for text in one["contamination"]["texts"])
        for role, one in summary["benchmarks"]["bias"].items()
    }
    assert kinds == {"base": ["corpus"], "tuned": ["conversations", "corpus"]}
    assert set(summary["against_parent"]["tuned"]["benchmarks"]) == set(TASKS)


def test_report_and_card_have_a_section_of_the_benchmarks(built) -> None:
    folder, summary = built
    report = (folder / "report.html").read_text()
    section = report[report.index('<section id="benchmarks">') :].split("</section>")[0]
    one = summary["benchmarks"]["minimal_pairs"]["tuned"]
    for shown in (
        "minimal_pairs",
        "0 shots, plain text",
        one["protocol"]["prompts_digest"][:12],
        "parakit 1",
    ):
        assert shown in section
    assert section.count(" items)") == 4
    metadata, text = split_front_matter((folder / "README.md").read_text())
    named = {entry["dataset"]["name"]: entry for entry in metadata["model-index"][0]["results"]}
    assert {*TASKS} <= set(named)
    digest = named["minimal_pairs"]["dataset"]["args"]["prompts_digest"]
    assert digest == one["protocol"]["prompts_digest"]
    assert "| minimal_pairs | accuracy |" in text.replace("\\_", "_")


def test_each_model_has_an_evaluation_folder_that_compare_and_show_read(built, capsys) -> None:
    folder, summary = built
    models = folder / "evaluate" / "models"
    artifact = open_artifact(models / "tuned", "evaluation")
    assert artifact.lineage["parents"][0]["digest"] == open_artifact(folder / "finetune").digest
    scores = read_scores(models / "tuned")
    assert {name: one.n for name, one in scores.benchmarks.items()} == dict.fromkeys(TASKS, N)
    assert len(scores.suites["facts"].items) == 8
    assert "| bias |" in (models / "tuned" / "README.md").read_text()
    open_artifact(folder / "evaluate", "evaluation")
    words = [
        "compare",
        str(models / "base"),
        str(models / "tuned"),
        "--allow",
        "prompting",
        "prompts_digest",
        "--json",
    ]
    assert main(words) in (0, 1)
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])["models"][0]
    changes = {row["name"]: row["difference"] for row in found["scores"] if row["verdict"]}
    assert changes["bias"] == summary["against_parent"]["tuned"]["benchmarks"]["bias"]["difference"]
    with pytest.raises(UserError, match="the evaluation of all models") as refused:
        parakit.compare(folder / "evaluate", models / "tuned")
    assert str(models / "tuned") in refused.value.hint
    for path, n_models in ((folder, 2), (folder / "evaluate", 2), (models / "base", 1)):
        rows = describe(path)["figures"]["benchmarks"]
        assert len(rows) == n_models * len(TASKS)
        assert rows[0]["prompts"] == "0 shots, plain text"


def test_models_are_compared_on_tasks_that_are_run_first(built, capsys, tmp_path) -> None:
    folder, _ = built
    words = ["compare", str(folder / "pretrain"), str(folder), "--tasks", "minimal_pairs", "--limit", "12"]
    words += ["--prompting", "plain", "--device", "cpu", "--output", str(tmp_path / "out"), "--json"]
    assert main(words) in (0, 1)
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])["models"][0]
    assert [(row["kind"], row["name"], row["n"]) for row in found["scores"] if row["verdict"]] == [
        ("benchmark", "minimal_pairs", 12)
    ]
    assert main(words) in (0, 1)
    assert capsys.readouterr().err.count("was evaluated before") == 2


def test_a_gate_and_the_last_stage_have_the_same_answers(tmp_path) -> None:
    recipe = tiny_primer(
        evaluate__tasks=["bias"], evaluate__limit=4, evaluate__gate={}, evaluate__contamination=["none"]
    )
    summary = build(recipe, tmp_path / "builds").to_dict()
    folder = tmp_path / "builds" / "primer"
    gate, last = (
        read_scores(folder / path).benchmarks["bias"] for path in ("gate_finetune", "evaluate/models/tuned")
    )
    assert gate == last
    assert "contamination" not in summary["suites"]["facts"]["tuned"]


def test_contamination_without_items_is_refused() -> None:
    with pytest.raises(UserError, match="there are no suites and no tasks"):
        tiny_primer(evaluate__suites=None, evaluate__max_new_tokens=100, evaluate__contamination=["none"])
