"""The harness measures in turn, judges by the figures, and says what was measured where."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as front
from benchmarks import registry
from benchmarks.harness import interleaved, kept_or_measured, paired, report, run_process, summary
from benchmarks.registry import NO_TARGET, all_met, rows


def test_a_summary_holds_median_and_spread() -> None:
    assert summary([3.0, 1.0, 10.0]) == {"median": 3.0, "low": 1.0, "high": 10.0, "n": 3}
    with pytest.raises(ValueError, match="nothing"):
        summary([])


def test_sides_take_turns_and_the_order_turns_round_each_time() -> None:
    order: list[str] = []

    def side(name: str, values: list[float]):
        def run() -> dict[str, float]:
            order.append(name)
            return {"seconds": values.pop(0)}

        return run

    result = interleaved({"a": side("a", [1, 2, 9]), "b": side("b", [4, 5, 6])})
    assert "".join(order) == "abbaab"
    assert result["a"]["seconds"] == {"median": 2.0, "low": 1.0, "high": 9.0, "n": 3}
    assert result["b"]["seconds"]["median"] == 5.0


def test_a_pair_is_compared_round_by_round() -> None:
    actual = iter(
        [{"seconds": 1.0, "loss": 2.0}, {"seconds": 2.0, "loss": 2.0}, {"seconds": 6.0, "loss": 2.0}]
    )
    reference = iter([{"seconds": 2.0}, {"seconds": 4.0}, {"seconds": 4.0}])
    result = paired(lambda: next(actual), lambda: next(reference))
    assert result["ratio"] == {"seconds": {"median": 0.5, "low": 0.5, "high": 1.5, "n": 3}}
    assert result["parakit"]["loss"]["median"] == 2.0


@pytest.mark.parametrize(
    ("targets", "met"),
    [
        ({}, None),
        ({"loss": NO_TARGET}, None),
        ({"ratio.seconds": "<= 0.5"}, True),
        ({"ratio.seconds": "< 0.5"}, False),
        ({"loss": ">= 1.88", "ratio.seconds": "<= 1"}, False),
        ({"loss": "<=1.88", "ratio.seconds": NO_TARGET}, True),
        ({"loss": "> -1e-3"}, True),
        ({"loss": "<= 2", "absent": "<= 1"}, None),
        ({"loss": "<= 1", "absent": "<= 1"}, False),
    ],
)
def test_targets_are_judged_by_the_figures(targets: dict[str, str], met: bool | None) -> None:
    figures = {"loss": 1.87, "ratio": {"seconds": {"median": 0.5, "low": 0.4, "high": 0.9, "n": 3}}}
    assert all_met(rows(figures, {path: (limit, path) for path, limit in targets.items()})) is met


def test_a_star_stands_for_any_one_part_of_a_path_and_is_put_into_the_words() -> None:
    figures = {
        "a_b": {"loss": 1, "deep": {"loss": 4}},
        "c": {"loss": 3},
        "loss": 5,
        "text": "x",
        "flag": True,
    }
    found = rows(figures, {"*.loss": ("<= 2", "{0}: loss"), "*.none": ("<= 2", "{0}: none")})
    shown = [(row.path, row.words, row.met) for row in found]
    assert shown == [
        ("a_b.loss", "a b: loss", True),
        ("c.loss", "c: loss", False),
        ("*.none", "{0}: none", None),
    ]


def test_a_figure_is_judged_once_by_the_first_target_that_names_it():
    found = rows(
        {"a": {"loss": 3.0}, "b": {"loss": 1.0}}, {"a.loss": ("<= 2", "a"), "*.loss": ("", "{0}: loss")}
    )
    assert [(row.path, row.limit, row.met) for row in found] == [
        ("a.loss", "<= 2", False),
        ("b.loss", "", None),
    ]


def test_a_target_in_no_known_form_is_an_error() -> None:
    with pytest.raises(ValueError, match="at most 1"):
        rows({"loss": 1.0}, {"loss": ("at most 1", "loss")})


def test_what_is_kept_is_not_measured_again(tmp_path: Path) -> None:
    runs: list[int] = []

    def measure() -> dict[str, int]:
        runs.append(1)
        return {"n": len(runs)}

    path = tmp_path / "seeds" / "one.json"
    assert kept_or_measured(path, measure) == kept_or_measured(path, measure) == {"n": 1}
    assert kept_or_measured(None, measure) == {"n": 2}


def test_a_report_is_written_and_printed_as_one_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = report("thing", {"seconds": 2.0}, {"seconds": ("<= 3", "seconds")}, results=tmp_path)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1
    assert json.loads(printed[0]) == json.loads((tmp_path / "thing.json").read_text()) == result
    assert list(result) == ["name", "figures", "target", "met", "hardware", "versions", "commit", "date"]
    assert result["met"] is True
    assert result["target"] == {"seconds": "<= 3"}


def test_a_process_is_measured_from_start_to_end() -> None:
    code = "import time; x = bytearray(60 << 20); time.sleep(0.2); print('noise'); print('[1]'); print('{}')"
    run = run_process([sys.executable, "-c", code], environment={"SOME": "thing"})
    assert run.figures == {}
    assert run_process([sys.executable, "-c", "print('x'); print('{\"a\": 1}')"]).figures == {"a": 1}
    assert run.seconds > 0.2
    assert run.peak_memory_mib > 60


def test_memory_of_who_measures_is_not_counted() -> None:
    held = np.ones(
        25_000_000
    )  # 200 MB, which Linux would count into the peak of a program that is started from here
    assert run_process([sys.executable, "-c", "pass"]).peak_memory_mib < 100
    assert held.all()


def test_a_process_that_fails_or_hangs_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="status 3"):
        run_process([sys.executable, "-c", "print('why'); raise SystemExit(3)"])
    with pytest.raises(RuntimeError, match="status -9"):
        run_process([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.5)


def test_benchmarks_are_listed_and_a_wrong_name_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    listings = registry.listings()
    assert {one.group for one in listings.values()} == set(registry.GROUPS)
    assert all(one.summary for one in listings.values())
    assert front.main(["quickstrat"]) == 2
    assert "did you mean quickstart?" in capsys.readouterr().err
    assert front.main([]) == 2
    printed = capsys.readouterr().err
    assert all(name in printed for name in listings)


@pytest.mark.parametrize("name", registry.listings())
def test_every_benchmark_can_be_loaded_and_explains_its_options(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = registry.load(name)
    assert benchmark.targets
    with pytest.raises(SystemExit) as stopped:
        front.main([name, "--help"])
    assert stopped.value.code == 0
    assert f"make bench NAME={name}" in capsys.readouterr().out
