"""Masked tokens: the right share, the right kind of token, whole words, the same rows for everyone who asks."""

from __future__ import annotations

import re
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.common.errors import UserError
from parakit.tokens import BatchSource, Tokenizer, TokenShards
from parakit.tokens.batches.batch import MaskedBatch
from parakit.tokens.batches.masking import MaskedSource
from parakit.tokens.batches.vocab_info import VocabInfo

PAD, UNK, CLS, SEP, MASK, EOS, VOCAB_SIZE = 0, 1, 2, 3, 4, 5, 60
SPECIAL = np.arange(VOCAB_SIZE) <= EOS
FACTS = VocabInfo(
    special=SPECIAL,
    ordinary_ids=np.flatnonzero(~SPECIAL),
    opens_word=SPECIAL | (np.arange(VOCAB_SIZE) % 3 == 0),
    closes_word=SPECIAL | (np.arange(VOCAB_SIZE) % 11 == 0),
    unk_id=UNK,
    mask_id=MASK,
    cls_id=CLS,
    sep_id=SEP,
    eos_id=EOS,
    pad_id=PAD,
)
LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any)


def shards_of(lengths: list[int], seed: int = 0) -> TokenShards:
    """Documents of random ordinary tokens and a few unknown ones, encoded for an encoder."""
    generator = np.random.default_rng(seed)
    documents = [
        np.concatenate([[CLS], np.where(generator.random(n) < 0.1, UNK, generator.integers(6, 60, n)), [SEP]])
        for n in lengths
    ]
    offsets = np.concatenate([[0], np.cumsum([len(document) for document in documents])])
    return TokenShards(np.concatenate(documents).astype(np.uint16), offsets, pad_id=PAD)


def source_of(
    lengths: list[int], seq_len: int = 16, seed: int = 3, rate: float = 0.15, whole_word: bool = False
) -> MaskedSource:
    source = BatchSource(shards_of(lengths), seq_len, seed, shift=0)
    return MaskedSource(source, FACTS, rate=rate, whole_word=whole_word)


def assert_equal(one: MaskedBatch, other: MaskedBatch) -> None:
    for field in fields(one):
        assert np.array_equal(getattr(one, field.name), getattr(other, field.name)), field.name


def joined(batches: list[MaskedBatch]) -> dict[str, np.ndarray]:
    names = ("input_ids", "target_ids", "loss_mask", "document_ids", "position_ids")
    return {name: np.concatenate([getattr(batch, name) for batch in batches]) for name in names}


@given(
    lengths=LENGTHS,
    seq_len=st.integers(1, 24),
    seed=st.integers(0, 5),
    rate=st.sampled_from([0.15, 0.3, 1.0]),
    whole_word=st.booleans(),
    first=st.integers(0, 50),
    cuts=st.lists(st.integers(1, 4), min_size=1, max_size=4),
)
def test_masked_rows_are_sound_and_the_same_however_they_are_asked_for(
    lengths: list[int],
    seq_len: int,
    seed: int,
    rate: float,
    whole_word: bool,
    first: int,
    cuts: list[int],
) -> None:
    source = source_of(lengths, seq_len, seed, rate, whole_word)
    batch = source.rows(first, sum(cuts))
    starts = first + np.cumsum([0, *cuts[:-1]])
    again = source_of(lengths, seq_len, seed, rate, whole_word)
    parts = [again.rows(int(start), n) for start, n in zip(starts, cuts, strict=True)]
    for name, values in joined(parts).items():
        assert np.array_equal(getattr(batch, name), values), name
    real, chosen = batch.document_ids >= 0, batch.loss_mask
    assert batch.n_counted == chosen.sum()
    assert not (chosen & ~real).any()
    assert not SPECIAL[batch.target_ids[chosen]].any()
    assert np.array_equal(batch.input_ids[~chosen], batch.target_ids[~chosen])
    shown = batch.input_ids[chosen]
    assert ((shown == MASK) | ~SPECIAL[shown]).all()
    assert batch.single_document == (bool(real.all()) and batch.document_ids.max() == 0)
    eligible = (real & ~SPECIAL[batch.target_ids]).sum(1)
    if not whole_word:
        assert np.array_equal(chosen.sum(1), np.maximum(np.round(rate * eligible), eligible > 0))


@given(lengths=LENGTHS, seed=st.integers(0, 20), rate=st.sampled_from([0.15, 0.5]))
def test_whole_words_are_chosen_and_come_nearest_to_the_rate(
    lengths: list[int], seed: int, rate: float
) -> None:
    batch = source_of(lengths, 32, seed, rate, whole_word=True).rows(0, 4)
    for row in range(4):
        words: list[list[int]] = []  # places of each word's eligible tokens
        for t, token_id in enumerate(batch.target_ids[row].tolist()):
            new_piece = t == 0 or batch.document_ids[row, t] != batch.document_ids[row, t - 1]
            before = None if new_piece else int(batch.target_ids[row, t - 1])
            if before is None or FACTS.opens_word[token_id] or FACTS.closes_word[before]:
                words.append([])
            if batch.document_ids[row, t] >= 0 and not SPECIAL[token_id]:
                words[-1].append(t)
        words = [word for word in words if word]
        shares = [set(batch.loss_mask[row, word].tolist()) for word in words]
        assert all(len(share) == 1 for share in shares)  # all of a word or nothing of it
        n_words = sum(share == {True} for share in shares)
        assert n_words >= bool(words)
        wanted = round(rate * sum(map(len, words)))
        off = abs(int(batch.loss_mask[row].sum()) - wanted)
        assert n_words <= 1 or 2 * off <= max(map(len, words))


