"""Masked tokens (Devlin et al. 2019): some tokens of a text are chosen and must be guessed from the others.

Of the chosen, 80 % show MASK, 10 % an ordinary token drawn at random, 10 % themselves, so that the model must have
something to say about every token. The share holds in every row, and a row with any text has one token chosen at
least. With `whole_word` all pieces of a word are chosen together. Special tokens and padding are never chosen.

An encoder reads texts between CLS and SEP. Where a window cuts a document, the marks take the place of the
window's outermost tokens, so that every piece looks like a text. What is chosen differs from epoch to epoch.
Shapes: B rows, T tokens, W words.
"""

from __future__ import annotations

import numpy as np

from parakit.tokens.batches.batch import Batch, MaskedBatch
from parakit.tokens.batches.noising import NoisedSource, row_draws
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.batches.vocab_info import VocabInfo

_N_DRAWS = 3  # per token: which words, what they show, which random token


class MaskedSource(NoisedSource[MaskedBatch]):
    """Rows of a `BatchSource` (made with shift 0) with tokens masked anew in every row."""

    def __init__(
        self, source: BatchSource, facts: VocabInfo, *, rate: float = 0.15, whole_word: bool = False
    ) -> None:
        assert source.shift == 0, "masking hides tokens in their own places"
        facts.require(("mask", "cls", "sep"), "masking tokens")
        super().__init__(source, facts)
        self.rate, self.whole_word = rate, whole_word

    def noised(self, batch: Batch, first_row: int) -> MaskedBatch:
        draws = row_draws(self.seed, "masking", first_row, batch, _N_DRAWS)  # (3, B, T)
        facts, original = self.facts, framed_pieces(batch, self.facts)
        real = batch.document_ids >= 0
        eligible = real & ~facts.special[original]
        opens = _word_starts(batch, facts, original) if self.whole_word else np.ones_like(real)
        chosen = choose_words(eligible, opens, draws[0], self.rate)
        drawn = facts.ordinary_ids[(draws[2] * len(facts.ordinary_ids)).astype(np.int64)]
        assert facts.mask_id is not None
        shown = np.where(draws[1] < 0.8, facts.mask_id, np.where(draws[1] < 0.9, drawn, original))
        return MaskedBatch(
            input_ids=np.where(chosen, shown, original),
            target_ids=original,
            loss_mask=chosen,
            document_ids=batch.document_ids,
            position_ids=batch.position_ids,
            n_counted=int(chosen.sum()),
            single_document=batch.single_document and bool(real.all()),
        )


def framed_pieces(batch: Batch, facts: VocabInfo) -> np.ndarray:
    """The rows' tokens (B, T), every piece of a document opening with CLS and closing with SEP."""
    first, last = piece_ends(batch.document_ids)
    token_ids = batch.input_ids.copy()
    token_ids[last] = facts.sep_id
    token_ids[first] = facts.cls_id  # a piece of one token is a CLS
    return token_ids


def piece_ends(document_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where pieces of documents begin and where they end: two (B, T) bool, padding never among them."""
    change = document_ids[:, 1:] != document_ids[:, :-1]
    edge = np.ones((len(document_ids), 1), np.bool_)
    real = document_ids >= 0
    return np.concatenate([edge, change], 1) & real, np.concatenate([change, edge], 1) & real


def choose_words(eligible: np.ndarray, opens: np.ndarray, order: np.ndarray, rate: float) -> np.ndarray:
    """Choose whole words, in the order of `order` at their first token, until their tokens come nearest to `rate`
    of the row's eligible tokens; one word at least. All are (B, T); a word begins where `opens` is True.
    """
    n_rows = len(eligible)
    opens = opens.copy()
    opens[:, 0] = True
    word = (np.cumsum(opens) - 1).reshape(opens.shape)  # numbered over the whole batch
    size = np.bincount(word[eligible], minlength=int(word[-1, -1]) + 1)  # (W,)
    row = np.repeat(np.arange(n_rows), opens.sum(1))
    by_row = np.lexsort((order[opens], size == 0, row))  # words without eligible tokens come last
    before = np.cumsum(size[by_row]) - size[by_row]
    first_of_row = np.searchsorted(row, np.arange(n_rows))
    before -= before[first_of_row][row]
    wanted = np.round(rate * eligible.sum(1)).astype(np.int64)[row]
    nearer = 2 * (wanted - before) >= size[by_row]  # with this word the count comes nearer than without
    is_first = np.zeros(len(row), np.bool_)
    is_first[first_of_row] = True
    taken = np.zeros(len(row), np.bool_)
    taken[by_row] = ((nearer & (before < wanted)) | is_first) & (size[by_row] > 0)
    return taken[word] & eligible


def _word_starts(batch: Batch, facts: VocabInfo, token_ids: np.ndarray) -> np.ndarray:
    first, _ = piece_ends(batch.document_ids)
    opens = first | facts.opens_word[token_ids]
    opens[:, 1:] |= facts.closes_word[token_ids[:, :-1]]
    return opens
