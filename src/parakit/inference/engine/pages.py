"""The page allocator: which pages are free, how many rows hold each, and which hold a prefix that can be used again.

A page is free, held by rows, or cached: held by no row, but with contents that a key names. `take` gives a free page, or
else the cached one that was released longest ago (Kwon et al. 2023, "Efficient memory management for large language model
serving with PagedAttention", section 4). A page with several holders or with a key must not be written. Page 0 is never
given: tables point to it where a row has no page. Knows nothing of tensors.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable

NO_PAGE = 0


class PagePool:
    """`n_pages` pages, numbered from 1."""

    def __init__(self, n_pages: int) -> None:
        self.n_pages = n_pages
        self._free = list(
            range(1, n_pages + 1)
        )  # a heap: low numbers first, so that little memory is touched
        self._holders = [0] * (n_pages + 1)
        self._cached: OrderedDict[int, None] = OrderedDict()  # the longest released first
        self._page_of: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}

    @property
    def n_available(self) -> int:
        """Pages that `take` can give."""
        return len(self._free) + len(self._cached)

    @property
    def n_cached(self) -> int:
        """Pages that no row holds and that a key names."""
        return len(self._cached)

    @property
    def n_held(self) -> int:
        """Pages that rows hold."""
        return self.n_pages - self.n_available

    @property
    def n_shared(self) -> int:
        """Pages that several rows hold."""
        return sum(n > 1 for n in self._holders)

    def holders(self, page: int) -> int:
        """How many rows hold a page."""
        return self._holders[page]

    def take(self) -> int:
        """A page for one row to write; `IndexError` where none is available."""
        if self._free:
            page = heapq.heappop(self._free)
        elif self._cached:
            page, _ = self._cached.popitem(last=False)
            del self._page_of[self._key_of.pop(page)]
        else:
            raise IndexError("no page is available")
        self._holders[page] = 1
        return page

    def find(self, key: bytes) -> int | None:
        """The page with the contents that `key` names."""
        return self._page_of.get(key)

    def hold(self, page: int) -> None:
        """One more row holds this page, which is held or cached."""
        assert self._holders[page] or page in self._cached, f"page {page} is free"
        self._cached.pop(page, None)
        self._holders[page] += 1

    def release(self, pages: Iterable[int]) -> list[int]:
        """A row no longer holds these pages, the least useful first; returns those that became free."""
        freed = []
        for page in pages:
            assert self._holders[page] > 0, f"page {page} has no holder"
            self._holders[page] -= 1
            if self._holders[page] == 0:
                if page in self._key_of:
                    self._cached[page] = None
                else:
                    heapq.heappush(self._free, page)
                    freed.append(page)
        return freed

    def is_writable(self, page: int) -> bool:
        """Whether its one holder may change the page."""
        return self._holders[page] == 1 and page not in self._key_of

    def publish(self, page: int, key: bytes) -> None:
        """Name the contents of a held page, unless another page has the same."""
        assert self._holders[page] > 0, f"page {page} has no holder"
        if key not in self._page_of and page not in self._key_of:
            self._page_of[key], self._key_of[page] = page, key

    def withdraw(self, page: int) -> None:
        """Forget what a held page contains."""
        key = self._key_of.pop(page, None)
        if key is not None:
            del self._page_of[key]

    def forget(self) -> None:
        """Forget the contents of all pages: cached ones become free."""
        for page in self._cached:
            heapq.heappush(self._free, page)
        self._cached.clear()
        self._page_of.clear()
        self._key_of.clear()
