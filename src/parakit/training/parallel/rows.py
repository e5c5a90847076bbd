"""Which rows of a step a process reads: a pure function of the step's rows and the process's number.

No sampler has a state. The rows of a step are the same for any number of processes, so a run resumes with another number
of them without a row twice or none at all.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RowRange:
    """The rows of one micro-batch. `counts` is False for a row that is another process's: it is read so that all processes
    take part in the same collectives, and its loss is multiplied by zero.
    """

    start: int
    n_rows: int
    counts: bool = True


def deal_rows(first: int, n_rows: int, micro_batch_size: int, index: int = 0, n: int = 1) -> list[RowRange]:
    """The micro-batches of process `index` of `n` in a step of `n_rows` rows from row `first` on. Every process gets a
    range of its own, and all get the same number of micro-batches.
    """
    start, end = first + index * n_rows // n, first + (index + 1) * n_rows // n
    most = max((i + 1) * n_rows // n - i * n_rows // n for i in range(n))
    ranges = []
    for begin in range(start, start + most, micro_batch_size):
        size = min(micro_batch_size, end - begin)
        ranges.append(RowRange(begin, size) if size > 0 else RowRange(first, 1, counts=False))
    return ranges
