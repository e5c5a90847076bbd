"""Masked language modelling (Devlin et al. 2019): some tokens of a text are chosen and predicted from the others.

Of the chosen tokens, 80 % are replaced by MASK, 10 % by a random ordinary token, 10 % stay, so that the model must
represent every token. The masking rate holds in every row, with at least one token in a row with text. With `whole_word`
all tokens of a word are chosen together. Special tokens and padding are never chosen.

An encoder reads texts between CLS and SEP. Where a window cuts a document, these replace the window's first and last
tokens, so that every piece looks like a text. The choice differs from epoch to epoch. B rows, T tokens, W words.
"""

from __future__ import annotations

import numpy as np

from parakit.tokens.batches.batch import Batch, MaskedBatch
from parakit.tokens.batches.mixture import MixedSource
from parakit.tokens.batches.noising import NoisedSource, row_draws
from parakit.tokens.batches.source import BatchSource
from parakit.tokens.batches.vocab_info import VocabInfo

_N_DRAWS = 3  # per token: which words, which replacement, which random token


class MaskedSource(NoisedSource[MaskedBatch]):
    """Rows of a `BatchSource` (with shift 0) with masked tokens."""

    def __init__(
        self,
        source: BatchSource | MixedSource,
        vocab: VocabInfo,
        *,
        rate: float = 0.15,
        whole_word: bool = False,
    ) -> None:
        assert source.shift == 0, "masking predicts tokens at their own positions"
        vocab.require(("mask", "cls", "sep"), "masking tokens")
        super().__init__(source, vocab)
        self.rate, self.whole_word = rate, whole_word

    def add_noise(self, batch: Batch, first_row: int) -> MaskedBatch:
        draws = row_draws(self.seed, "masking", first_row, batch, _N_DRAWS)  # (3, B, T)
        vocab, original = self.vocab, add_boundaries(batch, self.vocab)
        real = batch.document_ids >= 0
        eligible = real & ~vocab.special[original]
        opens = _word_starts(batch, vocab, original) if self.whole_word else np.ones_like(real)
        chosen = choose_words(eligible, opens, draws[0], self.rate)
        drawn = vocab.ordinary_ids[(draws[2] * len(vocab.ordinary_ids)).astype(np.int64)]
        assert vocab.mask_id is not None
        shown = np.where(draws[1] < 0.8, vocab.mask_id, np.where(draws[1] < 0.9, drawn, original))
        return MaskedBatch(
            input_ids=np.where(chosen, shown, original),
            target_ids=original,
            loss_mask=chosen,
            document_ids=batch.document_ids,
            position_ids=batch.position_ids,
            n_counted=int(chosen.sum()),
            single_document=batch.single_document and bool(real.all()),
        )


def add_boundaries(batch: Batch, vocab: VocabInfo) -> np.ndarray:
    """The rows' tokens (B, T), with CLS first and SEP last in every piece of a document."""
    first, last = piece_boundaries(batch.document_ids)
    token_ids = batch.input_ids.copy()
    token_ids[last] = vocab.sep_id
    token_ids[first] = vocab.cls_id  # a piece of one token becomes CLS
    return token_ids


def piece_boundaries(document_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last positions of pieces of documents: two (B, T) bool, False for padding."""
    change = document_ids[:, 1:] != document_ids[:, :-1]
    edge = np.ones((len(document_ids), 1), np.bool_)
    real = document_ids >= 0
    return np.concatenate([edge, change], 1) & real, np.concatenate([change, edge], 1) & real


def choose_words(eligible: np.ndarray, opens: np.ndarray, order: np.ndarray, rate: float) -> np.ndarray:
    """Choose whole words, sorted by `order` at their first token, until their tokens are closest to `rate` of the row's
    eligible tokens; at least one word. All are (B, T); a word begins where `opens` is True.
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
    target = np.round(rate * eligible.sum(1)).astype(np.int64)[row]
    closer = 2 * (target - before) >= size[by_row]  # with this word the count is closer than without
    is_first = np.zeros(len(row), np.bool_)
    is_first[first_of_row] = True
    chosen = np.zeros(len(row), np.bool_)
    chosen[by_row] = ((closer & (before < target)) | is_first) & (size[by_row] > 0)
    return chosen[word] & eligible


def _word_starts(batch: Batch, vocab: VocabInfo, token_ids: np.ndarray) -> np.ndarray:
    first, _ = piece_boundaries(batch.document_ids)
    opens = first | vocab.opens_word[token_ids]
    opens[:, 1:] |= vocab.closes_word[token_ids[:, :-1]]
    return opens
