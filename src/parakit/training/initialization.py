"""Token vectors before any step of training: from co-occurrence counts, or random ones that are far apart.

Counts: a token's vector is its row of the matrix of positive pointwise mutual information (PPMI) with the tokens around it,
reduced by a truncated singular value decomposition, which word2vec approximates (Levy and Goldberg 2014; smoothing and
the root of the singular values after Levy, Goldberg and Dagan 2015). It takes seconds where training takes minutes, and
helps rare words most, which are seldom masked.

Left out: longer windows, and text beyond the first `MAX_COUNTED` tokens. Shapes: V vocabulary, D width, N tokens.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor, nn

from parakit.tokens.shards import TokenShards

WINDOW = 5  # tokens on each side; one at distance d counts 1 / d
SMOOTHING = 0.75  # power of the neighbours' frequencies: lowers the weight of rare neighbours
DEVIATION = 0.1  # about that of a trained model's vectors
MAX_COUNTED = 20_000_000
_EXTRA, _ITERATIONS = 8, 3  # of the randomised decomposition (Halko et al. 2011)


@torch.no_grad()
def init_embeddings_from_cooccurrence(
    embedding: nn.Embedding, shards: TokenShards, ignored_ids: Collection[int] = (), seed: int = 0
) -> int:
    """Set the rows of `embedding` to vectors from counts; returns how many. `ignored_ids` and tokens that do not occur
    keep their values.

    The vectors are centred, scaled to the standard deviation `DEVIATION`, and rotated at random, which spreads the
    singular values over the coordinates.
    """
    vocab_size, d_vector = embedding.weight.shape
    vectors = cooccurrence_vectors(shards, vocab_size, d_vector, ignored_ids, seed)
    counted = vectors.norm(dim=1) > 0
    if not counted.any():
        return 0
    rows = vectors[counted]
    rows = rows - rows.mean(0)
    generator = torch.Generator().manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(rows.shape[1], rows.shape[1], generator=generator))
    rows = rows @ rotation
    rows *= DEVIATION / rows.std().clamp(min=1e-12)
    embedding.weight[counted.to(embedding.weight.device)] = rows.to(embedding.weight)
    return int(counted.sum())


@torch.no_grad()
def widen_embeddings(embedding: nn.Embedding) -> None:
    """Scale random vectors to the standard deviation `DEVIATION`. Words that a text uses alike, such as names, have vectors
    that training moves together; what tells them apart, without which nothing can be copied, is then mostly the start.
    """
    embedding.weight *= DEVIATION / embedding.weight.std().clamp(min=1e-12)


def cooccurrence_vectors(
    shards: TokenShards, vocab_size: int, d_vector: int, ignored_ids: Collection[int] = (), seed: int = 0
) -> Tensor:
    """Unit vectors (V, D), zero for a token that was not counted; a pure function of text and seed."""
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
        counts = torch.sparse_coo_tensor(
            torch.from_numpy(pairs), weights, total.shape, check_invariants=False
        )
        total = (total + counts.coalesce()).coalesce()
    return (total + total.t()).coalesce()


def _positive_information(counts: Tensor) -> Tensor:
    """Of sparse counts (V, V): log p(token, neighbour) / (p(token) p(neighbour)), where that is positive."""
    (token, neighbour), observed = counts.indices(), counts.values().double()
    token_counts = torch.zeros(counts.shape[0], dtype=torch.float64).index_add_(0, token, observed)
    neighbour_counts = token_counts**SMOOTHING
    expected = token_counts[token] * neighbour_counts[neighbour] / neighbour_counts.sum()
    values = (observed / expected).log()
    positive = values > 0
    indices = torch.stack([token[positive], neighbour[positive]])
    return torch.sparse_coo_tensor(
        indices, values[positive].float(), counts.shape, check_invariants=False
    ).coalesce()
