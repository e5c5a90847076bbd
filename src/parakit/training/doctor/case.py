"""What is examined, and what a check is.

A kind is what is learned: its batches, its objective and what is expected of both. Parts that several checks look
at (the first rows, a sample of documents, a small probe for the model) are made once, when the first check asks for
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from parakit.tokens.tokenizer.tokenizer import Tokenizer
from parakit.training.config import TrainingPlan
from parakit.training.doctor import gradients
from parakit.training.doctor.probes import probe_of, unevenly_counted
from parakit.training.doctor.turns import Grammar, Stretch, pieces, sampled_documents, with_context
from parakit.training.micro_batches import Objective

Kind = Literal[
    "pretrain",
    "chat",
    "prefix",
    "masked",
    "span_corruption",
    "translate",
    "classify",
    "tag",
    "regress",
    "embed",
    "reward",
    "dpo",
]
MAX_BATCH_TOKENS = 16_384
MAX_SAMPLED_ROWS = 4096


@dataclass(frozen=True)
class Case:
    """What is examined, and what several checks look at."""

    model: Any
    tokenizer: Tokenizer
    source: Any  # a `session.RowSource`
    shards: Any  # `TokenShards` or `ExampleShards`
    plan: TrainingPlan
    objective: Objective
    kind: Kind
    frozen: Callable[[str], bool]

    @property
    def is_chat(self) -> bool:
        return self.kind == "chat"

    @cached_property
    def grammar(self) -> Grammar | None:
        return Grammar.of(self.tokenizer)

    @cached_property
    def documents(self) -> list[Stretch]:
        """Documents or conversations as the shards hold them."""
        return sampled_documents(self.shards)

    @cached_property
    def batch(self) -> Any:
        """The first rows that training would see."""
        n = min(max(self.plan.n_rows, 4), 32, max(4, MAX_BATCH_TOKENS // self.plan.seq_len))
        return self.source.rows(0, n)

    @cached_property
    def sample(self) -> list[Any]:
        """Rows of the first epoch in batches, all of them where they are not too many."""
        n = min(int(self.source.rows_per_epoch), MAX_SAMPLED_ROWS)
        return [self.source.rows(start, min(64, n - start)) for start in range(0, n, 64)]

    @property
    def sample_is_all(self) -> bool:
        """Whether the sample is the whole split."""
        return self.source.rows_per_epoch <= MAX_SAMPLED_ROWS

    @cached_property
    def pieces(self) -> list[Stretch]:
        """The documents' pieces in the first rows."""
        return list(pieces(self.batch))

    def said(self, stretches: Iterable[Stretch]) -> list[Stretch]:
        """The stretches, in which every assistant's turn should count; what the data calls context seems to."""
        if getattr(self.shards, "has_context_turns", False):
            return with_context(stretches, self.grammar)
        return list(stretches)

    @cached_property
    def probe(self) -> Any:
        """A small part of the first rows, for what needs the model."""
        return probe_of(self.batch, self.tokenizer.bos_id)

    @cached_property
    def gradient(self) -> gradients.Gradient:
        """Of the probe as one micro-batch, its rows unevenly counted: what every way of cutting it must give."""
        uneven = unevenly_counted(self.probe)
        return gradients.gradient(self.model, [uneven], self.objective, uneven.n_counted)

    @cached_property
    def reached(self) -> set[str]:
        """Parameters that a gradient reaches."""
        return gradients.touched(self.model, self.probe, self.objective)


@dataclass(frozen=True)
class Check:
    """One check; `look` returns the fault in words, or None."""

    name: str
    pitfall: int
    title: str
    hint: str
    look: Callable[[Case], str | None]
    only: tuple[Kind, ...] = ()  # none: every kind that its list is for
