"""glibc's allocator, as far as it decides where the next large tensor goes. Imports no torch.

Tensors are aligned to 64 bytes, for which glibc looks for a free piece of 112 bytes more than the tensor: the hole of a freed
tensor does not take another one of its size until a neighbour is free, too.
"""

from __future__ import annotations

from bisect import bisect_left, insort

ALIGNMENT, HEADER, LEAST_PIECE = 64, 16, 32  # bytes; glibc's malloc.c
MARGIN = ALIGNMENT + LEAST_PIECE + HEADER  # that an aligned request adds


class Heap:
    """Best fit with joined neighbours, as glibc's main arena; `high` is the most that it reached, in bytes."""

    def __init__(self) -> None:
        self.high = self.end = 0
        self._taken: dict[int, int] = {}  # of tensors: start -> bytes
        self._free: dict[int, int] = {}  # of pieces: start -> bytes
        self._ends: dict[int, int] = {}  # end -> start
        self._sizes: list[tuple[int, int]] = []  # bytes and start, ascending

    def take(self, n_bytes: int) -> int:
        """The place of a new tensor."""
        size = -(-(n_bytes + HEADER) // HEADER) * HEADER
        needed = size + MARGIN
        at = bisect_left(self._sizes, (needed, -1))
        if at < len(self._sizes):
            length, start = self._sizes[at]
            self._remove(start)
        else:
            length, start = needed, self.end
            self.end += needed
            self.high = max(self.high, self.end)
        lead = -(start + HEADER) % ALIGNMENT
        lead += ALIGNMENT if 0 < lead < LEAST_PIECE else 0
        place = start + lead
        self._taken[place] = size
        self._join(place + size, length - lead - size)
        self._join(start, lead)
        return place

    def copy(self, place: int) -> int:
        """The place of a tensor of the same size."""
        return self.take(self._taken[place] - HEADER)

    def drop(self, place: int) -> None:
        """Free a tensor."""
        self._join(place, self._taken.pop(place))

    def _join(self, start: int, size: int) -> None:
        if size <= 0:
            return
        if start + size in self._free:
            size += self._remove(start + size)
        if start in self._ends:
            start = self._ends[start]
            size += self._remove(start)
        if start + size == self.end:
            self.end = start
            return
        self._free[start], self._ends[start + size] = size, start
        insort(self._sizes, (size, start))

    def _remove(self, start: int) -> int:
        size = self._free.pop(start)
        del self._ends[start + size]
        self._sizes.pop(bisect_left(self._sizes, (size, start)))
        return size
