"""The report of a sweep: means against scipy, tables that parse, pictures whose points are where they belong."""

from __future__ import annotations

import csv
import io
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from parakit.reports.point_plot import PlottedPoint, PointPlot, Series, axis_scale, draw_points
from parakit.reports.sweeps.figures import Figure, Mean, RunResult, SweepResults
from parakit.reports.sweeps.page import write_sweep_report
from parakit.reports.sweeps.pictures import picture, pictures
from parakit.reports.sweeps.tables import comma_separated, headline_tables, latex, markdown, with_interval

BITS, RIGHT = Figure("bits per byte", "base", "bits per byte"), Figure("a_b & <c> | 50%", "tuned", "share")
VALUES = {0: {3: 1.1, 4: 1.2, 5: 1.15}, 1: {3: 0.9, 4: 0.94, 5: 0.93}}
SVG = "{http://www.w3.org/2000/svg}"


def sweep(settings=({"size": "1m", "x.y": 0.01}, {"size": "2m", "x.y": 0.02}), failed=()) -> SweepResults:
    runs = []
    for setting in range(len(settings)):
        for seed, bits in VALUES[setting].items():
            figures = {BITS: bits, RIGHT: bits / 4}
            if (setting, seed) in failed:
                runs.append(RunResult(f"r{setting}-{seed}", setting, seed, "failed", "out of <memory>"))
            else:
                runs.append(
                    RunResult(
                        **{"name": f"r{setting}-{seed}", "setting": setting, "seed": seed, "status": "done"},
                        **{"seconds": 3.0, "parameters": 1_000_000 * (setting + 1), "figures": figures},
                        **{"headlines": [BITS, RIGHT], "chance": {RIGHT: 0.25}},
                    )
                )
    labels = [" ".join(map(str, values.values())) for values in settings]
    return SweepResults("mine", list(settings[0]), settings, labels, (3, 4, 5), runs)


def test_the_interval_is_that_of_the_mean_over_the_seeds_that_are_there():
    stats = pytest.importorskip("scipy.stats")
    found = sweep().mean(0, BITS)
    values = list(VALUES[0].values())
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (found.n, found.mean, found.low, found.high) == pytest.approx(
        (3, np.mean(values), low, high), rel=1e-3
    )
    fewer = sweep(failed=[(0, 3), (0, 4)]).mean(0, BITS)
    assert (fewer.n, fewer.mean, fewer.half) == (1, 1.15, None)
    assert sweep(failed=[(0, seed) for seed in (3, 4, 5)]).mean(0, BITS) is None


@pytest.mark.parametrize(
    ("mean", "half", "unit", "written"),
    [
        (1.23456, 0.0345, "bits per byte", "1.235 ± 0.034"),
        (0.81234, 0.0123, "share", "81.2 ± 1.2"),
        (0.81234, 0.0002, "share", "81.23 ± 0.02"),
        (812.34, 45.0, "number", "812 ± 45"),
        (0.5, 0.0, "share", "50.0 ± 0.0"),
        (1.5, None, "nats per token", "1.500"),
        (0.5, None, "share", "50.0"),
    ],
)
def test_a_mean_has_as_many_digits_as_its_interval_allows(mean, half, unit, written):
    width = math.inf if half is None else half
    assert with_interval(Mean(3, mean, mean - width, mean + width), unit) == written


def test_tables_have_a_row_for_each_setting_and_say_how_many_runs_they_are_of():
    (heading, rows) = headline_tables(sweep(failed=[(1, 3)]))[0]
    assert heading == ["size", "y", "bits per byte (base)", "a_b & <c> | 50% (tuned), %", "seeds"]
    assert [row[:2] for row in rows] == [["1m", "0.01"], ["2m", "0.02"]]
    assert [row[-1] for row in rows] == ["3", "2"]
    for text in markdown(sweep()).split("\n\n"):
        if text.startswith("|"):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines()}) == 1
    assert "1 of 6 runs failed" in markdown(sweep(failed=[(1, 3)]))


