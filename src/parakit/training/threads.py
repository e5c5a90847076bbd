"""How many threads are fastest: with other work on the cores, threads that wait for each other are slower than fewer.

`fitted_threads` chooses at the start, on small products as a model's; `ThreadTrials` goes on choosing on steps of the run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import torch

from parakit.common.progress import log

N_TRIED = 3  # units of a trial, of which the first is not counted
MIN_GAIN = 0.1  # by which other threads have to be faster
N_ROUNDS, ROUND_SECONDS = 3, 0.1


@contextlib.contextmanager
def fitted_threads(count: Callable[[int], float] | None = None) -> Iterator[int]:
    """The block runs with as many threads as are fastest now; yields how many there were. `count` measures a number of
    threads, in anything a second.
    """
    most = torch.get_num_threads()
    try:
        if (best := _fastest(most, count or _products_per_second)) != most:
            log(f"{best} of {most} threads, which is faster at present")
        yield most
    finally:
        torch.set_num_threads(most)


def _fastest(most: int, count: Callable[[int], float]) -> int:
    """Half the threads, or half of those, while that is faster; sets it."""
    best, rates = most, {most: 0.0}
    while best > 1:
        half = best // 2
        for _ in range(N_ROUNDS):
            for n in (best, half):
                rates[n] = max(rates.get(n, 0.0), count(n))
        if rates[half] < (1.0 + MIN_GAIN) * rates[best]:
            break
        best = half
    torch.set_num_threads(best)
    return best


def _products_per_second(n_threads: int) -> float:
    torch.set_num_threads(n_threads)
    a, b = torch.ones(1024, 128), torch.ones(128, 256)
    n, started = 0, time.perf_counter()
    while (seconds := time.perf_counter() - started) < ROUND_SECONDS:
        torch.relu_(a @ b).sum()
        n += 1
    return n / seconds


class ThreadTrials:
    """Tries half and twice the threads now and then, and keeps the fastest number. `current` 0: all of them. A trial
    begins `every` so many seconds, and takes `most_seconds`.
    """

    def __init__(self, most: int, current: int, every: float, most_seconds: float) -> None:
        self.most, self.current = most, current or most
        self.every, self.most_seconds = every, most_seconds
        self.pending: list[int] = []
        self.measured: dict[int, float] = {}
        self.seconds: list[float] = []
        self.last_trial = float("-inf")

    @property
    def trying(self) -> bool:
        """Whether a trial is going on."""
        return bool(self.pending)

    @property
    def recorded(self) -> int:
        """The present number of threads, for a revision."""
        now = self.pending[0] if self.pending else self.current
        return 0 if now == self.most else now

    def begin_trial(self, per_step: float, n_steps: int, now: float) -> None:
        """Begin a trial, if one is due and is cheap enough. `per_step`: seconds with the present number."""
        others = sorted({self.current // 2, min(self.most, 2 * self.current)} - {0, self.current})
        seconds = N_TRIED * len(others) * per_step * n_steps
        if not others or now - self.last_trial < self.every or seconds > self.most_seconds:
            return
        self.pending, self.measured, self.seconds = others, {self.current: per_step}, []

    def count(self, per_step: float, now: float) -> float | None:
        """Count a unit of the trial; after its last, the seconds of a step with the number that is new, if one is."""
        self.seconds.append(per_step)
        if len(self.seconds) < N_TRIED:
            return None
        counted, self.seconds = self.seconds[1:], []
        self.measured[self.pending.pop(0)] = sum(counted) / len(counted)
        if self.pending:
            return None
        self.last_trial = now
        before, best = self.measured[self.current], min(self.measured, key=self.measured.__getitem__)
        if self.measured[best] > (1.0 - MIN_GAIN) * before:
            return None
        log(
            f"{best} of {self.most} threads: {self.measured[best]:.2g} s a step, with {self.current} {before:.2g} s"
        )
        self.current = best
        return self.measured[best]
