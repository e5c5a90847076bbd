"""Statistics of one split of examples: how many, which labels, lengths and scores."""

from __future__ import annotations

from collections import Counter

from parakit.common.files import JsonObject
from parakit.data.examples.formats import ExampleRow, row_labels


class SplitStatistics:
    """Accumulated row by row. Lengths are characters of a text, or items of a list."""

    def __init__(self) -> None:
        self.n_examples = 0
        self.labels: Counter[str] = Counter()
        self._lengths: dict[str, tuple[int, int, int]] = {}  # key -> how many, sum, longest
        self._scores: list[float] = []  # sum, sum of squares, least, greatest

    def add(self, row: ExampleRow) -> None:
        """Count one row."""
        self.n_examples += 1
        self.labels.update(row_labels(row))
        for key, value in row.items():
            if key == "score":
                self._add_score(value)
            elif key not in ("label", "labels", "tags", "answers", "answer_start"):
                n, total, longest = self._lengths.get(key, (0, 0, 0))
                self._lengths[key] = (n + 1, total + len(value), max(longest, len(value)))

    def _add_score(self, score: float) -> None:
        if not self._scores:
            self._scores = [0.0, 0.0, score, score]
        total, squares, least, greatest = self._scores
        self._scores = [total + score, squares + score * score, min(least, score), max(greatest, score)]

    def to_dict(self) -> JsonObject:
        """Plain JSON values."""
        result: JsonObject = {"examples": self.n_examples}
        if self.labels:
            result["labels"] = dict(sorted(self.labels.items()))
        result["lengths"] = {
            key: {"mean": round(total / n, 1), "longest": longest}
            for key, (n, total, longest) in self._lengths.items()
        }
        if self._scores:
            total, squares, least, greatest = self._scores
            mean = total / self.n_examples
            variance = max(0.0, squares / self.n_examples - mean * mean)
            result["scores"] = {
                "mean": mean,
                "deviation": variance**0.5,
                "least": least,
                "greatest": greatest,
            }
        return result
