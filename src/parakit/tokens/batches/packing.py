"""Packing: assigns documents to rows by best-fit decreasing, and cuts long documents into windows.

Each document (or window) is placed, longest first, into the row whose free space it fills best. The bits of one integer
record which amounts of free space exist, so that finding the best row costs a shift and no search. The result depends on
the multiset of lengths only, so the number of rows is the same in every epoch.
"""

from __future__ import annotations

import numpy as np


def best_fit_decreasing(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """Row number of each item, given lengths sorted from long to short, none above `capacity`."""
    rows_by_space: list[list[int]] = [[] for _ in range(capacity + 1)]
    spaces = 0  # bit s is set when some row has s places free
    rows = np.empty(len(lengths), np.int64)
    n_rows = 0
    for i, length in enumerate(lengths.tolist()):
        fitting = spaces >> length
        if fitting and length:
            space = length + (fitting & -fitting).bit_length() - 1
            row = rows_by_space[space].pop()
            if not rows_by_space[space]:
                spaces ^= 1 << space
        else:
            space, row, n_rows = capacity, n_rows, n_rows + 1
        left = space - length
        if left:
            rows_by_space[left].append(row)
            spaces |= 1 << left
        rows[i] = row
    return rows


def windows(
    n_pairs: np.ndarray, seq_len: int, overlap: int, n_ends: np.ndarray | int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cut documents of `n_pairs` predictions each into windows of at most `seq_len`.

    Returns, per window: its document, its first pair, its length, and how many leading pairs are context only: 0 in a
    document's first window, `overlap` in the others, and in its last as many as make it a full window. Every pair is
    counted in exactly one window. lm-eval's rolling windows are these, with `context_len` = `overlap` + 1.

    The last `n_ends` pairs of a document (its EOS) change nothing of the windows of the others: where they do not fit
    into the only window, they get one of their own.
    """
    apart = n_pairs > np.where(np.asarray(n_ends) > 0, seq_len, n_pairs)
    text = _windows(n_pairs - apart * n_ends, seq_len, overlap)
    long = np.flatnonzero(apart)
    full = np.full(len(long), seq_len)
    ends = (long, n_pairs[long] - seq_len, full, full - np.broadcast_to(n_ends, n_pairs.shape)[long])
    return tuple(np.concatenate(parts) for parts in zip(text, ends, strict=True))  # type: ignore[return-value]


def _windows(
    n_pairs: np.ndarray, seq_len: int, overlap: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    stride = seq_len - overlap
    n_more = np.maximum(-(-(n_pairs - seq_len) // stride), 0)
    n_windows = np.where(n_pairs > 0, 1 + n_more, 0)
    document = np.repeat(np.arange(len(n_pairs)), n_windows)
    number = np.arange(len(document)) - np.repeat(np.cumsum(n_windows) - n_windows, n_windows)
    regular = number * stride
    start = np.minimum(regular, np.maximum(n_pairs[document] - seq_len, 0))
    length = np.minimum(n_pairs[document] - start, seq_len)
    return document, start, length, np.where(number > 0, regular - start + overlap, 0)


def cut_at_offsets(
    n_pairs: np.ndarray, seq_len: int, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut each document at `offsets[d]`, `offsets[d] + seq_len`, ...; documents of at most `seq_len` are not cut.

    Returns, per piece: its document, its first pair, its length. The pieces of a document tile it exactly.
    """
    first = np.where(n_pairs > seq_len, offsets, seq_len)  # length of the first piece, 1..seq_len
    n_pieces = np.where(n_pairs > 0, 1 + np.maximum(-(-(n_pairs - first) // seq_len), 0), 0)
    document = np.repeat(np.arange(len(n_pairs)), n_pieces)
    number = np.arange(len(document)) - np.repeat(np.cumsum(n_pieces) - n_pieces, n_pieces)
    start = np.where(number > 0, first[document] + (number - 1) * seq_len, 0)
    end = np.minimum(first[document] + number * seq_len, n_pairs[document])
    return document, start, end - start


def seeded_offsets(n_pairs: np.ndarray, seq_len: int, generator: np.random.Generator) -> np.ndarray:
    """Length of each document's first piece, drawn so that the number of full windows is constant.

    A document of k * seq_len + r pairs keeps its k windows and splits r into a head and a tail; where r is small, which
    leaves few choices, it gives up one window and splits r + seq_len instead.
    """
    rest = n_pairs % seq_len
    draw = generator.random(len(n_pairs))
    if_long = np.floor(draw * (rest + 1)).astype(np.int64)  # 0..r; 0 and r: head or tail is empty
    if_short = rest + 1 + np.floor(draw * (seq_len - 1 - rest)).astype(np.int64)  # r+1..seq_len-1
    offsets = np.where(_splits_a_window(rest, seq_len), if_short, if_long)
    return np.where(offsets == 0, seq_len, offsets)


def n_concat_rows(n_pairs: np.ndarray, seq_len: int) -> int:
    """Rows of an epoch: one for each full window, and the remainders concatenated, the last row padded."""
    long = n_pairs[n_pairs > seq_len]
    rest = long % seq_len
    gives_up = _splits_a_window(rest, seq_len)
    n_full = int((long // seq_len - gives_up).sum() + (n_pairs == seq_len).sum())
    n_rest_pairs = int((rest + gives_up * seq_len).sum() + n_pairs[n_pairs < seq_len].sum())
    return n_full - (-n_rest_pairs // seq_len)


def _splits_a_window(rest: np.ndarray, seq_len: int) -> np.ndarray:
    return (rest < seq_len // 2) & (rest + 1 < seq_len)
