"""A family of models: scores by size and shots, from evaluation folders; protocols that differ are refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from parakit.cli.main import main
from parakit.common import Lineage, UserError, writing_artifact
from parakit.evaluation.family import SUITE_MEAN, family_scores
from parakit.evaluation.results import Item, Protocol, summarize_items
from parakit.reports.sweeps.family import against_parameters, against_shots


@pytest.fixture
def evaluated(tmp_path: Path):
    """Writes an evaluation: `evaluated(name, parameters, share right, shots)`; returns its folder."""

    def write(
        name: str, parameters: int, right: float, shots: int = 0, suites: Any = None, **protocol: Any
    ) -> Path:
        items = [Item(str(i), "q", "a", "a", {"acc": float(i < 100 * right)}) for i in range(100)]
        chosen = {"task": "piqa", "version": "1", "program": "p", "data_digest": "d", "prompts_digest": name}
        found = summarize_items(Protocol(**(chosen | {"n_shots": shots} | protocol)), items, "acc")
        results = {
            "model": {"path": name, "parameters": parameters},
            **{"benchmarks": {"piqa": found.without_items()}, "suites": suites or {}, "loss": {}},
        }
        with writing_artifact(tmp_path / name, Lineage("evaluation")) as folder:
            (folder / "results.json").write_text(json.dumps(results))
        return tmp_path / name

    return write


def test_scores_are_by_size_and_by_shots(evaluated):
    folders = [
        evaluated(f"e{size}-{shots}", size, size / 1000 + shots / 10, shots)
        for size in (100, 400)
        for shots in (0, 4)
    ]
    scores = family_scores(folders)
    assert [(one.n_shots, one.parameters, one.value) for one in scores] == [
        *((0, 100, 0.1), (0, 400, 0.4), (4, 100, 0.5), (4, 400, 0.8)),
    ]
    assert all(one.low < one.value < one.high and one.chance == 0.5 for one in scores)
    plot = against_parameters(scores)
    assert [(one.label, [point.x for point in one.points]) for one in plot.series] == [
        *(("piqa, 0 shots", [100, 400]), ("piqa, 4 shots", [100, 400])),
    ]
    assert plot.percent
    assert [one.label for one in against_shots(scores).series] == ["piqa, 100", "piqa, 400"]


def test_models_of_one_size_are_one_point_with_the_interval_over_them(evaluated):
    folders = [evaluated(f"e{i}", 100, right) for i, right in enumerate((0.3, 0.4, 0.5))]
    folders.append(evaluated("large", 300, 0.6))
    small, large = family_scores(folders)
    assert (small.value, small.n_models, large.n_models) == (pytest.approx(0.4), 3, 1)
    assert small.high - small.value == pytest.approx(4.303 * 0.1 / math.sqrt(3), rel=1e-3)


def test_suites_are_there_with_their_mean_and_guessing(evaluated):
    def suites(right: float) -> dict[str, Any]:
        row = {"accuracy": right, "low": right - 0.1, "high": right + 0.1, "n": 10, "prompting": "plain"}
        return {"sentiment": row, "agreement": row}

    scores = family_scores(
        [evaluated("a", 10, 0.5, suites=suites(0.4)), evaluated("b", 90, 0.6, suites=suites(0.7))]
    )
    assert {one.benchmark for one in scores} == {"piqa", "sentiment", "agreement", SUITE_MEAN}
    assert [one.value for one in scores if one.benchmark == SUITE_MEAN] == pytest.approx([0.4, 0.7])
    assert all(one.to_dict()["low"] is None for one in scores if one.benchmark == SUITE_MEAN)


def test_another_protocol_and_nothing_in_common_are_refused(evaluated, tmp_path):
    first = evaluated("a", 10, 0.5)
    with pytest.raises(UserError, match=r"another protocol than in .*: version, prompting"):
        family_scores([first, evaluated("b", 90, 0.6, prompting="chat", version="2")])
    with pytest.raises(UserError, match="no benchmark in common"):
        family_scores([first, first])
    with pytest.raises(UserError, match="no such folder"):
        family_scores([first, tmp_path / "absent"])


def test_the_command_lists_and_draws(evaluated, tmp_path, capsys):
    folders = [str(evaluated(f"e{size}", size, size / 1000)) for size in (100, 400, 900)]
    status = main(["show", folders[0], "--family", *folders[1:], "--plot", str(tmp_path / "p.svg"), "--json"])
    assert status == 0
    assert [row["value"] for row in json.loads(capsys.readouterr().out)] == [0.1, 0.4, 0.9]
    assert (tmp_path / "p.svg").read_text().startswith("<svg")
    assert main(["show", folders[0], "--family", *folders[1:]]) == 0
    assert "piqa" in capsys.readouterr().out
    assert main(["show", folders[0], "--family", folders[1], "--plot", str(tmp_path / "p.png")]) == 2
    assert "FILE.svg" in capsys.readouterr().err
