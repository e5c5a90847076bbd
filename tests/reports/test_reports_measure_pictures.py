"""Pictures of measures: what they show, the same bytes for the same result, and what has no picture."""

from __future__ import annotations

import dataclasses
import json
from xml.etree import ElementTree

import pytest

from parakit.common.errors import UserError
from parakit.evaluation.results import Item, Protocol, Score, summarize_items, write_items
from parakit.reports.measure_pictures import write_picture

PROTOCOL = Protocol("task", "1", "parakit 1", "", "")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def evaluation(tmp_path):
    answers = [
        Item(str(i), "", "", "", {"confidence": 0.05 + i / 10, "accuracy": float(i > 4)}) for i in range(10)
    ]
    needles = [
        Item(f"{length}/{depth}", "", "", "", {"found": float(depth == 0)}, f"{length:>6} tokens, {depth:>3} %")
        for length in (256, 512) for depth in (0, 50, 100)
    ]  # fmt: skip
    calibration = summarize_items(PROTOCOL, answers, "accuracy")
    calibration = dataclasses.replace(
        calibration, scores={**calibration.scores, "ece": Score(0.25, 0.1, 0.4, 10)}
    )
    results = {"calibration": calibration, "needle": summarize_items(PROTOCOL, needles, "found")}
    results["bias"] = results["needle"]
    for name, result in results.items():
        write_items(tmp_path, name, result.items)
    plain = {name: result.without_items() for name, result in results.items()}
    (tmp_path / "results.json").write_text(json.dumps({"benchmarks": plain}))
    return tmp_path


def test_a_bar_for_each_bin_is_as_high_as_its_accuracy(evaluation):
    path = write_picture(evaluation, "calibration", evaluation / "a.svg")
    bars = [one for one in ElementTree.parse(path).getroot().iter(f"{SVG}rect") if one.get("fill-opacity")]
    assert [float(bar.get("height")) for bar in bars] == [0.0] * 5 + [400.0] * 5
    again = write_picture(evaluation, "calibration", evaluation / "b.svg")
    assert path.read_bytes() == again.read_bytes()
    assert "ECE 0.250 (0.100 to 0.400), 10 answers" in path.read_text()


def test_a_cell_for_each_length_and_depth(evaluation):
    root = ElementTree.parse(write_picture(evaluation, "needle", evaluation / "a.svg")).getroot()
    texts = [one.text for one in root.iter(f"{SVG}text")]
    assert texts[:7] == ["256", "0 %", "100", "50 %", "0", "100 %", "0"]
    assert texts.count("100") == 2


def test_what_has_no_picture_is_named(evaluation):
    with pytest.raises(UserError, match="bias has no picture"):
        write_picture(evaluation, "bias", evaluation / "a.svg")
    with pytest.raises(UserError, match="no result of mmlu"):
        write_picture(evaluation, "mmlu", evaluation / "a.svg")
