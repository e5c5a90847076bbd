"""docs/benchmarks.md and the README's rows come from the result files, and nothing else of a page changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import registry
from benchmarks.harness import RESULTS, ROOT
from benchmarks.results_page import END, START, main, page, put_between_markers, read_results, readme_rows
from parakit.common.errors import UserError


def _result(name: str = "tokenizer", **changes: object) -> dict:
    result = {
        "name": name,
        "figures": {
            "train": {"ratio": {"seconds": {"median": 0.31234, "low": 0.3, "high": 0.4, "n": 3}}},
            "encode": {"speedup": {"median": 2.5, "low": 2.5, "high": 2.5, "n": 1}, "n_different": 0},
            "note": "x",
        },
        "target": {"train.ratio.seconds": "<= 1.2"},
        "met": True,
        "hardware": {"processor": "Abacus", "cores": 2, "memory_gib": 24},
        "versions": {"torch": "2.13.0"},
        "commit": "abc",
        "date": "2026-11-22",
    }
    return result | changes


def test_the_page_has_a_row_in_words_for_each_target_and_begins_with_what_is_missed() -> None:
    text = page({"tokenizer": _result()})
    missed, _, grouped = text.partition("## How good")
    speedup = "| megabytes a second of bulk encoding over those of tokenizers | 2.5 (1 run) | >= 3 | **no** |"
    assert "| tokenizer " + speedup in missed
    assert speedup in grouped
    assert "| 0.3123 (0.3 to 0.4, 3 runs) | <= 1.2 | yes |" in grouped
    assert "0.3123" not in missed
    assert "Measured on 2026-11-22 on Abacus, 2 cores, 24 GiB, torch 2.13.0." in grouped


def test_targets_are_judged_again_and_a_missing_figure_is_named() -> None:
    text = page({"tokenizer": _result(figures={"encode": {"speedup": 1.0}}, met=True)})
    assert "| 1 | >= 3 | **no** |" in text
    assert "| documents whose ids differ | not measured | == 0 |  |" in text


def test_the_pages_of_the_project_are_those_that_the_results_give() -> None:
    results = read_results(RESULTS)
    assert set(results) <= set(registry.listings())
    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8") == page(results)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert put_between_markers(readme, readme_rows(results)) == readme
    assert len(readme_rows(results).splitlines()) == 12


def test_a_page_outside_the_markers_stays(tmp_path: Path) -> None:
    readme, target = tmp_path / "README.md", tmp_path / "benchmarks.md"
    readme.write_text(f"before\n{START}\nold\n{END}\nafter\n", encoding="utf-8")
    for _ in range(2):
        main(readme, target)
        text = readme.read_text(encoding="utf-8")
        assert text.startswith(f"before\n{START}\n| benchmark |")
        assert text.endswith(f"\n{END}\nafter\n")
        assert "\nold\n" not in text
    assert target.read_text(encoding="utf-8").startswith("# Benchmarks")


def test_a_page_without_markers_is_refused_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="markers"):
        put_between_markers("text", "table")
    readme = tmp_path / "README.md"
    readme.write_text("text", encoding="utf-8")
    with pytest.raises(SystemExit, match="markers"):
        main(readme, tmp_path / "benchmarks.md")
    assert readme.read_text(encoding="utf-8") == "text"


def test_a_result_that_lacks_a_key_or_a_row_of_the_readme_is_named(tmp_path: Path) -> None:
    result = _result()
    del result["commit"]
    (tmp_path / "speed.json").write_text(json.dumps(result))
    with pytest.raises(UserError, match=r"speed\.json: has no commit"):
        read_results(tmp_path)
    with pytest.raises(UserError, match="quickstart: minutes_from_clone"):
        readme_rows({})
