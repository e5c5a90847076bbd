"""What both sides of `against_trl` have in common: what GRPO is paid for, and how time is taken. Imports nothing of
either.
"""

from __future__ import annotations

import time

WANTED_WORDS = 12
# Sixteenths and their means are exact in float32. Twelfths are not: where all rewards of a group are equal, trl's advantages
# are then the rounding of their mean over a deviation of 1e-4, up to 6e-4, where they should be 0.
FOR_A_WORD = 1 / 16


def near_twelve_words(completion: str) -> float:
    """0 for a completion of twelve words, and less by a sixteenth for each word more or fewer."""
    return -abs(len(completion.split()) - WANTED_WORDS) * FOR_A_WORD


class Clock:
    """When steps ended, on the wall and in processor time, which other work on the machine hardly touches."""

    def __init__(self) -> None:
        self.ended: list[tuple[float, float]] = []

    def step_ended(self) -> None:
        """Note the moment."""
        self.ended.append((time.perf_counter(), time.process_time()))

    def speed(self, n_rows: int) -> dict[str, float]:
        """Rows a second after the first step, where each step takes `n_rows`."""
        n = (len(self.ended) - 1) * n_rows
        wall, processor = (last - first for first, last in zip(self.ended[0], self.ended[-1], strict=True))
        return {"rows_per_second": n / wall, "rows_per_processor_second": n / processor}
