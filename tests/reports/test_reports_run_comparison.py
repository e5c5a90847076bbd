"""Runs are compared by settings and losses, drawn in the terminal, and written as a page."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

import pytest

from parakit.cli.main import main
from parakit.common.errors import UserError
from parakit.common.files import write_checked_json
from parakit.reports.training_runs.comparison import choose_runs, compare_runs, interpolated
from parakit.reports.training_runs.page import write_runs_page
from parakit.reports.training_runs.terminal import BLANK, draw_curves


def write_run(root: Path, name: str, losses: list[float], tokens: int = 10, **plan: object) -> Path:
    """A run of one step for each loss, with a validation after each."""
    folder = root / f".{name}.work" / "0123abcd"
    folder.mkdir(parents=True)
    settings = {"max_steps": len(losses), "seed": 0} | plan
    write_checked_json(folder / "plan.json", {"family": "decoder", "config": {}, "plan": settings})
    write_checked_json(folder / "run.json", {"training": {}, "spec": {}, "inputs": []})
    rows: list[dict[str, object]] = []
    for number, loss in enumerate(losses, 1):
        rows.append({"kind": "step", "step": number, "loss": loss + 0.5, "tokens": tokens, "seconds": 1.0})
        rows.append({"kind": "validation", "step": number, "loss": loss})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    os.utime(folder / "metrics.jsonl", (0, 0))
    return folder


def test_the_better_run_is_named_with_the_difference(tmp_path: Path) -> None:
    write_run(tmp_path, "fast", [3.0, 2.0, 1.5], learning_rate=0.02)
    write_run(tmp_path, "slow", [3.0, 2.5], tokens=15, learning_rate=0.01)
    compared = compare_runs(choose_runs(["fast", "slow"], tmp_path))
    differences = dict(compared.differences)
    assert differences["plan.learning_rate"] == {"fast": "0.02", "slow": "0.01"}
    assert differences["plan.max_steps"] == {"fast": "3", "slow": "2"}
    assert compared.common_tokens == 30
    assert compared.at_common == {"fast": 1.5, "slow": 2.5}
    first = compared.verdicts()[0]
    assert "fast is lowest with 1.5000" in first
    assert "slow 2.5000 (+1.0000, +66.7%)" in first


def test_runs_of_other_seeds_have_a_spread(tmp_path: Path) -> None:
    for seed, loss in enumerate([2.0, 2.2, 2.4]):
        write_run(tmp_path, f"seed-{seed}", [3.0, loss], seed=seed)
    compared = compare_runs(choose_runs([f"seed-{seed}" for seed in range(3)], tmp_path))
    assert compared.only_seeds_differ
    assert compared.spread() == pytest.approx((2.2, 0.2))
    assert "standard deviation 0.2000" in compared.verdicts()[-1]


def test_losses_between_validations_are_on_a_line() -> None:
    points = [(0.0, 4.0), (10.0, 2.0), (20.0, 1.0)]
    assert [interpolated(points, x) for x in (-1, 0, 5, 10, 15, 99)] == [4.0, 4.0, 3.0, 2.0, 1.5, 1.0]


def test_a_run_that_is_not_there_is_an_error_with_the_nearest(tmp_path: Path) -> None:
    write_run(tmp_path, "first", [1.0])
    with pytest.raises(UserError, match="firts: no run") as error:
        choose_runs(["firts"], tmp_path)
    assert "'first'" in error.value.hint
    with pytest.raises(UserError, match="needs two"):
        compare_runs(choose_runs(["first"], tmp_path))


def test_a_curve_that_falls_is_drawn_from_the_top_left_to_the_bottom_right() -> None:
    lines = draw_curves({"a": [(0, 2.0), (100, 1.0)]}, "step", width=40, height=8)
    drawn = [
        (row, column)
        for row, line in enumerate(lines)
        for column, cell in enumerate(line)
        if cell.curve == 0 and ord(cell.character) > BLANK
    ]
    assert drawn[0][0] == 0
    assert drawn[-1] == (7, 39)
    assert all(later[1] >= earlier[1] for earlier, later in pairwise(drawn))
    columns = {column for _, column in drawn}
    assert columns == set(range(min(columns), 40))  # without gaps
    assert draw_curves({"a": []}, "step") == []


def test_the_page_has_the_figures_the_curves_and_the_settings(tmp_path: Path) -> None:
    write_run(tmp_path, "<b>one", [3.0, 2.0], learning_rate=0.02)
    write_run(tmp_path, "two", [3.0, 2.5], learning_rate=0.01)
    runs = choose_runs(["<b>one", "two"], tmp_path)
    page = write_runs_page(runs, tmp_path / "runs.html").read_text()
    assert page.count("<svg") == 2  # the loss, and the validation loss
    assert "plan.learning_rate" in page
    assert "<b>one" not in page


def test_the_command_lists_compares_and_plots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path, "one", [3.0, 2.0], learning_rate=0.02)
    write_run(tmp_path, "two", [3.0, 2.5], learning_rate=0.01)
    assert main(["runs", "list", "--json"]) == 0
    listed = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert listed["one"]["best_validation_loss"] == 2.0
    assert listed["two"]["planned_steps"] == 2
    assert main(["runs", "list"]) == 0
    assert "interrupted" in capsys.readouterr().out
    assert main(["runs", "compare", "one", "two"]) == 0
    assert "one is lowest with 2.0000" in " ".join(capsys.readouterr().out.split())
    assert main(["runs", "compare", "one", "two", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loss_at_common_tokens"] == {"one": 2.0, "two": 2.5}
    assert main(["runs", "plot", "one", "two", "--metrics", "step/loss"]) == 0
    assert any(ord(character) > BLANK for character in capsys.readouterr().out)
    assert main(["runs", "plot", "one", "--output", "page.html"]) == 0
    assert main(["runs", "plot", "one", "--output", "page.html"]) == 2
    assert main(["runs", "plot", "one", "--metrics", "step/los"]) == 2
    assert "'step/loss'" in capsys.readouterr().err
