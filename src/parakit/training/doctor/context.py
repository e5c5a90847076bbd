"""The input of a doctor check: a training run, with cached parts that several checks share.

The first rows, a sample of documents and a small batch for the model are computed once, when the first check needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.config import TrainingPlan
from parakit.training.doctor.batch_views import micro_batch, ranking_log_probs
from parakit.training.doctor.gradient_sketch import Gradient, gradient, trained_parameters
from parakit.training.doctor.openings import document_start
from parakit.training.doctor.probes import small_batch, uneven_mask
from parakit.training.doctor.turn_markers import (
    Span,
    TurnMarkers,
    count_context_turns,
    document_spans,
    sample_documents,
)
from parakit.training.micro_batches import Objective
from parakit.training.tasks import TaskSpec

MAX_BATCH_TOKENS = 16_384
MAX_SAMPLED_ROWS, MAX_SAMPLED_TOKENS = 4096, 2**21


@dataclass(frozen=True)
class CheckContext:
    """One training run before its first step."""

    model: Any  # a `TransformerModel`; each check knows which
    tokenizer: Tokenizer
    source: Any  # a `session.RowSource`
    shards: Any  # `TokenShards`, `ExampleShards` or `EncodedRankings`
    plan: TrainingPlan
    objective: Objective
    spec: TaskSpec
    frozen: Callable[[str], bool]

    @property
    def checked_as(self) -> tuple[str, ...]:
        """The names that select checks by their `applies_to`."""
        return self.spec.name, self.spec.row_format

    @cached_property
    def turn_markers(self) -> TurnMarkers | None:
        return TurnMarkers.of(self.tokenizer)

    @cached_property
    def document_start(self) -> int | None:
        """The id that marks the begin of another document within a row."""
        return document_start(self.tokenizer, self.spec.row_format)

    @property
    def corpus(self) -> Mapping[str, Any]:
        """Facts of the corpus that the shards are made of; nothing where they are of something else."""
        return getattr(self.shards, "corpus", {})

    @cached_property
    def documents(self) -> list[Span]:
        """Documents or conversations as the shards hold them."""
        return sample_documents(self.shards)

    @cached_property
    def batch(self) -> Any:
        """The first rows of training."""
        n = min(max(self.plan.n_rows, 4), 32, max(4, MAX_BATCH_TOKENS // self.plan.seq_len))
        return self.source.rows(0, n)

    @cached_property
    def sample(self) -> list[Any]:
        """Rows of the first epoch in batches, at most `MAX_SAMPLED_ROWS`."""
        n = min(int(self.source.rows_per_epoch), self._max_sampled)
        return [self.source.rows(start, min(64, n - start)) for start in range(0, n, 64)]

    @property
    def sample_is_all(self) -> bool:
        """Whether the sample is the whole split."""
        return self.source.rows_per_epoch <= self._max_sampled

    @property
    def _max_sampled(self) -> int:
        return min(MAX_SAMPLED_ROWS, max(64, MAX_SAMPLED_TOKENS // self.plan.seq_len))

    @cached_property
    def row_spans(self) -> list[Span]:
        """The documents' parts in the first rows."""
        return list(document_spans(self.batch))

    def without_context_turns(self, spans: Iterable[Span]) -> list[Span]:
        """The spans; where the data marks turns as context (weight 0), those turns appear as counted."""
        if getattr(self.shards, "has_context_turns", False):
            return count_context_turns(spans, self.turn_markers)
        return list(spans)

    @cached_property
    def probe(self) -> Any:
        """A small part of the first rows, for the checks that run the model."""
        probe = small_batch(self.batch, self.document_start)
        if getattr(probe, "reference", None) is None:
            return probe
        with torch.no_grad():  # of the model as it is now, so that the loss is not flat
            log_probs = ranking_log_probs(self.model, micro_batch(self.model, probe)).float().cpu().numpy()
        reference = np.zeros_like(probe.reference)
        reference[probe.real_mask.any(-1)] = log_probs
        return replace(probe, reference=reference)

    @cached_property
    def gradient(self) -> Gradient:
        """Of the probe as one micro-batch with an uneven mask: what every way of cutting it must give."""
        uneven = uneven_mask(self.probe)
        return gradient(self.model, [uneven], self.objective, uneven.n_counted)

    @cached_property
    def trained(self) -> set[str]:
        """Names of the parameters that a gradient reaches."""
        return trained_parameters(self.model, self.probe, self.objective)
