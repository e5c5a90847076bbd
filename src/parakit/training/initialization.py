"""Token vectors from co-occurrence counts, before any step of training.

A token's vector is its row of the matrix of positive pointwise mutual information with the tokens around it, brought to
few dimensions by a truncated singular value decomposition: what word2vec approximates step by step (Levy and Goldberg
2014; smoothing and the root of the singular values after Levy, Goldberg and Dagan 2015). It takes seconds where training
takes minutes, and rare words gain most: they are seldom among the masked tokens.

Left out: longer windows, and text beyond the first `MAX_COUNTED` tokens. Shapes: V vocabulary, D width, N tokens.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor, nn

from parakit.tokens.shards import TokenShards

WINDOW = 5  # tokens on each side; one at distance d counts 1 / d
SMOOTHING = 0.75  # power of the neighbours' frequencies, or rare neighbours would decide everything
DEVIATION = 0.1  # about what the vectors of a trained model have
MAX_COUNTED = 20_000_000
_EXTRA, _ITERATIONS = 8, 3  # of the randomised decomposition (Halko et al. 2011)


@torch.no_grad()
def init_embeddings_from_cooccurrence(
    embedding: nn.Embedding, shards: TokenShards, ignored_ids: Collection[int] = (), seed: int = 0
) -> int:
    """Set the rows of `embedding` to vectors from counts; returns how many. Tokens that the text lacks, and
    `ignored_ids`, keep their values.

    The vectors are centred and of deviation `DEVIATION`, rotated at random so that no coordinate is special.
    """
    vocab_size, d_vector = embedding.weight.shape
    vectors = cooccurrence_vectors(shards, vocab_size, d_vector, ignored_ids, seed)
    found = vectors.norm(dim=1) > 0
    if not found.any():
        return 0
    rows = vectors[found]
    rows = rows - rows.mean(0)
    generator = torch.Generator().manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(rows.shape[1], rows.shape[1], generator=generator))
    rows = rows @ rotation
    rows *= DEVIATION / rows.std().clamp(min=1e-12)
    embedding.weight[found.to(embedding.weight.device)] = rows.to(embedding.weight)
    return int(found.sum())


def cooccurrence_vectors(
    shards: TokenShards, vocab_size: int, d_vector: int, ignored_ids: Collection[int] = (), seed: int = 0
) -> Tensor:
    """Vectors (V, D) of length one; zero for a token that was not counted. The same for the same text and seed."""
    information = _positive_information(_counts(shards, vocab_size, ignored_ids))
    rank = min(d_vector, vocab_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        left, values, _ = torch.svd_lowrank(information, min(rank + _EXTRA, vocab_size), _ITERATIONS)
    vectors = torch.zeros(vocab_size, d_vector)
    # rows without counts would get rounding errors of the decomposition, not zeros
    counted = information.indices()[0].unique()
    vectors[counted, :rank] = left[counted, :rank] * values[:rank].sqrt()
    return nn.functional.normalize(vectors, dim=1)


def _counts(shards: TokenShards, vocab_size: int, ignored_ids: Collection[int]) -> Tensor:
    """A symmetric sparse matrix (V, V): how often two tokens occur within `WINDOW` of each other in one document."""
    token_ids = np.asarray(shards.token_ids[:MAX_COUNTED]).astype(np.int64)  # (N,)
    lengths = np.diff(np.minimum(shards.offsets, len(token_ids)))
    document = np.repeat(np.arange(len(lengths)), lengths)
    counted = ~np.isin(token_ids, list(ignored_ids))
    total = torch.sparse_coo_tensor(
        torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0), (vocab_size, vocab_size), check_invariants=False
    ).coalesce()
    for distance in range(1, WINDOW + 1):
        near, far = slice(None, -distance), slice(distance, None)
        together = (document[near] == document[far]) & counted[near] & counted[far]
        pairs = np.stack([token_ids[near][together], token_ids[far][together]])
        weights = torch.full((pairs.shape[1],), 1 / distance)
        found = torch.sparse_coo_tensor(torch.from_numpy(pairs), weights, total.shape, check_invariants=False)
        total = (total + found.coalesce()).coalesce()
    return (total + total.t()).coalesce()


def _positive_information(counts: Tensor) -> Tensor:
    """Of sparse counts (V, V): log p(token, neighbour) / (p(token) p(neighbour)), where that is positive."""
    (token, neighbour), found = counts.indices(), counts.values().double()
    of_token = torch.zeros(counts.shape[0], dtype=torch.float64).index_add_(0, token, found)
    of_neighbour = of_token**SMOOTHING
    expected = of_token[token] * of_neighbour[neighbour] / of_neighbour.sum()
    values = (found / expected).log()
    positive = values > 0
    places = torch.stack([token[positive], neighbour[positive]])
    return torch.sparse_coo_tensor(
        places, values[positive].float(), counts.shape, check_invariants=False
    ).coalesce()
