"""Replay: exactly the share asked for in every stretch, rows unchanged, and the same whoever asks and whenever."""

from __future__ import annotations

from dataclasses import fields
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.tokens.batches.batch import Batch
from parakit.tokens.batches.masking import MaskedSource
from parakit.tokens.batches.prefix_lm import PrefixSource
from parakit.tokens.batches.replay import ReplaySource
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.batches.vocab_info import VocabInfo
from parakit.tokens.shards import TokenShards

SEQ_LEN, PAD, CLS, SEP, MASK, EOS, VOCAB_SIZE = 8, 0, 1, 2, 3, 4, 40
SPECIAL = np.arange(VOCAB_SIZE) <= EOS
FACTS = VocabInfo(
    special=SPECIAL,
    ordinary_ids=np.flatnonzero(~SPECIAL),
    opens_word=SPECIAL,
    closes_word=SPECIAL,
    unk_id=None,
    mask_id=MASK,
    cls_id=CLS,
    sep_id=SEP,
    eos_id=EOS,
    pad_id=PAD,
)
SHARES = st.one_of(
    st.sampled_from([0.0, 0.1, 0.25, 0.29, 0.5, 0.7, 0.99]),
    st.floats(0, 0.999),
)


def shards(seed: int, n_documents: int = 20, masked: bool = False) -> TokenShards:
    """Documents of 2 to 30 tokens; the earlier ones (seed 1) are of other tokens than the new."""
    generator = np.random.default_rng(seed)
    documents = [
        generator.integers(5 + 15 * seed, 20 + 15 * seed, n) for n in generator.integers(2, 30, n_documents)
    ]
    ids = np.concatenate(documents).astype(np.uint16)
    mask = (generator.random(len(ids)) < 0.5).astype(np.uint8) if masked else None
    return TokenShards(ids, np.cumsum([0, *map(len, documents)]), mask, vocab_size=VOCAB_SIZE, pad_id=PAD)


NEW, EARLIER = BatchSource(shards(0), SEQ_LEN, 3), BatchSource(shards(1), SEQ_LEN, 3)
CHAT = BatchSource(shards(1, masked=True), SEQ_LEN, 3, "pack")


def assert_equal(one: Batch, other: Batch) -> None:
    assert type(one) is type(other)
    for field in fields(one):
        assert np.array_equal(getattr(one, field.name), getattr(other, field.name)), field.name


def content(batch: Batch) -> list[bytes]:
    """Every row, all its arrays."""
    arrays = [value for field in fields(batch) if isinstance(value := getattr(batch, field.name), np.ndarray)]
    return [b"".join(array[row].tobytes() for array in arrays) for row in range(len(batch.input_ids))]


@given(SHARES, st.integers(0, 100_000), st.integers(1, 200))
def test_any_stretch_of_rows_holds_the_share_to_within_one_row(share: float, start: int, n: int) -> None:
    source = ReplaySource(NEW, EARLIER, share)
    assert abs(int(source.is_replay(start, n).sum()) - float(source.share) * n) < 1 + 1e-9
    assert abs(float(source.share) - share) <= 1e-6


@pytest.mark.parametrize(
    ("share", "n", "wanted"), [(0.25, 4, 1), (0.1, 30, 3), (0.29, 100, 29), (0.7, 1000, 700)]
)
def test_whole_periods_hold_exactly_the_share_wherever_they_begin(share: float, n: int, wanted: int) -> None:
    source = ReplaySource(NEW, EARLIER, share)
    for start in (0, 1, 7, 10**6 + 3, 10**12 + 1):
        assert int(source.is_replay(start, n).sum()) == wanted
    assert source.share == Fraction(str(share))


@given(SHARES, st.integers(0, 300), st.integers(1, 40))
def test_a_row_is_the_same_alone_and_in_any_batch(share: float, start: int, n: int) -> None:
    source = ReplaySource(NEW, CHAT, share)
    together = source.rows(start, n)
    assert_equal(together, ReplaySource(NEW, CHAT, share).rows(start, n))
    alone = [source.rows(start + i, 1) for i in range(n)]
    assert content(together) == [row for one in alone for row in content(one)]
    assert together.n_counted == sum(one.n_counted for one in alone) == int(together.loss_mask.sum())
    assert together.single_document == all(one.single_document for one in alone)


@given(SHARES, st.integers(1, 120))
def test_each_side_keeps_its_own_order_and_loses_no_row(share: float, n: int) -> None:
    source = ReplaySource(NEW, EARLIER, share)
    batch, earlier = content(source.rows(0, n)), source.is_replay(0, n)
    for side, chosen in ((NEW, ~earlier), (EARLIER, earlier)):
        rows = [row for row, here in zip(batch, chosen, strict=True) if here]
        assert rows == (content(side.rows(0, len(rows))) if rows else [])


def test_an_epoch_is_a_pass_over_the_new_rows() -> None:
    source = ReplaySource(NEW, EARLIER, 0.25)
    n = round(source.rows_per_epoch)
    assert n - source.n_replay_rows(n) == NEW.rows_per_epoch
    assert ReplaySource(NEW, EARLIER, 0).rows_per_epoch == NEW.rows_per_epoch


def test_nothing_replayed_is_the_new_source_itself() -> None:
    assert_equal(ReplaySource(NEW, EARLIER, 0.0).rows(5, 9), NEW.rows(5, 9))


def test_rows_that_hide_tokens_are_mixed_too() -> None:
    masked = [
        MaskedSource(BatchSource(shards(seed), SEQ_LEN, 3, shift=0), FACTS, rate=0.3) for seed in (0, 1)
    ]
    prefixed = [PrefixSource(BatchSource(shards(seed), SEQ_LEN, 3), FACTS) for seed in (0, 1)]
    for new, earlier in (masked, prefixed):
        batch = ReplaySource(new, earlier, 0.4).rows(10, 10)  # type: ignore[type-var]
        assert type(batch) is type(new.rows(0, 1))
        assert sorted(content(batch)) == sorted(content(new.rows(6, 6)) + content(earlier.rows(4, 4)))
