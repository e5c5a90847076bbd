"""What is examined, and what a check is.

Parts that several checks look at (the first rows, a sample of documents, a small probe for the model) are
made once, when the first check asks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from parakit.model.heads import LanguageModel
from parakit.tokens.batches import Batch, BatchSource
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer import Tokenizer
from parakit.training.config import TrainingPlan
from parakit.training.doctor import model_checks
from parakit.training.doctor.probes import cropped, unevenly_counted
from parakit.training.doctor.turns import Grammar, Stretch, pieces, sampled_documents
from parakit.training.objectives import Objective

Kind = Literal["pretrain", "chat"]
MAX_BATCH_TOKENS = 16_384


@dataclass(frozen=True)
class Case:
    """What is examined, and what several checks look at."""

    model: LanguageModel
    tokenizer: Tokenizer
    source: BatchSource
    shards: TokenShards
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
    def batch(self) -> Batch:
        """The first rows that training would see."""
        n_rows = min(max(self.plan.n_rows, 4), 32, max(4, MAX_BATCH_TOKENS // self.source.seq_len))
        return self.source.rows(0, n_rows)

    @cached_property
    def pieces(self) -> list[Stretch]:
        """The documents' pieces in those rows."""
        return list(pieces(self.batch))

    @cached_property
    def probe(self) -> Batch:
        """A small part of those rows, for what needs the model."""
        return cropped(self.batch, self.tokenizer.bos_id)

    @cached_property
    def gradient(self) -> model_checks.Gradient:
        """Of the probe as one micro-batch, its rows unevenly counted: what every way of cutting it must give."""
        uneven = unevenly_counted(self.probe)
        return model_checks.gradient(self.model, [uneven], self.objective, uneven.n_counted)

    @cached_property
    def reached(self) -> set[str]:
        """Parameters that a gradient reaches."""
        return model_checks.touched(self.model, self.probe, self.objective)


@dataclass(frozen=True)
class Check:
    """One check; `look` returns the fault in words, or None."""

    name: str
    pitfall: int
    title: str
    hint: str
    look: Callable[[Case], str | None]
    only: Kind | None = None
