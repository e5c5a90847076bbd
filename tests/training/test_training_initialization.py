"""Token vectors from counts, against counting by loops and numpy's decomposition of the whole matrix."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from parakit.tokens.shards import TokenShards
from parakit.training.initialization import (
    DEVIATION,
    SMOOTHING,
    WINDOW,
    cooccurrence_vectors,
    init_embeddings_from_cooccurrence,
)

V = 24


def shards_of(documents: list[list[int]]) -> TokenShards:
    offsets = np.cumsum([0, *(len(document) for document in documents)])
    return TokenShards(
        np.array([token for document in documents for token in document], np.uint16),
        offsets.astype(np.int64),
        vocab_size=V,
    )


def reference(documents: list[list[int]], d_vector: int, ignored: tuple[int, ...] = ()) -> np.ndarray:
    """The same, pair by pair in float64."""
    counts = np.zeros((V, V))
    for document in documents:
        for i, token in enumerate(document):
            for j, other in enumerate(document):
                if 0 < abs(i - j) <= WINDOW and not {token, other} & set(ignored):
                    counts[token, other] += 1 / abs(i - j)
    neighbours = counts.sum(0) ** SMOOTHING
    expected = np.outer(counts.sum(1), neighbours / max(neighbours.sum(), 1e-300))
    information = np.zeros((V, V))
    np.log(counts, out=information, where=counts > 0)
    information -= np.where(counts > 0, np.log(np.where(expected > 0, expected, 1)), 0)
    left, values, _ = np.linalg.svd(np.maximum(information, 0))
    vectors = left[:, :d_vector] * np.sqrt(values[:d_vector])
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 1e-6, lengths, np.inf)


def random_documents(seed: int = 0) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    weights = 1 / np.arange(1, V - 1)
    return [generator.choice(V - 2, 200, p=weights / weights.sum()).tolist() for _ in range(3)]


def test_vectors_are_those_of_the_dense_decomposition() -> None:
    documents = random_documents()
    for d_vector, tolerance in (
        (4, 5e-3),
        (V, 2e-5),
    ):  # a randomised decomposition is exact at full rank only
        actual = cooccurrence_vectors(shards_of(documents), V, d_vector).double().numpy()
        third_party = reference(documents, d_vector)
        # signs of singular vectors are free; what stands near what is not
        np.testing.assert_allclose(actual @ actual.T, third_party @ third_party.T, atol=tolerance)


def test_documents_never_meet_and_ignored_tokens_count_for_nothing() -> None:
    documents = random_documents(1)
    actual = cooccurrence_vectors(shards_of(documents), V, V, ignored_ids=(0, 3)).double().numpy()
    third_party = reference(documents, V, (0, 3))
    np.testing.assert_allclose(actual @ actual.T, third_party @ third_party.T, atol=2e-5)
    assert not actual[[0, 3]].any()
    alone = [[token] for token in range(V)]
    assert not cooccurrence_vectors(shards_of(alone), V, 8).any()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, V - 1), max_size=12), max_size=6), st.integers(1, 40))
def test_any_text_gives_finite_rows_of_length_one_or_zero(documents: list[list[int]], d_vector: int) -> None:
    vectors = cooccurrence_vectors(shards_of(documents), V, d_vector)
    assert vectors.shape == (V, d_vector)
    assert vectors.isfinite().all()
    lengths = vectors.norm(dim=1)
    assert ((lengths - 1).abs().lt(1e-4) | lengths.lt(1e-4)).all()


def test_rows_that_were_counted_begin_at_the_deviation_and_the_others_stay() -> None:
    embedding = nn.Embedding(V, 16)
    before = embedding.weight.detach().clone()
    shards = shards_of(random_documents())
    drawn = torch.random.get_rng_state()
    n = init_embeddings_from_cooccurrence(embedding, shards, ignored_ids=(0,), seed=3)
    assert torch.equal(torch.random.get_rng_state(), drawn), "other draws must stay as they were"
    after = embedding.weight.detach()
    changed = (after != before).any(1)
    assert n == int(changed.sum()) == V - 3  # the ignored one, and two that the text lacks
    assert not changed[[0, V - 2, V - 1]].any()
    torch.testing.assert_close(after[changed].std(), torch.tensor(DEVIATION))
    torch.testing.assert_close(after[changed].mean(0), torch.zeros(16), atol=1e-6, rtol=0)
    again = nn.Embedding(V, 16)
    init_embeddings_from_cooccurrence(again, shards, ignored_ids=(0,), seed=3)
    assert torch.equal(again.weight[changed], after[changed])


def test_a_text_without_pairs_changes_nothing() -> None:
    embedding = nn.Embedding(V, 4)
    before = embedding.weight.detach().clone()
    assert init_embeddings_from_cooccurrence(embedding, shards_of([[1], []])) == 0
    assert torch.equal(embedding.weight, before)
