"""Pitfalls of mixed rows, put back one by one: 11, 14, 16, 24, and tokens of another tokenizer (8)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from parakit.tokens.batches import replay as sources
from parakit.tokens.batches.batch import Batch
from parakit.tokens.batches.replay import ReplaySource
from parakit.tokens.batches.source import BatchSource
from parakit.training.doctor import examine_mixture
from tests.contracts.patients import Patient


class Ill(ReplaySource[Batch]):
    """A mixture whose rows a test spoils."""

    spoil: Any = staticmethod(lambda batch, start: batch)

    def rows(self, start_row: int, n_rows: int) -> Batch:
        return self.spoil(super().rows(start_row, n_rows), start_row)


@pytest.fixture
def sides(pretrain: Patient) -> tuple[BatchSource, BatchSource]:
    """Text, and text of another order."""
    return pretrain.source, BatchSource(pretrain.shards, pretrain.source.seq_len, 99)


def verdict(source: ReplaySource[Batch]) -> str:
    return next((finding.name for finding in examine_mixture(source, 8) if not finding.passed), "healthy")


def ill(sides: tuple[BatchSource, BatchSource], spoil: Any, share: float = 0.25) -> str:
    source = Ill(*sides, share)
    source.spoil = spoil
    return verdict(source)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.25, 0.5, 0.9])
def test_a_right_mixture_raises_no_alarm(sides: tuple[BatchSource, BatchSource], share: float) -> None:
    assert verdict(ReplaySource(*sides, share)) == "healthy"


def test_conversations_among_text_raise_no_alarm(pretrain: Patient, chat: Patient) -> None:
    assert verdict(ReplaySource(chat.source, pretrain.source, 0.3)) == "healthy"


def test_11_the_counted_tokens_of_one_side_only(sides: tuple[BatchSource, BatchSource]) -> None:
    assert ill(sides, lambda batch, _: replace(batch, n_counted=batch.n_counted * 3 // 4)) == "count-differs"


def test_14_packed_rows_that_are_said_to_hold_one_document(sides: tuple[BatchSource, BatchSource]) -> None:
    assert ill(sides, lambda batch, _: replace(batch, single_document=True)) == "documents-leak"


def test_16_inputs_of_one_side_under_the_targets_of_the_other(sides: tuple[BatchSource, BatchSource]) -> None:
    def mixed_up(batch: Batch, _: int) -> Batch:
        return replace(batch, input_ids=np.roll(batch.input_ids, 1, axis=0))

    assert ill(sides, mixed_up) == "replayed-rows-differ"


class BeginsAgain(BatchSource):
    """A side whose rows are counted from the beginning of whatever is asked for."""

    def rows(self, start_row: int, n_rows: int) -> Batch:
        return super().rows(0, n_rows)


def test_24_earlier_rows_that_begin_again_with_every_batch(pretrain: Patient) -> None:
    earlier = BeginsAgain(pretrain.shards, pretrain.source.seq_len, 99)
    assert verdict(ReplaySource(pretrain.source, earlier, 0.25)) == "replayed-rows-differ"


def test_24_rows_that_depend_on_where_the_batch_begins(sides: tuple[BatchSource, BatchSource]) -> None:
    def later(batch: Batch, start: int) -> Batch:
        return replace(batch, position_ids=batch.position_ids + (start > 1))

    assert ill(sides, later) == "rows-change"


def test_a_share_that_is_not_kept(
    sides: tuple[BatchSource, BatchSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReplaySource, "n_replay_rows", lambda self, row: row // 2)
    assert verdict(ReplaySource(*sides, 0.25)) == "replayed-rows-differ"


def test_sides_of_different_kinds_cannot_be_interleaved(pretrain: Patient) -> None:
    batch = pretrain.source.rows(0, 1)
    with pytest.raises(AssertionError):
        sources._interleave(batch, object(), np.array([False, True]))  # type: ignore[type-var]
