"""The README's table comes from the result files and nothing else of the page changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.harness import report
from benchmarks.table import END, START, main, put_between_markers, read_results, table
from parakit.common.errors import UserError


def _result(**changes: object) -> dict:
    result = {
        "name": "speed",
        "figures": {
            "ratio": {"seconds": {"median": 0.31234, "low": 0.3, "high": 0.4, "n": 3}},
            "note": "x",
            "loss": 1.8,
        },
        "bar": {"ratio.seconds": "<= 0.333"},
        "holds": True,
        "hardware": {"processor": "Abacus", "cores": 2, "memory_gib": 24},
        "versions": {"torch": "2.13.0"},
        "commit": "abc",
        "date": "2026-11-22",
    }
    return result | changes


def test_a_row_for_each_figure_that_has_a_bar() -> None:
    lines = table([_result()]).splitlines()
    assert lines[2] == "| speed | ratio, seconds | 0.3123 (0.3 to 0.4, 3 runs) | <= 0.333 | yes |"
    assert lines[3:] == ["", "Measured on Abacus, 2 cores, 24 GiB, torch 2.13.0."]


def test_a_bar_that_names_the_median_shows_its_figure() -> None:
    assert table([_result(bar={"ratio.seconds.median": "<= 0.333"})]) == table([_result()])


def test_a_missed_bar_is_said_plainly_and_judged_anew() -> None:
    assert "| <= 0.3 | **no** |" in table([_result(bar={"ratio.seconds": "<= 0.3"}, holds=True)])


def test_a_result_without_a_bar_shows_its_figures() -> None:
    text = table(
        [_result(bar={}, holds=None, figures={"tokens_per_second": 12345.6, "texts": ["a"], "n": 3})]
    )
    assert "| speed | tokens per second | 12,346 |  |  |" in text
    assert "| speed | n | 3 |  |  |" in text


def test_a_comparison_without_a_bar_shows_its_ratios_only() -> None:
    text = table([_result(bar={}, holds=None)])
    assert "| speed | ratio, seconds | 0.3123" in text
    assert "loss" not in text


def test_no_results_is_said() -> None:
    assert table([]).startswith("No results yet")


def test_the_page_outside_the_markers_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"before\n{START}\nold\n{END}\nafter\n", encoding="utf-8")
    report("speed", {"seconds": 2}, {"seconds": "<= 3"}, results=tmp_path / "results")
    for _ in range(2):
        main(page, tmp_path / "results")
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"before\n{START}\n| benchmark |")
        assert text.endswith(f"\n{END}\nafter\n")
        assert "| speed | seconds | 2 | <= 3 | yes |" in text
        assert "\nold\n" not in text


def test_a_page_without_markers_is_refused_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="markers"):
        put_between_markers("text", "table")
    page = tmp_path / "README.md"
    page.write_text("text", encoding="utf-8")
    with pytest.raises(SystemExit, match="markers"):
        main(page, tmp_path)
    assert page.read_text(encoding="utf-8") == "text"


def test_a_result_that_lacks_a_key_is_named(tmp_path: Path) -> None:
    result = _result()
    del result["commit"]
    (tmp_path / "speed.json").write_text(json.dumps(result))
    with pytest.raises(UserError, match=r"speed\.json: has no commit"):
        read_results(tmp_path)
