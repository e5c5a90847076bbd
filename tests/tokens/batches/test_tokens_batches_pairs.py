"""Span corruption and prefixes: source and target together are the text, and nothing else."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.common.errors import UserError
from parakit.tokens import BatchSource, Tokenizer, TokenizerConfig, TokenShards, train_tokenizer
from parakit.tokens.batches.batch import PairBatch, PrefixBatch
from parakit.tokens.batches.prefix_lm import PrefixSource
from parakit.tokens.batches.span_corruption import SpanCorruptionSource, raw_seq_len, span_counts
from parakit.tokens.batches.vocab_info import VocabInfo

PAD, EOS, UNK, START, FIRST_SENTINEL, N_SENTINELS, TEXT = 0, 1, 2, 3, 4, 100, 104
SPECIAL = np.arange(2000) < TEXT
FACTS = VocabInfo(
    special=SPECIAL,
    ordinary_ids=np.flatnonzero(~SPECIAL),
    opens_word=SPECIAL,
    closes_word=SPECIAL,
    unk_id=UNK,
    eos_id=EOS,
    pad_id=PAD,
    sentinel_ids=tuple(range(FIRST_SENTINEL, FIRST_SENTINEL + N_SENTINELS)),
)
LENGTHS = st.lists(st.integers(0, 60), min_size=1, max_size=10).filter(any)
Pair = tuple[list[int], list[int], list[int]]


def shards_of(lengths: list[int]) -> TokenShards:
    """Documents of tokens that are all different, an unknown one here and there, each closed by EOS."""
    documents, at = [], TEXT
    for n in lengths:
        text = np.arange(at, at + n)
        text[::13] = UNK
        documents.append(np.concatenate([text, [EOS]]))
        at += n
    offsets = np.concatenate([[0], np.cumsum([len(document) for document in documents])])
    return TokenShards(np.concatenate(documents).astype(np.uint16), offsets, pad_id=PAD)


def plain_rows(lengths: list[int], seq_len: int, seed: int, first: int, n: int) -> list[list[list[int]]]:
    """The pieces of text in each row, without EOS."""
    batch = BatchSource(shards_of(lengths), seq_len, seed, shift=0).rows(first, n)
    rows = []
    for token_ids, documents in zip(batch.input_ids, batch.document_ids, strict=True):
        pieces = [token_ids[documents == d].tolist() for d in range(documents.max() + 1)]
        rows.append(pieces)
    return rows


def pairs_of(batch: PairBatch) -> list[list[Pair]]:
    """(source, input, target) of every pair, by row; checks what every batch must hold."""
    assert np.array_equal(batch.loss_mask.sum(), batch.n_counted)
    assert not (batch.target_ids[~batch.loss_mask] != PAD).any()
    assert not (batch.source_ids[~batch.source_mask] != PAD).any()
    rows = []
    for row in range(len(batch.source_ids)):
        if batch.document_ids is None or batch.source_document_ids is None:
            sources, targets = batch.source_mask[row] - 1, batch.loss_mask[row] - 1
        else:
            sources, targets = batch.source_document_ids[row], batch.document_ids[row]
        assert np.array_equal(sources >= 0, batch.source_mask[row])
        assert np.array_equal(targets >= 0, batch.loss_mask[row])
        assert sources.max() == targets.max()
        rows.append(
            [
                (
                    batch.source_ids[row, sources == d].tolist(),
                    batch.input_ids[row, targets == d].tolist(),
                    batch.target_ids[row, targets == d].tolist(),
                )
                for d in range(sources.max() + 1)
            ]
        )
    return rows


def is_sentinel(token_id: int) -> bool:
    return FIRST_SENTINEL <= token_id < FIRST_SENTINEL + N_SENTINELS


def restored(source: list[int], target: list[int]) -> list[int]:
    """The text of a corrupted pair, by reading each sentinel's span in the target."""
    assert source[-1] == target[-1] == EOS
    spans: dict[int, list[int]] = {}
    for token_id in target[:-1]:
        if is_sentinel(token_id):
            assert token_id not in spans
            spans[token_id] = []
        else:
            spans[max(spans)].append(token_id)
    text = []
    for token_id in source[:-1]:
        text += spans[token_id] if is_sentinel(token_id) else [token_id]
    return text


