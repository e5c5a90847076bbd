"""How many threads are fastest: with other work on the cores, threads that wait for each other are slower than fewer.

Small matrix products are timed, as those of a model: on two busy cores two threads were twenty times slower than one.

And freed memory stays with a process that trains: the C library gives large blocks back to the system as they are freed, and
takes them again a moment later with every page cleared, which is 5 to 9 % of the time of a step. Only of glibc.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import time
from collections.abc import Callable, Iterator

import torch

from parakit.common.progress import log

MIN_GAIN = 0.15  # by which another number has to be faster
N_ROUNDS, ROUND_SECONDS = 2, 0.1
N_ROWS, WIDTH_IN, WIDTH_OUT = 1024, 128, 256  # of a product
# glibc's malloc.h: from which size on blocks are mapped one by one; how much free memory at the end is given back
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
GATHERED_BLOCK = 2**20
ALWAYS_KEPT, LARGEST_BLOCK = 2**31 - 1, 2**30
USUAL_TRIM, USUAL_BLOCK = 2**17, 2**25  # the latter is what glibc raises its threshold to by itself


Rate = Callable[[int], float]
"""What a number of threads does in a second, in any unit."""


@contextlib.contextmanager
def fitted_threads() -> Iterator[int]:
    """The block begins with as many threads as are fastest now; yields how many there were, which there are again after
    it.
    """
    most = torch.get_num_threads()
    try:
        torch.set_num_threads(fastest(most, most))
        yield most
    finally:
        torch.set_num_threads(most)


def fastest(current: int, most: int, rate: Rate | None = None) -> int:
    """The fastest of `current` threads, half and twice as many, and on in that direction."""
    rate = rate or products_per_second
    rates: dict[int, float] = {}

    def gain(n: int, than: int) -> float:
        for _ in range(N_ROUNDS):  # in turn, since the other work changes
            for each in (n, than):
                rates[each] = max(rates.get(each, 0.0), rate(each))
        return rates[n] / rates[than]

    best = current
    for step in (lambda n: n // 2, lambda n: min(most, 2 * n)):
        while 1 <= step(best) != best and gain(step(best), best) > 1.0 + MIN_GAIN:
            best = step(best)
        if best != current:
            break
    if best != current:
        log(
            f"{best} of {most} threads: {rates[best] / rates[current]:.1f} times as fast as {current} at present"
        )
    return best


def products_per_second(n_threads: int) -> float:
    """Matrix products a second with so many threads, which are then set."""
    torch.set_num_threads(n_threads)
    a, b = torch.ones(N_ROWS, WIDTH_IN), torch.ones(WIDTH_IN, WIDTH_OUT)
    n, started, seconds = 0, time.perf_counter(), 0.0
    while seconds < ROUND_SECONDS:
        torch.relu_(a @ b)
        n, seconds = n + 1, time.perf_counter() - started
    return n / seconds


@contextlib.contextmanager
def kept_memory() -> Iterator[bool]:
    """Inside, freed memory is kept for the next tensors; after it, it is given back. Yields whether that could be set."""
    library = _glibc()
    done = library is not None and _set(library, ALWAYS_KEPT, LARGEST_BLOCK)
    try:
        yield done
    finally:
        if done and library is not None:
            _set(library, USUAL_TRIM, USUAL_BLOCK)
            library.malloc_trim(0)


@contextlib.contextmanager
def returned_memory() -> Iterator[bool]:
    """Inside, blocks from a MiB on are given back when they are freed, for weights that are gathered and dropped block by
    block: the heap would keep pieces of them. Yields whether that could be set.
    """
    library = _glibc()
    done = library is not None and _set(library, GATHERED_BLOCK, GATHERED_BLOCK)
    try:
        yield done
    finally:
        if done and library is not None:
            _set(library, USUAL_TRIM, USUAL_BLOCK)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None


def _set(library: ctypes.CDLL, trim: int, block: int) -> bool:
    return bool(library.mallopt(M_TRIM_THRESHOLD, trim)) and bool(library.mallopt(M_MMAP_THRESHOLD, block))
