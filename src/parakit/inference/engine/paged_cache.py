"""The paged cache: keys and values of many rows in pages of a few tokens, shared between rows that begin alike.

Layers with a sliding window are a group of their own, with its own pages: a row gives them back once its window has passed.
A full page is named by a hash chain over the ids of all tokens up to its end, so that a later row with the same beginning
finds it (Kwon et al. 2023; Zheng et al. 2024, "SGLang", for reuse across requests). Recurrent layers keep one state a row,
which holds no earlier token: models that have them share nothing. Where all keys of a row get other angles once it is longer
than the original context (longrope), a row that passes the limit is computed again.

Shapes: B rows, P pages of a row, G key-value heads, D head_dim.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from parakit.inference.engine.page_store import PageStore, page_bytes
from parakit.inference.engine.pages import NO_PAGE, PagePool
from parakit.model.config import DecoderConfig

KEPT_SHARE = 2  # pages at most, of those that running rows can fill: the others hold what finished rows had


@dataclass(eq=False)
class CacheRow:
    """One sequence in the cache: `length` tokens, whose pages each group's table names, `NO_PAGE` where a window passed."""

    salt: bytes
    """Rows share pages only with rows of the same salt: of the same weights."""
    tables: list[list[int]]
    token_ids: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    """Of every full page, the chain up to its end."""
    slot: int = 0
    """Where the row's tables and states are."""
    writable_to: int = 0
    """Tokens up to this one have pages that the row may write."""
    is_long: bool = False
    """Whether the row's keys have the angles of texts beyond the original context (longrope)."""

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return len(self.token_ids)


@dataclass(frozen=True)
class PageGroup:
    """Layers whose pages are given and taken together, and the window that they attend to; None: everything."""

    layers: tuple[int, ...]
    window: int | None
    pool: PagePool
    page_bytes: int

    def first_needed(self, length: int, page_size: int) -> int:
        """The first page that the next token of a row with `length` tokens attends to."""
        return 0 if self.window is None else max(0, length - self.window + 1) // page_size


