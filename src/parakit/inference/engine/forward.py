"""One step of the engine through the model: new tokens of many rows in, the logits after the last of each out.

Rows with one new token share a pass; chunks of prompts share passes with chunks of like lengths, so that little is padded.

Shapes: B rows, T new tokens of the longest row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from parakit.inference.batching import evaluation_mode, pad_rows
from parakit.inference.engine.cache_view import PagedView
from parakit.inference.engine.paged_cache import CacheRow, PagedCache
from parakit.inference.generation.fused_step import FusedStep, can_fuse_steps
from parakit.model.heads import LanguageModel

STEPS_BEFORE_FUSING = 2  # preparing a `FusedStep` costs about as much as it saves in four steps
MAX_PADDING = 0.5  # of a pass over chunks


class Work(NamedTuple):
    """The next tokens of a row, for which the cache has room, and whether the logits after the last are wanted."""

    row: CacheRow
    token_ids: list[int]
    wants_logits: bool


@dataclass(eq=False)
class ForwardPass:
    """The model with its cache."""

    model: LanguageModel
    cache: PagedCache
    fused: FusedStep | None = None
    n_steps: int = 0

    def forget(self) -> None:
        """The weights have changed: what was prepared from them is worth nothing."""
        self.fused, self.n_steps = None, 0

    @torch.inference_mode()
    def run(self, works: Sequence[Work]) -> list[tuple[list[int], Tensor]]:
        """Logits (C, V) after the last tokens of the works that want them, with the indices of these works."""
        results = []
        with evaluation_mode(self.model):
            for members in self._passes(works):
                logits = self._pass([works[i] for i in members])
                if logits is not None:
                    results.append(([i for i in members if works[i].wants_logits], logits))
        return results

    def _passes(self, works: Sequence[Work]) -> Iterator[list[int]]:
        """Indices of works that share a pass."""
        steps = [i for i, work in enumerate(works) if len(work.token_ids) == 1]
        if steps:
            yield sorted(steps, key=lambda i: works[i].row.tables[0][-1] if works[i].row.tables else 0)
        chunks = sorted(
            (i for i, work in enumerate(works) if len(work.token_ids) > 1),
            key=lambda i: len(works[i].token_ids),
        )
        members: list[int] = []
        n_real = 0
        for i in chunks:
            longest = len(works[i].token_ids)
            if members and n_real + longest < (1 - MAX_PADDING) * longest * (len(members) + 1):
                yield members
                members, n_real = [], 0
            members.append(i)
            n_real += longest
        if members:
            yield members

    def _pass(self, works: Sequence[Work]) -> Tensor | None:
        """Logits (C, V) of the works that want them; None where none does."""
        lengths = [len(work.token_ids) for work in works]
        view = PagedView(self.cache, [work.row for work in works], lengths)
        wanted = [i for i, work in enumerate(works) if work.wants_logits]
        if view.n_tokens == 1 and len(wanted) == len(works):
            fused = self._fused_step()
            if fused is not None:
                ids = torch.tensor([work.token_ids[0] for work in works], device=self.cache.device)
                return fused(view, ids)
        input_ids, _ = pad_rows([work.token_ids for work in works], self.cache.device)  # (B, T)
        hidden = self.model.hidden(
            input_ids,
            position_ids=view.position_ids(view.n_tokens),
            attention_mask=view.attention_mask(view.n_tokens),
            cache=view,
        )
        if not wanted:
            return None
        rows = torch.tensor(wanted, device=hidden.device)
        last = torch.tensor([lengths[i] - 1 for i in wanted], device=hidden.device)
        return self.model.logits(hidden[rows, last])

    def _fused_step(self) -> FusedStep | None:
        self.n_steps += 1
        if self.fused is None and self.n_steps == STEPS_BEFORE_FUSING and can_fuse_steps(self.model):
            self.fused = FusedStep(self.model)
        return self.fused
