"""The report of a scaling law: what it predicts, how it checks itself, and what it warns of."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from parakit.common import UserError
from parakit.planning.scaling_laws import ScalingLaw, ScalingRun
from parakit.reports.sweeps.law import (
    FamilyRun,
    LawReport,
    check_sentence,
    fit_family,
    notes,
    tables,
    write_law_report,
)

LAW = ScalingLaw(
    name="planted", irreducible=1.3, size_factor=40.0, data_factor=700.0, size_exponent=0.3, data_exponent=0.4
)
PER_TOKEN = 6.5


def runs() -> list[FamilyRun]:
    generator = np.random.default_rng(1)
    return [
        FamilyRun(
            Path(f"runs/{n:.0f}-{d:.0f}"),
            0,
            ScalingRun(n, d, LAW.loss(n, d) * math.exp(0.001 * generator.normal()), PER_TOKEN * n * d),
            "nats per token",
            train_tokens=10_000_000,
        )
        for n in (1e5, 2e5, 4e5)
        for d in (1e6, 2e6, 4e6)
    ]


@pytest.fixture(scope="module")
def report() -> LawReport:
    return fit_family("family", runs(), [(1e6, 1e7), (1e9, 1e11)], n_samples=20)


def test_a_prediction_has_the_operations_of_the_family_and_an_interval(report: LawReport) -> None:
    near = report.predictions[0]
    assert near.flops == pytest.approx(PER_TOKEN * 1e13)
    assert near.loss.low < LAW.loss(1e6, 1e7) < near.loss.high


def test_the_largest_run_is_predicted_from_the_others(report: LawReport) -> None:
    assert report.check is not None
    assert (report.check.parameters, report.check.tokens) == (4e5, 4e6)
    assert report.check.error == pytest.approx(0, abs=0.01)
    assert "the law predicts it 0." in check_sentence(report)
    few = fit_family("few", [runs()[i] for i in (0, 1, 3, 4, 6, 8)], n_samples=4)
    assert few.check is None
    assert check_sentence(few) == ""


def test_what_a_reader_has_to_know_is_noted(report: LawReport) -> None:
    assert any("times the compute of the largest run" in note for note in notes(report))
    repeated = fit_family("repeated", [replace(one, train_tokens=1_000_000) for one in runs()], n_samples=2)
    assert any("reads the training text 4.0 times" in note for note in notes(repeated))


def test_a_limit_that_the_runs_do_not_show_is_noted() -> None:
    power = [replace(one, run=replace(one.run, loss=60 * one.run.parameters**-0.2)) for one in runs()]
    assert any("do not determine" in note for note in notes(fit_family("flat", power, n_samples=2)))


def test_a_run_that_diverged_is_named(report: LawReport) -> None:
    broken = [*runs()[:-1], replace(runs()[-1], run=replace(runs()[-1].run, loss=math.nan))]
    with pytest.raises(UserError, match=r"runs/400000-4000000: its loss is nan: the run diverged"):
        fit_family("broken", broken)


def test_everything_is_written(report: LawReport, tmp_path: Path) -> None:
    page = write_law_report(report, tmp_path / "law")
    names = {path.name for path in page.parent.iterdir()}
    assert names == {
        *("report.html", "law.json", "law.md", "fit.json"),
        *("loss-by-compute.svg", "loss-by-parameters.svg"),
    }
    figures = json.loads((tmp_path / "law/law.json").read_text())
    assert figures["law"]["size_exponent"]["value"] == report.fit.law.size_exponent
    assert len(figures["runs"]) == 9
    assert figures == json.loads(json.dumps(report.to_dict()))
    html = page.read_text()
    for title, _, rows in tables(report):
        assert title in html
        assert rows[0][0] in html
    assert "<script" not in html