@given(lengths=LENGTHS, seq_len=st.integers(1, 40), seed=st.integers(0, 5), first=st.integers(0, 20))
def test_a_corrupted_source_and_its_target_restore_the_text(
    lengths: list[int], seq_len: int, seed: int, first: int
) -> None:
    source = SpanCorruptionSource(BatchSource(shards_of(lengths), seq_len, seed, shift=0), FACTS, START)
    batch = source.rows(first, 3)
    assert max(batch.source_ids.shape[1], batch.target_ids.shape[1]) <= seq_len
    texts = plain_rows(lengths, seq_len, seed, first, 3)
    for pairs, pieces in zip(pairs_of(batch), texts, strict=True):
        found = iter(pairs)
        for piece in pieces:
            text = [token_id for token_id in piece if token_id != EOS]
            if len(text) < 2 or (piece[-1] != EOS and len(text) < 10):
                continue  # nothing to hide, or a window of a few tokens that would grow
            given_ids, inputs, target = next(found)
            assert restored(given_ids, target) == text
            assert inputs == [START, *target[:-1]]
            sentinels = [token_id for token_id in given_ids if is_sentinel(token_id)]
            assert sentinels == list(FACTS.sentinel_ids[: len(sentinels)])
            assert sentinels == [token_id for token_id in target if is_sentinel(token_id)]
            assert not is_sentinel(
                given_ids[0]
            )  # a text begins with what is kept and ends with what is hidden
            assert is_sentinel(given_ids[-2])
            n_hidden = len(target) - len(sentinels) - 1
            assert n_hidden == max(1, round(0.15 * len(text)))
            assert all(not (is_sentinel(a) and is_sentinel(b)) for a, b in pairwise(given_ids))
        assert next(found, None) is None


@given(
    lengths=LENGTHS,
    seq_len=st.integers(2, 40),
    first=st.integers(0, 30),
    cuts=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    prefixes=st.booleans(),
)
def test_pairs_are_the_same_however_they_are_asked_for(
    lengths: list[int], seq_len: int, first: int, cuts: list[int], prefixes: bool
) -> None:
    def fresh() -> PrefixSource | SpanCorruptionSource:
        source = BatchSource(shards_of(lengths), seq_len, 7, shift=0)
        return (PrefixSource if prefixes else SpanCorruptionSource)(source, FACTS, START)

    whole = fresh().rows(first, sum(cuts))
    assert isinstance(whole, PairBatch)
    parts, again = [], fresh()
    for start, n in zip(first + np.cumsum([0, *cuts[:-1]]), cuts, strict=True):
        part = again.rows(int(start), n)
        assert isinstance(part, PairBatch)
        parts += pairs_of(part)
    assert pairs_of(whole) == parts


def test_long_texts_hide_fifteen_percent_in_spans_of_three() -> None:
    source = SpanCorruptionSource(BatchSource(shards_of([511] * 3), 512, 0, shift=0), FACTS, START)
    n_hidden, spans, kept = 0, [], []
    for [(given_ids, _, target)] in pairs_of(source.rows(0, 60)):
        marks = [i for i, token_id in enumerate(target) if is_sentinel(token_id)] + [len(target) - 1]
        spans += [end - begin - 1 for begin, end in pairwise(marks)]
        n_hidden += sum(end - begin - 1 for begin, end in pairwise(marks))
        kept += [i for i, token_id in enumerate(given_ids) if is_sentinel(token_id)][:1]
    assert n_hidden == 60 * round(511 * 0.15)
    assert len(spans) == 60 * round(round(511 * 0.15) / 3)
    assert min(spans) == 1
    assert max(spans) > 8  # lengths differ as random cuts do
    assert len(set(kept)) > 20  # the first span begins anywhere


