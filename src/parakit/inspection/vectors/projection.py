"""Vectors as a map in the plane: principal components, or a map that keeps neighbours together.

The first two principal components (Pearson 1901) keep as much variance as a plane can; what share that is comes with them.
A map of neighbours (t-SNE, van der Maaten and Hinton 2008, as openTSNE computes it) keeps close what is close and gives up
distances between groups. The latter needs the extra `inspect`.

Shapes: N vectors, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from parakit.common.errors import UserError

MapMethod = Literal["pca", "neighbours"]
MIN_NEIGHBOURS = 5  # vectors of which a map of neighbours can be made


@dataclass(frozen=True)
class PlaneMap:
    """Labels at their places (N, 2). `explained`: the shares of the variance that the two axes of a PCA have."""

    labels: tuple[str, ...]
    points: np.ndarray = field(repr=False)
    method: MapMethod = "pca"
    explained: tuple[float, float] | None = None


def principal_components(vectors: np.ndarray, n: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """The places (N, n) on the first `n` principal axes, and the share of the variance of each (n,), both float64.

    The sign of an axis is arbitrary; here its largest place is positive. With fewer axes than `n` the rest is zero.
    """
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(vectors), n))
    shares = np.zeros(n)
    found = min(n, len(values))
    places[:, :found] = left[:, :found] * values[:found]
    variance = float((values**2).sum())
    if variance > 0:
        shares[:found] = values[:found] ** 2 / variance
    largest = places[np.abs(places).argmax(0), np.arange(n)]
    return places * np.where(largest < 0, -1.0, 1.0), shares


def plane_map(
    labels: tuple[str, ...], vectors: np.ndarray, method: MapMethod = "pca", seed: int = 0
) -> PlaneMap:
    """Vectors (N, D) on a plane. "neighbours" is deterministic for a seed. `UserError` for too few vectors, and where the
    library of "neighbours" is not installed.
    """
    needed = 2 if method == "pca" else MIN_NEIGHBOURS
    if len(labels) < needed:
        raise UserError(
            f"a map of {len(labels)} {'text' if len(labels) == 1 else 'texts'} by {method}: it needs {needed} or more",
            "name more words or texts",
        )
    if method == "pca":
        points, shares = principal_components(vectors)
        return PlaneMap(labels, points, method, (float(shares[0]), float(shares[1])))
    return PlaneMap(labels, _neighbour_map(vectors, seed), method)


def _neighbour_map(vectors: np.ndarray, seed: int) -> np.ndarray:
    try:
        from openTSNE import TSNE
    except ImportError:
        raise UserError(
            "a map of neighbours needs openTSNE, which is not installed",
            "pip install 'parakit[inspect]', or take --map pca",
        ) from None
    perplexity = min(30.0, max(2.0, (len(vectors) - 1) / 3))
    settings = {"perplexity": perplexity, "metric": "cosine", "initialization": "pca", "random_state": seed}
    found = TSNE(**settings, n_jobs=1, neighbors="exact").fit(vectors.astype(np.float64))
    return np.asarray(found, dtype=np.float64)
