"""The harness measures in turn, judges by the figures, and says what was measured where."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as front
from benchmarks.harness import figure_at, holds, interleaved, paired, report, run_process, summary


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
    ours = iter([{"seconds": 1.0, "loss": 2.0}, {"seconds": 2.0, "loss": 2.0}, {"seconds": 6.0, "loss": 2.0}])
    theirs = iter([{"seconds": 2.0}, {"seconds": 4.0}, {"seconds": 4.0}])
    result = paired(lambda: next(ours), lambda: next(theirs))
    assert result["ratio"] == {"seconds": {"median": 0.5, "low": 0.5, "high": 1.5, "n": 3}}
    assert result["ours"]["loss"]["median"] == 2.0


@pytest.mark.parametrize(
    ("bar", "verdict"),
    [
        ({}, None),
        ({"ratio.seconds": "<= 0.5"}, True),
        ({"ratio.seconds": "< 0.5"}, False),
        ({"loss": ">= 1.88", "ratio.seconds": "<= 1"}, False),
        ({"loss": "<=1.88"}, True),
        ({"loss": "> -1e-3"}, True),
    ],
)
def test_a_bar_is_judged_by_the_figures(bar: dict[str, str], verdict: bool | None) -> None:
    figures = {"loss": 1.87, "ratio": {"seconds": {"median": 0.5, "low": 0.4, "high": 0.9, "n": 3}}}
    assert holds(figures, bar) is verdict


def test_a_bar_for_nothing_or_in_no_known_form_is_an_error() -> None:
    with pytest.raises(KeyError, match="loss"):
        holds({}, {"loss": "<= 1"})
    with pytest.raises(ValueError, match="at most 1"):
        holds({"loss": 1.0}, {"loss": "at most 1"})
    with pytest.raises(KeyError):
        figure_at({"a": 1}, "a.b")


def test_a_report_is_written_and_printed_as_one_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = report("thing", {"seconds": 2.0}, {"seconds": "<= 3"}, results=tmp_path)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1
    assert json.loads(printed[0]) == json.loads((tmp_path / "thing.json").read_text()) == result
    assert list(result) == ["name", "figures", "bar", "holds", "hardware", "versions", "commit", "date"]
    assert result["holds"] is True


def test_a_process_is_measured_from_start_to_end() -> None:
    code = "import time; x = bytearray(60 << 20); time.sleep(0.2); print('noise'); print('[1]'); print('{}')"
    run = run_process([sys.executable, "-c", code], environment={"SOME": "thing"})
    assert run.figures == {}
    assert run_process([sys.executable, "-c", "print('x'); print('{\"a\": 1}')"]).figures == {"a": 1}
    assert run.seconds > 0.2
    assert run.peak_memory_mib > 60


def test_a_process_that_fails_or_hangs_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="status 3"):
        run_process([sys.executable, "-c", "print('why'); raise SystemExit(3)"])
    with pytest.raises(RuntimeError, match="status -9"):
        run_process([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.5)


def test_benchmarks_are_listed_and_a_wrong_name_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "baseline_char_gpt" in front.names()
    assert all(front.names().values())
    assert front.main(["baseline_chr_gpt"]) == 2
    assert "did you mean baseline_char_gpt?" in capsys.readouterr().err
    assert front.main([]) == 2