class PagedCache:
    """Pages for rows of a decoder. `memory_bytes` bounds all tensors together; `max_rows` the rows with a state."""

    def __init__(
        self,
        config: DecoderConfig,
        *,
        memory_bytes: int,
        max_rows: int,
        step_tokens: int = 512,
        max_seq_len: int | None = None,
        page_size: int = 16,
        dtype: torch.dtype = torch.float32,
        cache_dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
        share_prefixes: bool = True,
    ) -> None:
        self.config, self.page_size, self.max_rows, self.step_tokens = (
            config,
            page_size,
            max_rows,
            step_tokens,
        )
        self.compute_dtype, self.device = dtype, torch.device(device)
        self.dtype = cache_dtype or dtype
        self.max_seq_len = min(max_seq_len or config.max_seq_len, config.max_seq_len)
        self.shares_prefixes = share_prefixes and config.delta_rule is None
        scaling = config.rope_scaling
        is_longrope = scaling is not None and scaling.kind == "longrope"
        self.switch_len = scaling.original_max_seq_len if scaling is not None and is_longrope else None
        if (
            self.switch_len is not None
        ):  # the angles of a row depend on its last token: it is read in one pass
            self.step_tokens = self.max_seq_len
        self.groups = self._make_groups(memory_bytes)
        self.group_of = {layer: i for i, group in enumerate(self.groups) for layer in group.layers}
        self.stores = {
            layer: PageStore(config, group.pool.n_pages, page_size, self.dtype, dtype, self.device)
            for group in self.groups
            for layer in group.layers
        }
        self.states: dict[int, tuple[Tensor, Tensor]] = {}
        """Of recurrent layers, one slot for each row."""
        self.pages_per_row = -(-self.max_seq_len // page_size)
        shape = (max_rows, self.pages_per_row)
        self.tables = [np.full(shape, NO_PAGE, np.int32) for _ in self.groups]
        """Of each group, the pages of every slot."""
        self._slots = list(range(max_rows - 1, -1, -1))
        self._unclean: set[int] = set()  # pages of the first group's and others' numbering, see `discard`

    def _make_groups(self, memory_bytes: int) -> list[PageGroup]:
        config = self.config
        layers = [layer for layer in range(config.n_layers) if not config.is_recurrent(layer)]
        kinds: dict[int | None, list[int]] = {}
        for layer in layers:
            kinds.setdefault(config.sliding_window if config.is_local(layer) else None, []).append(layer)
        sizes = {w: page_bytes(config, len(of), self.page_size, self.dtype) for w, of in kinds.items()}
        counts = self._page_counts(sizes, memory_bytes)
        return [
            PageGroup(tuple(of_kind), window, PagePool(counts[window]), sizes[window])
            for window, of_kind in kinds.items()
        ]

    def _page_counts(self, sizes: dict[int | None, int], memory_bytes: int) -> dict[int | None, int]:
        """Pages of each group: as many for windows as all rows can use, the rest for the layers that attend to all."""
        per_row = -(-self.max_seq_len // self.page_size)
        factor = KEPT_SHARE if self.shares_prefixes else 1
        most = factor * self.max_rows * per_row
        reserved = sum(sizes.values())  # page 0
        left = max(0, memory_bytes - reserved)
        counts: dict[int | None, int] = {}
        for window in sorted(sizes, key=lambda w: (w is None, w)):
            rest = sum(size for w, size in sizes.items() if w not in counts)
            wanted = most
            if window is not None and None in sizes:
                in_window = self.max_rows * min(per_row, -(-window // self.page_size) + 2)
                wanted = min(most, factor * in_window + -(-self.step_tokens // self.page_size))
            counts[window] = min(wanted, left // rest) if rest else most
            left -= counts[window] * sizes[window]
        return counts

    @property
    def is_recurrent(self) -> bool:
        """Whether rows have states, which an interrupted pass leaves half-changed."""
        return self.config.delta_rule is not None

    # --- rows
    def new_row(self, token_ids: Sequence[int], salt: bytes = b"") -> CacheRow:
        """An empty row for these tokens, or one that holds as many of them as shared pages have, but never all."""
        row = CacheRow(salt, [[] for _ in self.groups])
        row.is_long = self.switch_len is not None and len(token_ids) > self.switch_len
        row.slot = self._take_slot()
        if self.shares_prefixes:
            self._share(row, token_ids)
        return row

    def _share(self, row: CacheRow, token_ids: Sequence[int]) -> None:
        digests = self._chain(row, token_ids, (len(token_ids) - 1) // self.page_size)
        for n_pages in range(self._longest_full(digests), 0, -1):
            length = n_pages * self.page_size
            firsts = [group.first_needed(length, self.page_size) for group in self.groups]
            found = [
                [group.pool.find(digest) for digest in digests[first:n_pages]]
                for group, first in zip(self.groups, firsts, strict=True)
            ]
            if all(page is not None for pages in found for page in pages):
                for table, group, first, pages in zip(row.tables, self.groups, firsts, found, strict=True):
                    held = [page for page in pages if page is not None]
                    for page in held:
                        group.pool.hold(page)
                    table.extend([NO_PAGE] * first + held)
                for i, table in enumerate(row.tables):
                    self.tables[i][row.slot, :n_pages] = table
                row.token_ids.extend(token_ids[:length])
                row.digests.extend(digests[:n_pages])
                return

    def _longest_full(self, digests: Sequence[bytes]) -> int:
        """How many pages from the first the group without a window has; all where there is no such group."""
        for group in self.groups:
            if group.window is None:
                missing = (i for i, digest in enumerate(digests) if group.pool.find(digest) is None)
                return next(missing, len(digests))
        return len(digests)

    def _chain(self, row: CacheRow, token_ids: Sequence[int], n_pages: int) -> list[bytes]:
        """Digests of the first pages."""
        digests = list(row.digests)
        for i in range(len(digests), n_pages):
            before = digests[-1] if digests else (b"long" if row.is_long else b"") + row.salt
            tokens = array("q", token_ids[i * self.page_size : (i + 1) * self.page_size]).tobytes()
            digests.append(hashlib.blake2b(before + tokens, digest_size=16).digest())
        return digests

    def n_pages_for(self, row: CacheRow, n_new: int) -> list[int]:
        """Pages of each group that `reserve` would take."""
        end, size = row.length + n_new, self.page_size
        needed = []
        for group, table in zip(self.groups, row.tables, strict=True):
            missing = max(0, -(-end // size) - len(table))
            needed.append(missing + self._must_copy(group, table, row.length))
        return needed

    def _must_copy(self, group: PageGroup, table: list[int], length: int) -> bool:
        """Whether the page that the next token goes to has tokens that others see."""
        return length % self.page_size != 0 and not group.pool.is_writable(table[length // self.page_size])

    def reserve(self, row: CacheRow, n_new: int) -> bool:
        """Make room for the row's next `n_new` tokens; False, and nothing changed, where pages are lacking."""
        end = row.length + n_new
        if end <= row.writable_to:
            return True
        needed = self.n_pages_for(row, n_new)
        if any(n > group.pool.n_available for n, group in zip(needed, self.groups, strict=True)):
            return False
        place = row.length // self.page_size
        for group, table, of_slots, n_pages in zip(self.groups, row.tables, self.tables, needed, strict=True):
            if self._must_copy(group, table, row.length):
                shared, table[place] = table[place], group.pool.take()
                for layer in group.layers:
                    self.stores[layer].copy(shared, table[place])
                self._released(group, [shared])
                n_pages -= 1
            table.extend(group.pool.take() for _ in range(n_pages))
            of_slots[row.slot, place : len(table)] = table[place:]
        row.writable_to = len(row.tables[0]) * self.page_size
        return True

    def commit(self, row: CacheRow, token_ids: Sequence[int]) -> None:
        """These tokens of the reserved ones are in the cache now; full pages can be shared, passed ones are given back."""
        n_full_before = row.length // self.page_size
        row.token_ids.extend(token_ids)
        n_full = row.length // self.page_size
        if self.shares_prefixes and n_full > n_full_before:
            first_new = len(row.digests)
            row.digests = self._chain(row, row.token_ids, n_full)
            for group, table in zip(self.groups, row.tables, strict=True):
                for i in range(first_new, n_full):
                    if table[i] != NO_PAGE:
                        group.pool.publish(table[i], row.digests[i])
        for group, table, of_slots in zip(self.groups, row.tables, self.tables, strict=True):
            first = group.first_needed(row.length, self.page_size)
            passed = []
            while first > 0 and table[first - 1] != NO_PAGE:
                first -= 1
                passed.append(table[first])
                table[first] = of_slots[row.slot, first] = NO_PAGE
            if passed:
                self._released(group, passed)

    @torch.inference_mode()
    def fork(self, row: CacheRow) -> CacheRow:
        """Another row with the same tokens; pages are copied when one of the two writes to them. Pages that are reserved for
        further tokens stay with the first row alone.
        """
        n_pages = -(-row.length // self.page_size)
        tables = [table[:n_pages] for table in row.tables]
        other = CacheRow(row.salt, tables, list(row.token_ids), list(row.digests), is_long=row.is_long)
        other.slot = self._take_slot()
        row.writable_to = 0  # the last page is shared now
        for group, table, of_slots in zip(self.groups, tables, self.tables, strict=True):
            of_slots[other.slot, :n_pages] = table
            for page in table:
                if page != NO_PAGE:
                    group.pool.hold(page)
        for pair in self.states.values():
            for tensor in pair:
                tensor[other.slot] = tensor[row.slot]
        return other

    def release(self, row: CacheRow) -> None:
        """The row leaves; full pages stay known until their memory is needed, the last of a row for the shortest time."""
        for group, table in zip(self.groups, row.tables, strict=True):
            self._released(group, [page for page in reversed(table) if page != NO_PAGE])
            table.clear()
        self._slots.append(row.slot)
        row.token_ids.clear()
        row.digests.clear()

    @torch.inference_mode()
    def discard(self, row: CacheRow) -> None:
        """As `release`, of a row whose keys or values may be no numbers: nobody may find them, and 0 * NaN is NaN."""
        for number, (group, table) in enumerate(zip(self.groups, row.tables, strict=True)):
            for page in table:
                if page != NO_PAGE:
                    group.pool.withdraw(page)
                    self._unclean.add(self._unclean_key(number, page))
        self.release(row)

    def forget(self) -> None:
        """Forget all shared contents, as after a change of weights."""
        for group in self.groups:
            group.pool.forget()

    def _released(self, group: PageGroup, pages: list[int]) -> None:
        freed = group.pool.release(pages)
        if self._unclean and freed:
            number = self.groups.index(group)
            unclean = [page for page in freed if self._unclean_key(number, page) in self._unclean]
            if unclean:
                for layer in group.layers:
                    self.stores[layer].clear(unclean)
                self._unclean -= {self._unclean_key(number, page) for page in unclean}

    def _unclean_key(self, group: int, page: int) -> int:
        return page * len(self.groups) + group

    @torch.inference_mode()
    def _take_slot(self) -> int:
        slot = self._slots.pop()
        for of_slots in self.tables:
            of_slots[slot] = NO_PAGE
        for pair in self.states.values():
            for tensor in pair:
                tensor[slot] = 0
        return slot

    # --- what the model sees
    def switches(self, row: CacheRow, n_new: int) -> bool:
        """Whether these new tokens change the angles of all earlier ones: the row must then be computed again."""
        return self.switch_len is not None and not row.is_long and row.length + n_new > self.switch_len

    def page_table(self, rows: Sequence[CacheRow], group: int, n_tokens: int) -> Tensor:
        """Pages (B, P) int64 of rows in a group, for this many slots; `NO_PAGE` where a row has none."""
        slots = [row.slot for row in rows]
        table = self.tables[group][slots, : -(-n_tokens // self.page_size)]
        return torch.from_numpy(table.astype(np.int64)).to(self.device)

    # --- figures
    @property
    def memory_bytes(self) -> int:
        """Of all pages, and of the states so far."""
        states = sum(tensor.nbytes for pair in self.states.values() for tensor in pair)
        pages = sum(tensor.nbytes for store in self.stores.values() for tensor in store.tensors())
        return pages + states

    def n_pages_alone(self, group: PageGroup, n_tokens: int) -> int:
        """The most pages of a group that a row of `n_tokens` tokens holds at once, read in chunks of a step."""
        pages = -(-n_tokens // self.page_size)
        if group.window is None:
            return pages
        return min(pages, -(-(group.window + self.step_tokens) // self.page_size) + 1)
