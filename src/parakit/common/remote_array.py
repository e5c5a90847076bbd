"""A one-dimensional array in a file on object storage, read by range as its values are used.

Blocks that were fetched stay in a cache of bounded size, and all that one access lacks are fetched at once. What numpy
makes of the whole (`np.asarray`) reads it all.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import numpy as np

from parakit.common.remote import read_range

BLOCK_BYTES, MAX_BLOCKS = 2**16, 2**10  # 64 MiB of cache
_FETCHED_AT_ONCE = 256


class RemoteArray:
    """`n` values of `dtype` in the file at `url`; indexed by integers, slices, integer arrays and masks."""

    ndim = 1

    def __init__(self, url: str, dtype: str, n: int) -> None:
        self.url, self.dtype, self.shape = url, np.dtype(dtype), (n,)
        self.n_fetched = 0
        self._per_block = BLOCK_BYTES // self.dtype.itemsize
        self._blocks: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteArray, (self.url, self.dtype.str, len(self))

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """The number of values."""
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return self._slice(start, max(start, stop))
            index = np.arange(start, stop, step)
        places = np.asarray(index)
        if places.dtype == bool:
            places = np.flatnonzero(places)
        if places.size and not (-len(self) <= places.min() and places.max() < len(self)):
            raise IndexError(f"index {places.min()} to {places.max()} of an array of {len(self)} values")
        return self._gather(places % max(1, len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        n_bytes = len(self) * self.dtype.itemsize
        content = read_range(self.url, [(0, n_bytes)])[0] if n_bytes else b""
        values = np.frombuffer(content, self.dtype)
        return values if dtype is None else values.astype(dtype)

    def _slice(self, start: int, stop: int) -> np.ndarray:
        first, last = start // self._per_block, -(-stop // self._per_block)
        if last - first > _FETCHED_AT_ONCE:  # of no use in the cache
            size = self.dtype.itemsize
            return np.frombuffer(read_range(self.url, [(start * size, stop * size)])[0], self.dtype)
        blocks = self._fetch(np.arange(first, last))
        whole = np.concatenate([np.zeros(0, self.dtype), *(blocks[number] for number in range(first, last))])
        return whole[start - first * self._per_block : stop - first * self._per_block]

    def _gather(self, places: np.ndarray) -> Any:
        out = np.empty(places.shape, self.dtype)
        flat, filled = places.ravel(), out.reshape(-1)
        number_of = flat // self._per_block
        numbers = np.unique(number_of)
        for begin in range(0, len(numbers), _FETCHED_AT_ONCE):
            blocks = self._fetch(numbers[begin : begin + _FETCHED_AT_ONCE])
            for number, block in blocks.items():
                mine = number_of == number
                filled[mine] = block[flat[mine] - number * self._per_block]
        return out[()]

    def _fetch(self, numbers: np.ndarray) -> dict[int, np.ndarray]:
        """The blocks of these numbers, in their order."""
        with self._lock:
            missing = [int(number) for number in numbers if int(number) not in self._blocks]
            if missing:
                n_bytes = len(self) * self.dtype.itemsize
                ranges = [(k * BLOCK_BYTES, min((k + 1) * BLOCK_BYTES, n_bytes)) for k in missing]
                for number, content in zip(missing, read_range(self.url, ranges), strict=True):
                    self._blocks[number] = np.frombuffer(content, self.dtype)
                    self.n_fetched += len(content)
            found = {}
            for number in map(int, numbers):
                found[number] = self._blocks[number]
                self._blocks.move_to_end(number)
            while len(self._blocks) > MAX_BLOCKS:
                self._blocks.popitem(last=False)
            return found