def test_all_ways_to_cut_are_equally_likely() -> None:
    """Of eleven tokens five are hidden in three spans: six ways to cut the five, ten to cut the six."""
    source = SpanCorruptionSource(
        BatchSource(shards_of([11]), 12, 0, shift=0), FACTS, START, density=0.45, mean_span=5 / 3
    )
    n_draws = 6000
    found: Counter[tuple[tuple[int, ...], tuple[int, ...]]] = Counter()
    for [(given_ids, _, target)] in pairs_of(source.rows(0, n_draws)):
        marks = [i for i, token_id in enumerate(given_ids) if is_sentinel(token_id)]
        kept = tuple(end - begin - 1 for begin, end in pairwise([-1, *marks]))
        marks = [i for i, token_id in enumerate(target) if is_sentinel(token_id)] + [len(target) - 1]
        found[kept, tuple(end - begin - 1 for begin, end in pairwise(marks))] += 1
    ways = [{(a, b, n - a - b) for a in range(1, n - 1) for b in range(1, n - a)} for n in (6, 5)]
    assert set(found) == {(kept, hidden) for kept in ways[0] for hidden in ways[1]}
    expected = n_draws / 60
    chi_squared = sum((n - expected) ** 2 / expected for n in found.values())
    assert chi_squared < 59 + 4 * (2 * 59) ** 0.5


def test_lengths_are_those_that_t5_was_trained_with() -> None:
    """512 tokens of input hold 568 of text, and 114 of target (the published settings of T5 v1.0)."""
    n_text = raw_seq_len(512)
    [n_hidden], [n_spans] = span_counts(np.array([n_text]), 0.15, 3.0, 100)
    assert (n_text, n_text - n_hidden + n_spans + 1, n_hidden + n_spans + 1) == (568, 512, 114)
    for limit in (8, 33, 100):
        rows = SpanCorruptionSource(
            BatchSource(shards_of([1500]), raw_seq_len(limit), 0, shift=0), FACTS, START
        )
        assert rows.rows(0, 8).source_ids.shape[1] <= limit


def test_more_spans_than_sentinels_make_longer_spans() -> None:
    facts = VocabInfo(**vars(FACTS) | {"sentinel_ids": FACTS.sentinel_ids[:2]})
    source = SpanCorruptionSource(BatchSource(shards_of([300]), 301, 0, shift=0), facts, START)
    [[(given_ids, _, target)]] = pairs_of(source.rows(0, 1))
    assert sum(map(is_sentinel, given_ids)) == 2
    assert len(target) == 2 + round(0.15 * 300) + 1


def test_sentinels_come_from_the_tokenizer() -> None:
    texts = ["the cat sat on the mat", "seven small dogs said hello"] * 5
    tokenizer = train_tokenizer(texts, TokenizerConfig(vocab_size=320, n_sentinels=4))
    facts = VocabInfo.from_tokenizer(tokenizer)
    assert [tokenizer.token(i) for i in facts.sentinel_ids] == [f"<extra_id_{n}>" for n in range(4)]
    assert facts.special[list(facts.sentinel_ids)].all()
    plain = train_tokenizer(texts, TokenizerConfig(vocab_size=320))
    with pytest.raises(UserError, match="<extra_id_0>"):
        SpanCorruptionSource(
            BatchSource(shards_of([9]), 8, 0, shift=0), VocabInfo.from_tokenizer(plain), START
        )


def test_what_opens_a_document_opens_both_sides() -> None:
    """BART's documents are BOS text EOS."""
    facts = VocabInfo(**vars(FACTS) | {"special": np.isin(np.arange(2000), [PAD, EOS, UNK, START])})
    document = np.array([START, *range(200, 220), EOS], np.uint16)
    shards = TokenShards(document, np.array([0, 22]), pad_id=PAD)
    for kind in (PrefixSource, SpanCorruptionSource):
        [[(source, _, target)]] = pairs_of(kind(BatchSource(shards, 22, 0, shift=0), facts, EOS).rows(0, 1))
        assert source[0] == target[0] == START
        assert source[-1] == target[-1] == EOS


