"""The mistakes of mixed rows, put back one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from parakit.tokens.batches import replay as sources
from parakit.tokens.batches.batch import Batch
from parakit.tokens.batches.replay import ReplaySource
from parakit.tokens.batches.source import BatchSource
from parakit.training.doctor import check_replay
from tests.contracts.training_cases import TrainingCase


class CorruptSource(ReplaySource[Batch]):
    """A mixture whose rows a test corrupts."""

    corrupt: Any = staticmethod(lambda batch, start: batch)

    def rows(self, start_row: int, n_rows: int) -> Batch:
        return self.corrupt(super().rows(start_row, n_rows), start_row)


@pytest.fixture
def sides(pretrain: TrainingCase) -> tuple[BatchSource, BatchSource]:
    """Two sources: text, and the same text in another order."""
    return pretrain.source, BatchSource(pretrain.shards, pretrain.source.seq_len, 99)


def first_failure(source: ReplaySource[Batch]) -> str:
    return next((result.name for result in check_replay(source, 8) if not result.passed), "healthy")


def broken(sides: tuple[BatchSource, BatchSource], corrupt: Any, share: float = 0.25) -> str:
    source = CorruptSource(*sides, share)
    source.corrupt = corrupt
    return first_failure(source)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.25, 0.5, 0.9])
def test_a_right_mixture_raises_no_alarm(sides: tuple[BatchSource, BatchSource], share: float) -> None:
    assert first_failure(ReplaySource(*sides, share)) == "healthy"


def test_conversations_among_text_raise_no_alarm(pretrain: TrainingCase, chat: TrainingCase) -> None:
    assert first_failure(ReplaySource(chat.source, pretrain.source, 0.3)) == "healthy"


@pytest.mark.catches("count-differs")
def test_counted_tokens_of_one_source_only(sides: tuple[BatchSource, BatchSource]) -> None:
    assert (
        broken(sides, lambda batch, _: replace(batch, n_counted=batch.n_counted * 3 // 4)) == "count-differs"
    )


@pytest.mark.catches("documents-not-separated")
def test_packed_rows_that_are_marked_as_one_document(sides: tuple[BatchSource, BatchSource]) -> None:
    assert broken(sides, lambda batch, _: replace(batch, single_document=True)) == "documents-not-separated"


@pytest.mark.catches("replayed-rows-differ")
def test_inputs_of_one_source_with_targets_of_the_other(sides: tuple[BatchSource, BatchSource]) -> None:
    def swapped(batch: Batch, _: int) -> Batch:
        return replace(batch, input_ids=np.roll(batch.input_ids, 1, axis=0))

    assert broken(sides, swapped) == "replayed-rows-differ"


class BeginsAgain(BatchSource):
    """A source whose rows restart with every read."""

    def rows(self, start_row: int, n_rows: int) -> Batch:
        return super().rows(0, n_rows)


@pytest.mark.catches("replayed-rows-differ")
def test_earlier_rows_that_begin_again_with_every_batch(pretrain: TrainingCase) -> None:
    earlier = BeginsAgain(pretrain.shards, pretrain.source.seq_len, 99)
    assert first_failure(ReplaySource(pretrain.source, earlier, 0.25)) == "replayed-rows-differ"


@pytest.mark.catches("rows-change")
def test_rows_that_depend_on_where_the_batch_begins(sides: tuple[BatchSource, BatchSource]) -> None:
    def later(batch: Batch, start: int) -> Batch:
        return replace(batch, position_ids=batch.position_ids + (start > 1))

    assert broken(sides, later) == "rows-change"


@pytest.mark.catches("replayed-rows-differ")
def test_a_share_that_differs_from_the_setting(
    sides: tuple[BatchSource, BatchSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReplaySource, "n_replay_rows", lambda self, row: row // 2)
    assert first_failure(ReplaySource(*sides, 0.25)) == "replayed-rows-differ"


def test_batches_of_different_types_cannot_be_mixed(pretrain: TrainingCase) -> None:
    batch = pretrain.source.rows(0, 1)
    with pytest.raises(AssertionError):
        sources._interleave(batch, object(), np.array([False, True]))  # type: ignore[type-var]
