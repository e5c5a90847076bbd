"""Vectors of texts: how similar they are, and what is nearest to a word of any number of tokens.

A text's vector is the model's own pooling where it is an embedder, else the mean of its tokens' vectors of the last layer.
A word that is several tokens has the mean of their rows in the embedding. Shapes: N texts, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from parakit.common.errors import UserError
from parakit.inference.loaded_model import Model
from parakit.inference.prediction.analogies import to_unit
from parakit.inspection.inputs import token_texts
from parakit.inspection.vectors.word_vectors import (
    Neighbour,
    VectorTable,
    WordVectors,
    embedding_table,
    word_rows,
)


@dataclass(frozen=True)
class TextSimilarity:
    """Texts with their vectors (N, D) and the cosines (N, N) between them, both float32."""

    texts: tuple[str, ...]
    vectors: np.ndarray = field(repr=False)
    cosine: np.ndarray = field(repr=False)


def text_similarity(model: Model, texts: Sequence[str]) -> TextSimilarity:
    """The cosine of every pair of texts. Raises `UserError` for fewer than two, and as `Model.embed`."""
    if len(texts) < 2:
        raise UserError(f"{len(texts)} text, and similarity is between two or more", "give another text")
    vectors = model.embed(list(texts))
    unit = to_unit(vectors)
    return TextSimilarity(tuple(texts), vectors, unit @ unit.T)


def word_query(model: Model, word: str, table: VectorTable = "input") -> tuple[np.ndarray, tuple[str, ...]]:
    """The vector (D,) of a word, and the tokens that it is the mean of: one where the vocabulary has the word.

    Raises `UserError` for a word without tokens.
    """
    tokenizer, matrix = model.tokenizer, embedding_table(model, table)
    row = word_rows(tokenizer).get(word)
    ids = [row] if row is not None else tokenizer.encode(f" {word}" if tokenizer.kind == "byte_bpe" else word)
    if not ids:
        raise UserError(f"the word {word!r} has no tokens", "give a word with letters")
    vector: np.ndarray = matrix[ids].mean(0)
    return vector, token_texts(tokenizer, ids)


def nearest_words(
    model: Model, vectors: WordVectors, word: str, n: int = 10, table: VectorTable = "input"
) -> tuple[list[Neighbour], tuple[str, ...]]:
    """The `n` words nearest to a word, itself excluded, and the word's tokens."""
    vector, tokens = word_query(model, word, table)
    return vectors.neighbours(vector, n, exclude=(word,)), tokens
