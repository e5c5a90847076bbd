"""What a step of a task is made of: numpy arrays, padded to the longest row of the batch.

Padding never counts. Targets are what is predicted, inputs the same tokens one place later, behind the id that
starts every target (teacher forcing). `n_counted` is what a loss is divided by: tokens, or examples.
B examples, T tokens, S source tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PairBatch:
    """Sources and targets of an encoder-decoder.

    Where rows hold several documents (span corruption, prefixes), the document ids, counted from 0 within each
    row and -1 for padding, say which target belongs to which source; None: one pair a row.
    """

    source_ids: np.ndarray  # (B, S) int64
    source_mask: np.ndarray  # (B, S) bool, True = a real token
    input_ids: np.ndarray  # (B, T) int64
    target_ids: np.ndarray  # (B, T) int64
    loss_mask: np.ndarray  # (B, T) bool, True = `target_ids` counts
    n_counted: int  # tokens
    source_document_ids: np.ndarray | None = None  # (B, S) int32
    document_ids: np.ndarray | None = None  # (B, T) int32


@dataclass(frozen=True)
class LabelledBatch:
    """Texts with a class (B,) int64, a score (B,) float32, or a tag for each token (B, T) int64."""

    input_ids: np.ndarray  # (B, T) int64
    attention_mask: np.ndarray  # (B, T) bool, True = a real token
    token_type_ids: np.ndarray | None  # (B, T) int64: 0 the first text, 1 the second
    labels: np.ndarray
    loss_mask: np.ndarray | None  # (B, T) bool for tags: True = the first token of a word; else None
    n_counted: int  # examples, or tagged words


@dataclass(frozen=True)
class TextPairBatch:
    """Pairs of texts that mean alike: row i of `second_ids` belongs to row i of `first_ids`."""

    first_ids: np.ndarray  # (B, T) int64
    first_mask: np.ndarray  # (B, T) bool, True = a real token
    second_ids: np.ndarray  # (B, S) int64
    second_mask: np.ndarray  # (B, S) bool
    n_counted: int  # pairs
