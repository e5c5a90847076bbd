"""`parakit compare`: verdict, exit status, page, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import parakit
from parakit.cli import compare
from parakit.common.artifacts import Lineage, writing_artifact
from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import write_json_atomic
from parakit.evaluation.results import Item, Protocol, digest, summarize_items, write_items
from tests.evaluation.test_evaluation_comparison import losses_of


def evaluation(path: Path, right: list[int], *, n_shots: int = 0, suites=None, **config) -> str:
    """An evaluation folder with one benchmark, as `parakit evaluate` writes it."""
    items = [
        Item(
            f"{i}",
            f"<b>Question {i}</b>",
            "yes",
            "yes" if one else "<script>no</script>",
            {"acc": float(one)},
            f"part {i % 2}",
        )
        for i, one in enumerate(right)
    ]
    prompts = digest(item.prompt for item in items)
    result = summarize_items(Protocol("arc", "1", "lm-eval 0.4.13", "d", prompts, n_shots), items, "acc")
    benchmarks = {"arc": result.without_items()} if items else {}
    with writing_artifact(path, Lineage("evaluation", config)) as folder:
        write_json_atomic(
            folder / "results.json",
            {"model": {"path": "m"}, "loss": {}, "suites": suites or {}, "benchmarks": benchmarks},
        )
        write_items(folder, "arc", items)
    return str(path)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    found = {"few": [1] * 60 + [0] * 140, "many": [1] * 90 + [0] * 110, "near": [1] * 61 + [0] * 139}
    return {name: evaluation(tmp_path / name, right) for name, right in found.items()}


def test_the_exit_status_says_whether_a_model_is_worse(folders, capsys) -> None:
    assert compare.main([folders["few"], folders["many"]]) == 0
    assert "better" in capsys.readouterr().out
    assert compare.main([folders["many"], folders["few"]]) == 1
    assert compare.main([folders["few"], folders["many"], folders["near"], "--json"]) == 0
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert [one["verdict"] for one in found["models"]] == ["better", "cannot tell"]
    assert found["models"][0]["scores"][0]["difference"] == pytest.approx(0.15)
    assert found["models"][0]["n_changed"] == 30
    assert (
        compare.main([folders["few"], folders["near"], "--fail-on", "cannot-tell", "--detect", "0.05"]) == 1
    )
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(r"200 items detect [\d.]+ points; 5 points need [\d,]+", shown)


def test_the_page_shows_differences_and_the_items_that_changed_and_runs_nothing(folders, tmp_path) -> None:
    page = tmp_path / "page.html"
    found = parakit.compare(folders["many"], folders["few"], page=page)
    assert found["verdict"] == "worse"
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert "default-src 'none'" in text
    assert "<script>" not in text
    assert "<b>Question" not in text
    assert "&lt;script&gt;no&lt;/script&gt;" in text
    assert re.search(r"-15\.0 \(-[12]\d\.\d to -1\d\.\d\)", text)
    assert "30 items, of which 10 are shown" in text
    assert "part 1" in text


def test_what_cannot_be_compared_is_refused(folders, tmp_path) -> None:
    few = folders["few"]
    shots = evaluation(tmp_path / "shots", [1] * 200, n_shots=5)
    with pytest.raises(UserError, match="n_shots is 0 and 5"):
        compare.main([few, shots])
    assert compare.main([few, shots, "--allow", "n_shots"]) == 0
    short = evaluation(tmp_path / "short", [1] * 50)
    with pytest.raises(UserError, match="200 and 50, of which 50 are shared"):
        compare.main([few, short])
    assert compare.main([few, short, "--common-items"]) == 0
    with pytest.raises(UserError, match="1 is named"):
        compare.main([few])
    with pytest.raises(UserError, match="no such folder"):
        compare.main([few, str(tmp_path / "missing")])
    with pytest.raises(UserError, match="holds no benchmark, suite or loss"):
        compare.main([few, evaluation(tmp_path / "empty", [])])
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="nothing to evaluate on"):
        compare.main([few, str(tmp_path / "other")])
    with pytest.raises(UserError, match="suites has no effect: every folder is an evaluation"):
        compare.main([few, folders["near"], "--suites"])
    suites = {"facts": {"prompting": "chat", "samples": []}}
    with pytest.raises(UserError, match="facts has no items"):
        compare.main([few, evaluation(tmp_path / "no-items", [1] * 9, suites=suites)])
    with pytest.raises(CorruptArtifact, match="cannot be read: KeyError"):
        compare.main([few, evaluation(tmp_path / "odd", [1] * 9, suites={"facts": {}})])


def test_losses_of_other_windows_are_refused(tmp_path) -> None:

    for name, seq_len in (("a", 64), ("b", 64), ("c", 128)):
        with writing_artifact(tmp_path / name, Lineage("evaluation", {"seq_len": seq_len})) as folder:
            loss = {"text": losses_of(np.arange(1, 99) * (1.5 if name == "b" else 1.0))}
            write_json_atomic(folder / "results.json", {"model": {}, "loss": loss, "suites": {}})
    found = parakit.compare(tmp_path / "a", tmp_path / "b")["models"][0]["scores"][0]
    assert (found["kind"], found["unit"], found["verdict"]) == ("loss", "bits per byte", "worse")
    with pytest.raises(UserError, match=r"loss on text: .*settings\.seq_len is 64 and 128"):
        parakit.compare(tmp_path / "a", tmp_path / "c")


def test_models_are_evaluated_first_and_finished_evaluations_found_again(
    tiny_build, tmp_path, capsys
) -> None:
    model, text = str(tiny_build / "pretrain"), tmp_path / "text.txt"
    text.write_text("The small bird sees the old tree. " * 20)
    words = [
        model,
        str(tiny_build),
        "--text",
        str(text),
        "--device",
        "cpu",
        "--output",
        str(tmp_path / "out"),
    ]
    assert compare.main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert found["models"][0]["scores"][0]["difference"] == 0  # a build stands for its last model
    assert compare.main(words) == 0
    assert capsys.readouterr().err.count("was evaluated before") == 2
    with pytest.raises(UserError, match="the evaluation of all models of a build"):
        compare.main([model, str(tiny_build / "evaluate"), "--text", str(text)])
