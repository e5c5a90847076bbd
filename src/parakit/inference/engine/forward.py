"""One step of the engine through the model: new tokens of many rows in, the logits after the last ones of each out.

Where the compiled kernels compute the model they read the pages themselves, and steps and chunks of any rows are one call.
Else PyTorch computes it through a `PagedView`: rows with one new token share a pass, and chunks of prompts share passes with
chunks of like lengths, so that little is padded.

Shapes: B rows, T new tokens of the longest row, C tokens after which logits are wanted, V vocabulary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from parakit.inference.batching import evaluation_mode, pad_rows
from parakit.inference.engine.adapters import RowAdapters, RowsByAdapter
from parakit.inference.engine.cache_view import PagedView
from parakit.inference.engine.paged_cache import CacheRow, PagedCache
from parakit.inference.native_forward import MAX_TOKENS, NativeForward, PagedTensors, native_forward
from parakit.model.heads import LanguageModel
from parakit.model.kernels import layout

MAX_PADDING = 0.5  # of a pass over chunks


class Work(NamedTuple):
    """The next tokens of a row, for which the cache has room, after how many of the last ones logits are wanted, the row's
    adapter, and whether the vectors before the logits are wanted too.
    """

    row: CacheRow
    token_ids: list[int]
    n_logits: int
    adapter: str | None = None
    wants_hidden: bool = False


class Predictions(NamedTuple):
    """What a pass found after tokens of works that want logits."""

    members: list[int]
    """The index of each one's work."""
    logits: Tensor  # (C, V)
    hidden: Tensor | None = None
    """(C, D): the vectors of `model.hidden` there, where one of the works wants them."""


