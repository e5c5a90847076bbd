"""Progress: a live bar on a terminal, a plain line every few seconds elsewhere.

Everything goes to stderr, so that stdout is free for `--json` and for generated text. Only this module, `cli/` and
`reports/` print. Of a run of several processes the first prints, the others are silent.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from parakit.common.formatting import duration, quantity
from parakit.common.processes import is_first

PLAIN_LINE_SECONDS = 10.0
OnProgress = Callable[[int], object]
"""Called with the number of units that were finished since the last call."""


def log(text: str = "") -> None:
    """Print one line to stderr."""
    if is_first():
        print(text, file=sys.stderr, flush=True)


class Bar:
    """A running count with its rate, the time left and the caller's figures."""

    def __init__(self, name: str, total: float | None, unit: str) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done = self.done_before = 0.0
        self.first: tuple[float, float] | None = None  # count and time after the first step
        self.figures: dict[str, str] = {}
        self.started = time.monotonic()

    def advance(self, amount: float = 1, **figures: str) -> None:
        """Count `amount` more units; `figures` such as loss="1.23" follow the count."""
        self.done += amount
        self.first = self.first or (self.done, time.monotonic())
        self.figures.update(figures)
        self._show()

    def expect(self, amount: float) -> None:
        """Add `amount` units to the total."""
        self.total = (self.total or 0.0) + amount

    def resume_at(self, done: float) -> None:
        """Start with `done` units of an earlier run, which do not enter the rate."""
        self.done = self.done_before = done

    def line(self) -> str:
        """The state as one line of text."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        rate = (self.done - self.done_before) / seconds
        parts = [
            f"{self.name}: {quantity(self.done)}"
            + (f"/{quantity(self.total)}" if self.total else "")
            + f" {self.unit}"
        ]
        parts.append(f"{quantity(rate)} {self.unit}/s")
        parts += [f"{key} {value}" for key, value in self.figures.items()]
        if self.total and self.done < self.total:
            if steady := self._steady_rate():
                parts.append(f"{duration((self.total - self.done) / steady)} left")
        elif self.total is None or self.done >= self.total:
            parts.append(f"{duration(seconds)}")
        return ", ".join(parts)

    def _steady_rate(self) -> float:
        """Units a second since the first step, which may include compilation; 0: not known yet."""
        done, since = self.first or (0.0, 0.0)
        return (self.done - done) / max(time.monotonic() - since, 1e-9) if self.done > done else 0.0

    def _show(self) -> None:
        """Draw the bar; subclasses override it."""


class _PlainBar(Bar):
    shown_at = 0.0

    def _show(self) -> None:
        now = time.monotonic()
        if now - max(self.shown_at, self.started) >= PLAIN_LINE_SECONDS:
            self.shown_at = now
            log(self.line())


@contextlib.contextmanager
def progress(name: str, total: float | None = None, unit: str = "steps") -> Iterator[Bar]:
    """Show progress during the block. The last state stays visible as one line of text."""
    if sys.stderr.isatty() and is_first():
        with _live_bar(name, total, unit) as bar:
            yield bar
    else:
        bar = _PlainBar(name, total, unit)
        yield bar
    if bar.done:
        log(bar.line())


@contextlib.contextmanager
def _live_bar(name: str, total: float | None, unit: str) -> Iterator[Bar]:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(stderr=True), refresh_per_second=8, transient=True) as live:

        class LiveBar(Bar):
            def _show(self) -> None:
                share = min(self.done / self.total, 1.0) if self.total else 0.0
                filled = round(24 * share)
                live.update(
                    Text.assemble(
                        (("━" * filled), "green"), (("━" * (24 - filled)), "bright_black"), " ", self.line()
                    )
                )

        yield LiveBar(name, total, unit)
