"""Batches are a pure function of (seed, row): exact epochs, isolated documents, any slicing, any restart."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.common.errors import UserError
from parakit.tokens import BatchSource, TokenShards
from parakit.tokens.batches.batch import Batch
from parakit.tokens.batches.packing import best_fit_decreasing
from parakit.tokens.batches.source import evaluation_batches, rank_rows

LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=30).filter(lambda ns: max(ns) > 1)
SEQ_LEN = st.integers(1, 12)


def shards_of(lengths: list[int], masked: bool = False) -> TokenShards:
    """Token i of the split is simply i, so that every token can be told from every other."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    token_ids = np.arange(1, offsets[-1] + 1, dtype=np.uint32)
    loss_mask = (token_ids * 7 % 3 > 0).astype(np.uint8) if masked else None
    return TokenShards(token_ids, offsets, loss_mask, pad_id=0)


def all_pairs(shards: TokenShards, documents: list[int] | None = None) -> Counter[tuple[int, int]]:
    """(input, target) of every neighbouring pair within a document, or within these."""
    chosen = range(shards.n_documents) if documents is None else documents
    edges = [shards.offsets[i : i + 2].tolist() for i in chosen]
    return Counter((i, i + 1) for begin, end in edges for i in range(begin + 1, end))


def teaching(shards: TokenShards) -> list[int]:
    """The documents with a counted target; all with a target where none counts."""
    mask = np.ones(shards.n_tokens) if shards.loss_mask is None else shards.loss_mask
    edges = [shards.offsets[i : i + 2].tolist() for i in range(shards.n_documents)]
    targets = [i for i, (begin, end) in enumerate(edges) if end - begin > 1]
    return [i for i in targets if mask[edges[i][0] + 1 : edges[i][1]].any()] or targets


def pairs_in(batch: Batch) -> list[tuple[int, int]]:
    real = batch.document_ids >= 0
    return list(zip(batch.input_ids[real].tolist(), batch.target_ids[real].tolist(), strict=True))


def assert_sound(batch: Batch, shards: TokenShards) -> None:
    """What every batch must hold, whatever made it."""
    ends = set(shards.offsets.tolist())
    for row in range(len(batch.input_ids)):
        documents, inputs = batch.document_ids[row], batch.input_ids[row]
        for t in range(len(inputs)):
            if documents[t] < 0:
                assert not batch.loss_mask[row, t]
                assert inputs[t] == 0
                continue
            assert batch.target_ids[row, t] == inputs[t] + 1
            assert inputs[t] not in ends  # no target is in another document
            continues = t > 0 and documents[t] == documents[t - 1]
            assert batch.position_ids[row, t] == (batch.position_ids[row, t - 1] + 1 if continues else 0)
            if continues:
                assert inputs[t] == inputs[t - 1] + 1
            elif t:
                assert documents[t] == documents[t - 1] + 1
    if shards.loss_mask is not None:
        counted = shards.loss_mask[batch.target_ids[batch.loss_mask] - 1]
        assert counted.all()
    assert batch.n_counted == batch.loss_mask.sum()
    assert batch.single_document == (batch.document_ids.max() <= 0)


@given(lengths=LENGTHS, seq_len=SEQ_LEN, seed=st.integers(0, 5), masked=st.booleans())
def test_stream_epochs_are_exact(lengths: list[int], seq_len: int, seed: int, masked: bool) -> None:
    shards = shards_of(lengths, masked)
    source = BatchSource(shards, seq_len, seed)
    n_rows = int(source.rows_per_epoch)
    assert source.n_pairs_per_epoch == all_pairs(shards).total() == sum(max(n - 1, 0) for n in lengths)
    for epoch in range(3):
        batch = source.rows(epoch * n_rows, n_rows)
        assert_sound(batch, shards)
        assert Counter(pairs_in(batch)) == all_pairs(shards)
        assert (batch.document_ids < 0).sum() < seq_len  # at most one row an epoch is not full
        real = batch.document_ids >= 0
        wanted = shards.loss_mask[batch.target_ids - 1] > 0 if masked else real
        assert np.array_equal(batch.loss_mask, wanted & real)