class ForwardPass:
    """The model with its cache, and with the adapters that rows may have."""

    def __init__(self, model: LanguageModel, cache: PagedCache, adapters: RowAdapters | None = None) -> None:
        self.model, self.cache, self.adapters = model, cache, adapters
        self.native: NativeForward | None = None
        self._tensors: layout.CacheLayout | None = None

    def prepare(self) -> None:
        """Look at the model: before the first pass, and after a change of its weights or modules."""
        with evaluation_mode(self.model), self._base_alone():
            self.native = native_forward(self.model)

    @torch.inference_mode()
    def run(self, works: Sequence[Work]) -> list[Predictions]:
        """The logits after the last tokens of the works that want them, in order."""
        results: list[Predictions] = []
        rest = list(range(len(works)))
        with evaluation_mode(self.model):
            if self.native is not None:
                natively = [i for i in rest if works[i].adapter is None or self.adapters is None]
                rest = [i for i in rest if works[i].adapter is not None and self.adapters is not None]
                with self._base_alone():
                    found = self._run_natively(self.native, [works[i] for i in natively])
                results += [one._replace(members=[natively[i] for i in one.members]) for one in found]
            for members in self._passes(works, rest):
                part = [works[i] for i in members]
                one = self._pass(part) if self.adapters is None else self._adapted_pass(self.adapters, part)
                if one is not None:
                    results.append(one._replace(members=[members[i] for i in one.members]))
        return results

    def _base_alone(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self.adapters is None else self.adapters.base_alone()

    def _passes(self, works: Sequence[Work], indices: Sequence[int]) -> Iterator[list[int]]:
        """Indices of works that share a pass of PyTorch."""
        groups: dict[str | None, list[int]] = {}
        for i in indices:
            key = None if self.adapters is None else self.adapters.pass_of(works[i].adapter)
            groups.setdefault(key, []).append(i)
        for members in groups.values():
            yield from _by_length(works, members)

    def _run_natively(self, native: NativeForward, works: Sequence[Work]) -> list[Predictions]:
        if self._tensors is None:
            self._tensors = _paged_tensors(self.cache)
        results: list[Predictions] = []
        ids: list[int] = []
        positions: list[int] = []
        rows: list[int] = []
        wanted: list[int] = []
        members: list[int] = []
        goes_on = all(len(work.token_ids) == 1 for work in works)

        def call() -> None:
            assert self._tensors is not None
            hidden = None
            if any(works[i].wants_hidden for i in members):
                hidden = torch.empty(len(members), self.model.config.d_model)
            logits = native(ids, positions, rows, self._tensors, wanted, goes_on, hidden)
            if members:
                results.append(Predictions(list(members), logits, hidden))
            for numbers in (ids, positions, rows, wanted, members):
                numbers.clear()

        for i, (row, token_ids, n_logits, *_) in enumerate(works):
            first_wanted = len(token_ids) - n_logits
            for start in range(0, len(token_ids), MAX_TOKENS):
                part = token_ids[start : start + MAX_TOKENS]
                if len(ids) + len(part) > MAX_TOKENS:
                    call()
                first = row.length + start
                ids += part
                positions += range(first, first + len(part))
                rows += [row.slot] * len(part)
                n_wanted = min(len(part), max(0, start + len(part) - first_wanted))
                wanted += range(len(ids) - n_wanted, len(ids))
                members += [i] * n_wanted
        if ids:
            call()
        return results

    def _adapted_pass(self, adapters: RowAdapters, works: Sequence[Work]) -> Predictions | None:
        """As `_pass`, each row with its adapter."""
        with adapters.attached([work.adapter for work in works], self.cache.device) as rows:
            return self._pass(works, rows)

    def _pass(self, works: Sequence[Work], adapted: RowsByAdapter | None = None) -> Predictions | None:
        """Of the works that want logits, by PyTorch; None where none does."""
        lengths = [len(work.token_ids) for work in works]
        view = PagedView(self.cache, [work.row for work in works], lengths)
        input_ids, _ = pad_rows([work.token_ids for work in works], self.cache.device)  # (B, T)
        hidden = self.model.hidden(
            input_ids,
            position_ids=view.position_ids(view.n_tokens),
            attention_mask=view.attention_mask(view.n_tokens),
            cache=view,
        )
        wanted = [i for i, work in enumerate(works) for _ in range(work.n_logits)]
        if not wanted:
            return None
        if adapted is not None:
            adapted.select(wanted)
        rows = torch.tensor(wanted, device=hidden.device)
        places = [
            place
            for work, length in zip(works, lengths, strict=True)
            for place in range(length - work.n_logits, length)
        ]
        chosen = hidden[rows, torch.tensor(places, device=hidden.device)]
        keeps = any(works[i].wants_hidden for i in wanted)
        return Predictions(wanted, self.model.logits(chosen), chosen if keeps else None)


def _by_length(works: Sequence[Work], indices: Sequence[int]) -> Iterator[list[int]]:
    """Steps together, and chunks of like lengths."""
    if steps := [i for i in indices if len(works[i].token_ids) == 1]:
        yield steps
    members: list[int] = []
    n_real = 0
    chunks = [i for i in indices if len(works[i].token_ids) > 1]
    for i in sorted(chunks, key=lambda i: len(works[i].token_ids)):
        longest = len(works[i].token_ids)
        if members and n_real + longest < (1 - MAX_PADDING) * longest * (len(members) + 1):
            yield members
            members, n_real = [], 0
        members.append(i)
        n_real += longest
    if members:
        yield members


def _paged_tensors(cache: PagedCache) -> layout.CacheLayout:
    """The cache as the kernels read it: its tables are written in place."""
    stores = [cache.stores[layer] for layer in range(cache.config.n_layers)]
    tables = [torch.from_numpy(array) for array in cache.tables]
    scales = [(store.key_scales, store.value_scales) for store in stores]
    return PagedTensors(
        [store.keys for store in stores],
        [store.values for store in stores],
        [tables[cache.group_of[layer]] for layer in range(cache.config.n_layers)],
        [key for key, _ in scales if key is not None] or None,
        [value for _, value in scales if value is not None] or None,
    ).describe()