def test_latex_is_escaped_and_every_row_has_its_columns():
    text = latex(sweep())
    assert "a\\_b \\& <c> | 50\\% (tuned), \\%" in text
    for table in text.split("\\begin{table}")[1:]:
        columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", table)[1]
        rows = table.split("\\toprule")[1].split("\\bottomrule")[0].replace("\\midrule", "").strip()
        for row in rows.splitlines():
            if row:
                assert row.endswith("\\\\")
                assert len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1
        assert table.count("{") == table.count("}")
        assert "$\\pm$" in table


def test_the_csv_has_every_value_unrounded():
    rows = list(csv.DictReader(io.StringIO(comma_separated(sweep(failed=[(1, 3)])))))
    assert len(rows) == 4
    assert [rows[0][f"seed_{seed}"] for seed in (3, 4, 5)] == ["1.1", "1.2", "1.15"]
    assert (rows[2]["seed_3"], rows[2]["n"], rows[2]["x.y"]) == ("", "2", "0.02")
    assert float(rows[0]["mean"]) == pytest.approx(1.15)


def points_of(text: str) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Dots, and of each whisker both ends, in pixels."""
    root = ElementTree.fromstring(text)
    groups = list(root.iter(f"{SVG}g"))
    dots = [(float(c.get("cx")), float(c.get("cy"))) for group in groups for c in group.iter(f"{SVG}circle")]
    paths = [path.get("d") for group in groups for path in group.iter(f"{SVG}path")]
    ends = [re.match(r"M[\d.]+ ([\d.]+)V([\d.]+)", path) for path in paths]
    return dots, [(float(end[1]), float(end[2])) for end in ends if end]


def test_points_are_where_their_values_are():
    series = [
        Series(
            "",
            [PlottedPoint(10, 0.2, 0.1, 0.3), PlottedPoint(100, 0.4, 0.3, 0.5), PlottedPoint(1000, 0.8)],
            chance=0.25,
        )
    ]
    text = draw_points(PointPlot("a < b & c", "parameters", "score", series, percent=True))
    dots, ends = points_of(text)
    x, y = zip(*dots, strict=True)
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.02)  # by powers
    per_unit = (y[0] - y[2]) / 0.6
    assert y[0] - y[1] == pytest.approx(0.2 * per_unit, abs=0.02)
    assert len(ends) == 2  # one has no interval
    assert ends[0] == pytest.approx((y[0] + 0.1 * per_unit, y[0] - 0.1 * per_unit), abs=0.02)
    assert "a &lt; b &amp; c" in text
    assert "guessing" in text
    assert draw_points(PointPlot("a < b & c", "parameters", "score", series, percent=True)) == text


def test_an_axis_is_divided_by_powers_where_its_numbers_span_some():
    assert axis_scale([1, 4]) == "log"
    assert axis_scale([1, 3]) == axis_scale([0, 8]) == axis_scale([5]) == "linear"
    assert axis_scale([0, 1], words=True) == "words"


def test_one_point_and_equal_points_are_drawn():
    for values in ([0.0], [0.5, 0.5], [0.0, 0.0]):
        plot = PointPlot(
            "t",
            "x",
            "y",
            [Series("s", [PlottedPoint(i, value, value, value) for i, value in enumerate(values)])],
        )
        dots, _ = points_of(draw_points(plot))
        assert all(math.isfinite(place) for dot in dots for place in dot)


def test_a_sweep_is_drawn_against_its_values(tmp_path):
    results = sweep()
    plot = picture(results, BITS, "x.y")
    assert [[point.x for point in one.points] for one in plot.series] == [
        [0.01],
        [0.02],
    ]  # a line for each size
    assert [point.x for point in picture(results, BITS, "size").series[0].points] == [1e6]
    assert set(pictures(results)) == {"bits-per-byte-base.svg", "a-b----c----50--tuned.svg"}
    assert pictures(sweep(settings=({},))) == {}
    page = write_sweep_report(sweep(failed=[(0, 3)]), tmp_path, "runs").read_text()
    assert "out of &lt;memory&gt;" in page
    assert "a_b &amp; &lt;c&gt; | 50%" in page
    assert 'href="../runs/r0-4/report.html"' in page
    assert page.count("<svg") == 2
    assert {path.name for path in tmp_path.iterdir()} == {
        *("report.html", "results.json", "table.md", "table.tex", "table.csv"),
        *("bits-per-byte-base.svg", "a-b----c----50--tuned.svg"),
    }