def test_of_the_chosen_eight_in_ten_show_mask_one_a_random_token_one_itself() -> None:
    batch = source_of([200] * 400, 200, rate=0.3).rows(0, 350)
    n = batch.n_counted
    assert n > 18_000
    shown, hidden = batch.input_ids[batch.loss_mask], batch.target_ids[batch.loss_mask]
    n_ordinary = len(FACTS.ordinary_ids)
    is_mask, is_same = shown == MASK, shown == hidden
    for found, share in (
        (is_mask, 0.8),
        (is_same, 0.1 + 0.1 / n_ordinary),  # a random draw is the token itself once in a vocabulary
        (~is_mask & ~is_same, 0.1 * (1 - 1 / n_ordinary)),
    ):
        assert abs(found.sum() - n * share) < 4 * (n * share * (1 - share)) ** 0.5
    drawn = np.bincount(shown[~is_mask & ~is_same], minlength=VOCAB_SIZE)
    assert not drawn[SPECIAL].any()
    expected = drawn.sum() / n_ordinary
    assert (np.abs(drawn[~SPECIAL] - expected) < 5 * expected**0.5).all()


def test_every_piece_opens_with_cls_and_closes_with_sep() -> None:
    batch = source_of([3, 40, 7, 0, 90], 16).rows(0, 20)
    for row in range(20):
        documents = batch.document_ids[row]
        for number in range(documents.max() + 1):
            piece = batch.target_ids[row, documents == number]
            assert piece[0] == CLS
            if len(piece) > 1:
                assert piece[-1] == SEP
            assert not np.isin(piece[1:-1], [CLS, SEP]).any()


def test_what_is_masked_changes_from_epoch_to_epoch_and_with_the_seed() -> None:
    source = source_of([30], 32)  # one document, one row: the same text in every epoch
    first, second = source.rows(0, 1), source.rows(1, 1)
    assert source.epoch_of(1) == 1
    assert np.array_equal(first.target_ids, second.target_ids)
    masks = {source.rows(row, 1).loss_mask.tobytes() for row in range(20)}
    assert len(masks) > 15
    assert not np.array_equal(source_of([30], 32, seed=4).rows(0, 1).loss_mask, first.loss_mask)


@given(lengths=LENGTHS, seq_len=st.integers(2, 24))
def test_an_epoch_meets_all_text_but_what_stood_where_a_window_was_cut(
    lengths: list[int], seq_len: int
) -> None:
    source = source_of(lengths, seq_len)
    batch, stored = source.rows(0, int(source.rows_per_epoch)), source.source.shards.token_ids
    real = batch.document_ids >= 0
    assert real.sum() == len(stored)
    inner = batch.target_ids[real & ~np.isin(batch.target_ids, [CLS, SEP])]
    text = stored[~np.isin(stored, [CLS, SEP])]
    lost = np.bincount(text, minlength=VOCAB_SIZE) - np.bincount(inner, minlength=VOCAB_SIZE)
    n_pieces = sum(2 + (n + 2) // seq_len for n in lengths)
    assert (lost >= 0).all()
    assert lost.sum() <= 2 * n_pieces  # CLS and SEP stand in the place of tokens there


WORDS = re.compile(r"[^\W_]+|_|[^\w\s]")


@pytest.mark.parametrize("kind", ["byte_bpe", "wordpiece", "unigram", "word", "char"])
def test_words_begin_where_letters_follow_space_or_signs(tokenizers: dict[str, Tokenizer], kind: str) -> None:
    tokenizer = tokenizers[kind]
    facts = VocabInfo.from_tokenizer(tokenizer)
    text = "seven small dogs said, hello (to the cat)! naïve été\nwho and there weren't 你好 7 times"
    token_ids, spans = tokenizer.reference_encoder.spans(text)
    opens = facts.opens_word[token_ids]
    opens[1:] |= facts.closes_word[token_ids[:-1]]
    opens[0] = True
    begins = {match.start() for match in WORDS.finditer(text)}
    if kind == "wordpiece":  # as in BERT, each Chinese character is a word
        begins |= {match.start() for match in re.finditer("[\u4e00-\u9fff]", text)}
    n_words = 0
    for (begin, end), is_open in zip(spans, opens.tolist(), strict=True):
        covered = text[begin:end]
        if not covered.strip():
            continue
        first = begin + len(covered) - len(covered.lstrip())
        assert is_open == (first in begins), (kind, covered, begin)
        n_words += is_open
    assert n_words > 15


def test_facts_tell_special_tokens_from_ordinary_ones(byte_bpe: Tokenizer) -> None:
    facts = VocabInfo.from_tokenizer(byte_bpe)
    assert set(np.flatnonzero(facts.special)) == byte_bpe.control_ids
    assert set(facts.ordinary_ids) == set(range(byte_bpe.vocab_size)) - byte_bpe.control_ids
    assert (facts.mask_id, facts.cls_id, facts.sep_id) == (byte_bpe.mask_id, byte_bpe.cls_id, byte_bpe.sep_id)


def test_a_tokenizer_without_mask_is_refused() -> None:
    facts = VocabInfo(SPECIAL, FACTS.ordinary_ids, FACTS.opens_word, FACTS.closes_word, cls_id=2, sep_id=3)
    with pytest.raises(UserError, match="needs a MASK token"):
        MaskedSource(BatchSource(shards_of([5]), 8, 0, shift=0), facts)