@given(lengths=LENGTHS, seq_len=st.integers(2, 40), seed=st.integers(0, 5), first=st.integers(0, 20))
def test_a_prefix_and_its_rest_are_the_text(lengths: list[int], seq_len: int, seed: int, first: int) -> None:
    source = PrefixSource(BatchSource(shards_of(lengths), seq_len, seed, shift=0), FACTS, START)
    batch = source.rows(first, 3)
    assert isinstance(batch, PairBatch)
    assert max(batch.source_ids.shape[1], batch.target_ids.shape[1]) <= seq_len
    texts = plain_rows(lengths, seq_len, seed, first, 3)
    for pairs, pieces in zip(pairs_of(batch), texts, strict=True):
        texts_of_row = [[token_id for token_id in piece if token_id != EOS] for piece in pieces]
        assert [given_ids[:-1] + target[:-1] for given_ids, _, target in pairs] == [
            text for text in texts_of_row if len(text) > 1
        ]
        for given_ids, inputs, target in pairs:
            assert given_ids[-1] == target[-1] == EOS
            assert min(len(given_ids), len(target)) > 1
            assert inputs == [START, *target[:-1]]


def test_a_text_is_cut_at_every_place_equally_often() -> None:
    source = PrefixSource(BatchSource(shards_of([10]), 11, 0, shift=0), FACTS, START)
    n_draws = 1800
    batch = source.rows(0, n_draws)
    assert isinstance(batch, PairBatch)
    lengths = Counter((batch.source_mask.sum(1) - 1).tolist())
    assert set(lengths) == set(range(1, 10))
    assert all(abs(n - n_draws / 9) < 4 * (n_draws / 9) ** 0.5 for n in lengths.values())


@given(
    lengths=LENGTHS,
    seq_len=st.integers(1, 40),
    first=st.integers(0, 20),
    cuts=st.lists(st.integers(1, 3), min_size=1, max_size=3),
)
def test_a_decoder_learns_what_follows_each_prefix(
    lengths: list[int], seq_len: int, first: int, cuts: list[int]
) -> None:
    source = PrefixSource(BatchSource(shards_of(lengths), seq_len, 2), FACTS)
    batch, plain = source.rows(first, sum(cuts)), source.source.rows(first, sum(cuts))
    assert isinstance(batch, PrefixBatch)
    assert np.array_equal(batch.input_ids, plain.input_ids)
    assert np.array_equal(batch.target_ids, plain.target_ids)
    assert batch.n_counted == batch.loss_mask.sum()
    for row, documents in enumerate(batch.document_ids):
        assert not batch.prefix_mask[row, documents < 0].any()
        for number in range(documents.max() + 1):
            prefix = batch.prefix_mask[row, documents == number]
            n = int(prefix.sum())
            assert n >= 1
            assert prefix[:n].all()  # it leads its document
            counted = batch.loss_mask[row, documents == number]
            assert np.array_equal(counted, np.arange(len(prefix)) >= n - 1)  # its last token predicts
            if number == 0:
                assert batch.prefix_lengths[row] == n
    start = first
    for n in cuts:
        part = PrefixSource(BatchSource(shards_of(lengths), seq_len, 2), FACTS).rows(start, n)
        assert isinstance(part, PrefixBatch)
        rows = slice(start - first, start - first + n)
        assert np.array_equal(part.prefix_mask, batch.prefix_mask[rows])
        assert np.array_equal(part.loss_mask, batch.loss_mask[rows])
        start += n


def test_a_tokenizer_without_eos_is_refused(byte_bpe: Tokenizer) -> None:
    facts = VocabInfo(**vars(VocabInfo.from_tokenizer(byte_bpe)) | {"eos_id": None})
    for kind in (PrefixSource, SpanCorruptionSource):
        with pytest.raises(UserError, match="EOS"):
            kind(BatchSource(shards_of([9]), 8, 0, shift=0), facts, START)
