"""Progress: plain lines where there is no terminal, a bar where there is one, stdout left alone."""

from __future__ import annotations

import io
import re
import sys

import pytest

from parakit.common import progress as progress_module
from parakit.common.formatting import duration, quantity
from parakit.common.progress import log, progress


class Clock:
    """A clock that tests move by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


def test_plain_lines_come_every_few_seconds_and_at_the_end(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("train", total=100, unit="steps") as bar:
        for _ in range(100):
            clock.now += 0.25
            bar.advance(1, loss="1.23")
    out, err = capsys.readouterr()
    assert out == ""
    assert "\x1b" not in err
    assert err.splitlines() == [
        "train: 40/100 steps, 4 steps/s, loss 1.23, 15s left",
        "train: 80/100 steps, 4 steps/s, loss 1.23, 5s left",
        "train: 100/100 steps, 4 steps/s, loss 1.23, 25s",
    ]


def test_without_a_total_the_elapsed_time_is_printed(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("read", unit="documents") as bar:
        clock.now += 75
        bar.advance(3000)
    assert capsys.readouterr().err.splitlines()[-1] == "read: 3k documents, 40 documents/s, 1m15s"


def test_no_progress_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("train", total=0):
        pass
    assert capsys.readouterr() == ("", "")


def test_an_error_in_the_block_comes_out_unchanged() -> None:
    def attempt() -> None:
        with progress("train", total=3) as bar:
            bar.advance()
            raise RuntimeError("x")

    with pytest.raises(RuntimeError, match="x"):
        attempt()


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress("train", total=4, unit="steps") as bar:
        for _ in range(4):
            bar.advance(1, loss="2.00")
    shown = terminal.getvalue()
    assert "━" in shown
    assert re.search(r"train: 4/4 steps, .*loss 2\.00", shown.splitlines()[-1])


def test_log_lines_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    log("hello")
    assert capsys.readouterr() == ("", "hello\n")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0, "0"), (7, "7"), (999, "999"), (0.5, "0.5"), (999.4, "999"), (999.7, "1k"), (1000, "1k")),
        *(
            (1234567, "1.23M"),
            (999_499, "999k"),
            (999_999, "1M"),
            (999_999_999, "1G"),
            (2.5e12, "2.5T"),
            (-1500, "-1.5k"),
        ),
    ],
)
def test_quantities_are_short(value: float, text: str) -> None:
    assert quantity(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (75, "1m15s"), (3599.9, "1h00m"), (7380, "2h03m")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_slow_first_step_is_not_taken_for_the_pace(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """A compiler runs in it; told at its pace, the first lines would show hours."""
    with progress("train", total=100, unit="steps") as bar:
        clock.now += 60
        bar.advance(1)
        for _ in range(99):
            clock.now += 0.5
            bar.advance(1)
    first, *others = capsys.readouterr().err.splitlines()
    assert "left" not in first
    assert [line.rpartition(", ")[2] for line in others[:-1]] == [
        f"{seconds}s left" for seconds in (40, 30, 20, 10)
    ]