def test_a_long_document_is_cut_into_rows_of_their_own() -> None:
    source = BatchSource(shards_of([100]), 8, 0)
    batch = source.rows(0, int(source.rows_per_epoch))
    alone = (batch.document_ids == 0).all(axis=1)
    assert alone.sum() >= 11  # of 99 pairs all but the two ends of the document


@given(
    lengths=st.lists(st.integers(0, 13), min_size=1, max_size=30).filter(lambda ns: max(ns) > 1),
    seed=st.integers(0, 5),
    masked=st.booleans(),
)
def test_whole_epochs_are_exact_and_never_cut(lengths: list[int], seed: int, masked: bool) -> None:
    shards = shards_of(lengths, masked)
    source = BatchSource(shards, 12, seed, packing="pack")
    n_rows = int(source.rows_per_epoch)
    for epoch in range(2):
        batch = source.rows(epoch * n_rows, n_rows)
        assert_sound(batch, shards)
        taken = teaching(shards)
        assert Counter(pairs_in(batch)) == all_pairs(shards, taken)
        assert int((batch.position_ids == 0)[batch.document_ids >= 0].sum()) == len(taken)
    assert source.long_rows is not None
    assert source.long_rows.n_long == 0
    assert source.long_rows.n_left_out == len(lengths) - len(taken)


@pytest.mark.parametrize("packing", ["concat", "pack"])
@given(lengths=LENGTHS, seed=st.integers(0, 3), start=st.integers(0, 500), n=st.integers(1, 9))
def test_a_row_does_not_depend_on_who_asks(
    packing: str, lengths: list[int], seed: int, start: int, n: int
) -> None:
    shards = shards_of(lengths, masked=True)
    together = BatchSource(shards, 7, seed, packing).rows(start, n)
    other = BatchSource(shards, 7, seed, packing)
    for i in reversed(range(n)):
        alone = other.rows(start + i, 1)
        for name in ("input_ids", "target_ids", "loss_mask", "document_ids", "position_ids"):
            assert np.array_equal(getattr(alone, name)[0], getattr(together, name)[i]), name


@given(n_rows=st.integers(1, 64), step=st.integers(0, 1000))
def test_ranks_together_take_every_row_of_a_step_once(n_rows: int, step: int) -> None:
    for world_size in (1, 2, 4):
        taken = [rank_rows(step, n_rows, rank, world_size) for rank in range(world_size)]
        rows = [row for first, n in taken for row in range(first, first + n)]
        assert rows == list(range(step * n_rows, (step + 1) * n_rows))


def test_one_two_and_four_ranks_see_the_same_rows() -> None:
    source = BatchSource(shards_of([9, 30, 4, 17, 2]), 8, 0)
    whole = source.rows(*rank_rows(5, 8)).input_ids
    for world_size in (2, 4):
        parts = [source.rows(*rank_rows(5, 8, rank, world_size)).input_ids for rank in range(world_size)]
        assert np.array_equal(np.concatenate(parts), whole)


def test_seeds_and_epochs_differ_and_cuts_move() -> None:
    shards = shards_of([50, 3, 80, 12])
    first, second = (BatchSource(shards, 8, seed) for seed in (0, 1))
    assert not np.array_equal(first.rows(0, 8).input_ids, second.rows(0, 8).input_ids)
    n_rows = int(first.rows_per_epoch)
    epochs = [first.rows(epoch * n_rows, n_rows) for epoch in range(4)]
    cuts = {frozenset(batch.input_ids[batch.position_ids == 0].tolist()) for batch in epochs}
    assert len(cuts) > 1
    assert first.epoch_of(0) == 0
    assert first.epoch_of(3 * n_rows) == 3


def test_nothing_to_predict_is_an_error() -> None:
    for packing in ("concat", "pack"):
        with pytest.raises(UserError, match="no token to predict"):
            BatchSource(shards_of([1, 0, 1]), 8, 0, packing)


