"""The pages of `parakit inspect diff` and `embeddings`: what is in the weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from parakit.common.files import JsonObject
from parakit.common.formatting import percent
from parakit.evaluation.intervals import wilson_interval
from parakit.inspection.differences import CheckpointDifference, MatrixDifference
from parakit.inspection.vectors.projection import PlaneMap
from parakit.inspection.vectors.word_vectors import AnalogyScore, Neighbour
from parakit.reports.inspection.page import bar_rows, map_view, render, shade

MAX_TEXT = 60  # letters of a text in the heading of a row


def diff_page(found: CheckpointDifference) -> str:
    """The page of a difference."""
    largest = max(
        (row.relative_norm for row in found.matrices if np.isfinite(row.relative_norm)), default=0.0
    )
    columns = list(dict.fromkeys(row.matrix for row in found.matrices))
    cells = {(row.layer, row.matrix): _diff_cell(row, largest) for row in found.matrices}
    layers = [
        (
            row.layer,
            row.relative_norm,
            f"{row.relative_norm:.4g}",
            f"cosine {row.cosine:.6f}, {row.n_changed:,} of {row.n_parameters:,} parameters changed",
        )
        for row in found.layers
    ]
    n_changed, n = (sum(getattr(row, key) for row in found.layers) for key in ("n_changed", "n_parameters"))
    first, second = (Path(name).name for name in (found.first, found.second))
    return render(
        "inspect_diff.html",
        "diff",
        f"{first} → {second}",
        f"{found.first} {found.second}",
        f"{n_changed:,} of {n:,} parameters differ ({percent(n_changed / n)}).",
        layers=bar_rows(layers),
        columns=columns,
        grid=[
            {"layer": row.layer, "cells": [cells.get((row.layer, column)) for column in columns]}
            for row in found.layers
        ],
    )


def _diff_cell(row: MatrixDifference, largest: float) -> JsonObject:
    values = ", ".join(f"{value:.3g}" for value in row.singular_values[:5])
    title = (
        f"{row.name}, {' x '.join(map(str, row.shape))}\nrelative norm {row.relative_norm:.4g}, cosine {row.cosine:.6f}"
        + (f"\nlargest singular values {values}\neffective rank {row.effective_rank:.1f}" if values else "")
    )
    return {
        "text": f"{row.relative_norm:.2g}" if row.difference_norm else "0",
        "heat": shade(row.relative_norm / largest if largest else 0.0),
        "title": title,
    }


def embeddings_page(
    model: str,
    *,
    neighbours: Sequence[tuple[str, str, Sequence[Neighbour]]] = (),
    texts: Sequence[str] = (),
    similarity: np.ndarray | None = None,
    accuracy: Iterable[AnalogyScore] = (),
    plane: PlaneMap | None = None,
    strong: Iterable[str] = (),
) -> str:
    """The page of embeddings. `neighbours`: title, note and neighbours of each query; `similarity` (N, N): of `texts`."""
    queries = [
        {
            "title": title,
            "note": note,
            "rows": bar_rows((one.word, one.cosine, f"{one.cosine:.3f}", "") for one in found),
        }
        for title, note, found in neighbours
    ]
    return render(
        "inspect_embeddings.html",
        "embeddings",
        "Embeddings",
        model,
        "Words and texts as vectors: what is near what.",
        neighbours=queries,
        similarity=[] if similarity is None else _similarity_rows(texts, similarity),
        accuracy=[accuracy_row(score) for score in accuracy],
        map=None if plane is None else map_view(plane, strong),
    )


def _similarity_rows(texts: Sequence[str], similarity: np.ndarray) -> list[JsonObject]:
    return [
        {
            "text": text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…",
            "cells": [{"text": f"{value:.2f}", "heat": shade(value)} for value in row.tolist()],
        }
        for text, row in zip(texts, similarity, strict=True)
    ]


def accuracy_row(score: AnalogyScore) -> JsonObject:
    """A category of analogies with its interval, as text."""
    low, high = wilson_interval(score.n_correct, score.n)
    return {
        "category": score.category,
        "accuracy": percent(score.accuracy) if score.n else "",
        "interval": f"{percent(low)} to {percent(high)}" if score.n else "",
        "n": f"{score.n:,}",
        "n_questions": f"{score.n_questions:,}",
    }
