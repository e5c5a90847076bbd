"""The charts place what was measured where it belongs, and figures read well."""

import math
import re

import numpy as np
import pytest
from report_sample import curve, full_summary, parsed, rendered

from parakit.common.formatting import byte_size, compact, long_duration, number, percent
from parakit.reports.charts import lineage_drawing, slices, ticks, training_plots
from parakit.reports.summary_schema import LineageEntry, TrainingSummary


def test_figures_that_are_not_finite_are_left_out_of_curves():
    figures = full_summary()["stages"]["pretrain"]
    figures["metrics"][3]["loss"] = math.nan
    figures["metrics"][4]["loss"] = math.inf
    assert not any(
        "nan" in curve.path + curve.band or "inf" in curve.path
        for plot in training_plots(TrainingSummary.model_validate(figures))
        for curve in plot.curves
    )


def test_a_long_run_is_drawn_with_few_points():
    metrics = curve(20_000, 8.0, 1.0, 7.0, 512)
    [loss, *_] = training_plots(TrainingSummary(metrics=metrics))
    assert loss.curves[0].path.count("L") < 300
    assert loss.curves[0].band.endswith("Z")
    assert len(rendered(full_summary())) < 300_000


def test_the_part_of_the_loss_that_moves_has_an_axis_of_its_own():
    """Of a run that falls from 9 to 3 at once and then to 2.9, the first plot shows 3 to 2.9, the second all of it."""
    steps = [{"tokens": 100 * (i + 1), "loss": 9.0 if i == 0 else 3.0 - 0.001 * i} for i in range(100)]
    held_out = [{"tokens": 5000, "loss": 3.1}, {"tokens": 10_000, "loss": 3.0}]
    late, whole, *_ = training_plots(TrainingSummary(metrics=steps, validations=held_out))
    assert (late.title, whole.title) == ("Loss", "Loss, whole run")
    shown = [float(label) for _, label in late.y_ticks]
    assert 2.8 <= shown[0] <= 2.901
    assert 3.1 <= shown[-1] <= 3.3
    assert float(whole.y_ticks[-1][1]) >= 9
    assert [label for _, label in whole.x_ticks] == ["100", "1 k", "10 k"]
    np.testing.assert_allclose([place for place, _ in whole.x_ticks], [0, 50, 100], atol=0.01)
    for line in (*late.curves, *whole.curves):
        places = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.-]+)", line.path)]
        assert all(-0.1 <= y <= 1000.1 for y in places)


def test_a_run_whose_loss_falls_evenly_has_one_plot():
    steps = [{"tokens": 100 * (i + 1), "loss": 5.0 - 0.01 * i} for i in range(100)]
    titles = [plot.title for plot in training_plots(TrainingSummary(metrics=steps))]
    assert titles == ["Loss"]


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (1.2, 8.4), (0, 0.0031), (5, 5), (0, 0), (-3, 1e9), (1e-9, 2e-9)]
)
def test_ticks_are_round_and_enclose_the_values(low, high):
    found = ticks(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    assert 2 <= len(found) <= 7
    assert len(set(found)) == len(found)


def test_slices_add_up():
    pieces = slices({"a": 1, "b": 3}, number)
    assert [(p.start, p.share) for p in pieces] == [(0, 25), (25, 75)]
    assert slices({"a": 0}, number)[0].share == 0


def test_children_are_right_of_their_parents_and_a_cycle_does_not_hang():
    drawing = lineage_drawing(parsed(full_summary()).lineage)
    x = {node.stage: node.x for node in drawing.nodes}
    assert x["corpus"] < x["tokenizer"] < x["shards"] < x["pretrain"] < x["finetune"] < x["evaluate"]
    assert x["conversations"] < x["conversation shards"] < x["finetune"]
    places = [(node.x, node.y) for node in drawing.nodes]
    assert len(set(places)) == len(places)
    cycle = [("a", "b"), ("b", "a")]
    assert lineage_drawing([LineageEntry(stage=d, kind="model", digest=d, parents=(p,)) for d, p in cycle])


def test_figures_read_well():
    assert [number(v) for v in (12345, 0.61321, 1234.5, 3.0, None, math.nan, True)] == [
        "12,345",
        "0.613",
        "1,234",
        "3",
        "–",
        "–",
        "–",
    ]
    assert [compact(v) for v in (4_982_016, 999_999, 15_412, 12, 8.1e13)] == [
        "4.98 M",
        "1.00 M",
        "15.4 k",
        "12",
        "81.0 T",
    ]
    assert [byte_size(v) for v in (9_812_442, 512, 1500)] == ["9.81 MB", "512 bytes", "1.50 kB"]
    assert [long_duration(v) for v in (0.34, 42, 60, 402, 7325)] == [
        "0.3 s",
        "42 s",
        "1 min",
        "6 min 42 s",
        "2 h 2 min",
    ]
    assert percent(0.8741) == "87.4 %"