@given(
    lengths=st.lists(st.integers(0, 40), max_size=30),
    seq_len=st.integers(2, 12),
    rows=st.integers(1, 5),
    overlap=st.integers(0, 11),
    masked=st.booleans(),
    n_ends=st.integers(0, 2),
)
def test_evaluation_predicts_every_token_once(
    lengths: list[int], seq_len: int, rows: int, overlap: int, masked: bool, n_ends: int
) -> None:
    shards = shards_of(lengths, masked)
    overlap = min(overlap, seq_len - 1)
    counted: Counter[tuple[int, int]] = Counter()
    ends = np.clip(np.array(lengths, np.int64) - 1, 0, n_ends)
    batches = list(evaluation_batches(shards, seq_len, rows, overlap, ends))
    for batch in batches:
        assert_sound(batch, shards)
        kept = batch.loss_mask
        counted.update(zip(batch.input_ids[kept].tolist(), batch.target_ids[kept].tolist(), strict=True))
    wanted = all_pairs(shards)
    if masked:
        wanted = Counter({pair: n for pair, n in wanted.items() if shards.loss_mask[pair[1] - 1]})
    assert counted == wanted
    assert sum(batch.n_counted for batch in batches) == shards.n_counted
    assert [len(batch.input_ids) for batch in batches[:-1]] == [rows] * (len(batches) - 1)


def test_later_windows_carry_their_context() -> None:
    (batch,) = evaluation_batches(shards_of([12]), 6, 8, overlap=2)
    assert batch.input_ids[:2].tolist() == [[1, 2, 3, 4, 5, 6], [5, 6, 7, 8, 9, 10]]
    assert batch.loss_mask[1].tolist() == [False, False, True, True, True, True]
    (batch,) = evaluation_batches(shards_of([10]), 6, 8, overlap=1)
    assert batch.input_ids[:2].tolist() == [[1, 2, 3, 4, 5, 6], [4, 5, 6, 7, 8, 9]], "the last has what fits"
    assert batch.loss_mask[1].tolist() == [False, False, False, True, True, True]
    batches = list(
        evaluation_batches(shards_of([10]), 6, 8, 1, np.array([2]))
    )  # two of its tokens are no text
    assert batches[0].input_ids[:3].tolist() == [[1, 2, 3, 4, 5, 6], [2, 3, 4, 5, 6, 7], [4, 5, 6, 7, 8, 9]]
    assert batches[0].loss_mask[:3].sum(1).tolist() == [6, 1, 2]
    with pytest.raises(UserError, match="overlap 6"):
        next(evaluation_batches(shards_of([12]), 6, 8, overlap=6))


def test_rows_for_evaluation_are_as_long_as_their_texts() -> None:
    shards = shards_of([1500, 30, 40, 900, 700, 20])
    batches = list(evaluation_batches(shards, 1024, 2))
    assert [batch.input_ids.shape for batch in batches] == [(2, 1024), (2, 899), (1, 87)]
    assert all(batch.single_document for batch in batches[:2])
    assert sum(batch.n_counted for batch in batches) == 1499 + 29 + 39 + 899 + 699 + 19
    [only] = evaluation_batches(shards_of([30, 20]), 8192, 1)
    assert only.input_ids.shape == (1, 48)


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=60))
def test_best_fit_decreasing_equals_the_plain_rule(lengths: list[int]) -> None:
    ordered = sorted(lengths, reverse=True)
    rows = best_fit_decreasing(np.array(ordered), 20)
    free: list[int] = []
    for length in ordered:
        fitting = [space for space in free if space >= length]
        if fitting:
            free[free.index(min(fitting))] -= length
        else:
            free.append(20 - length)
    used = np.bincount(rows, weights=ordered)
    assert sorted(20 - used) == sorted(free)
    assert used.max() <= 20


def test_single_document_is_said_only_when_true() -> None:
    source = BatchSource(shards_of([100]), 4, 0)
    singles = [source.rows(row, 1) for row in range(20)]
    assert all(b.single_document == (b.document_ids.max() == 0) for b in singles)
    assert any(b.single_document for b in singles)
