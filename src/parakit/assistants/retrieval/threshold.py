"""The threshold below which a question has no answer in the documents, fitted on questions that have one and on some that
have none.

A question without an answer is made of one with: its own documents are left out of the search. The score is the words'
share of their highest possible score, the cosine, a mean of both in one of three weights, or the reranker's score: that
which tells the two kinds apart best. The threshold is where the share of refused questions without an answer exceeds that
of the others by most (Youden 1950, "Index for rating diagnostic tests"), and refuses at most a tenth of the others; between
two scores it is in the middle of the widest gap, since new questions are worded differently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from parakit.common.errors import UserError
from parakit.common.files import JsonObject

MAX_REFUSED = 0.1
MIN_QUESTIONS = 10
_MIXTURES: tuple[dict[str, float], ...] = (
    {"words": 1.0},
    {"vectors": 1.0},
    {"words": 0.25, "vectors": 0.75},
    {"words": 0.5, "vectors": 0.5},
    {"words": 0.75, "vectors": 0.25},
    {"reranker": 1.0},
)


@dataclass(frozen=True)
class Threshold:
    """A question is refused where the weighted sum of its signals is below `value`. `figures`: shares of the questions that
    it was fitted on that it refuses, and of those of a cross-validation.
    """

    weights: dict[str, float]
    value: float
    figures: JsonObject

    def score(self, signals: Mapping[str, float]) -> float | None:
        """The weighted sum; None where a signal is missing, as those of vectors in a search by words."""
        if any(name not in signals for name in self.weights):
            return None
        return sum(weight * signals[name] for name, weight in self.weights.items())

    def refuses(self, signals: Mapping[str, float]) -> bool:
        """Whether a question with these signals has no answer in the documents."""
        score = self.score(signals)
        return score is not None and score < self.value

    def to_json(self) -> JsonObject:
        """What `from_json` reads."""
        return {"weights": self.weights, "value": self.value, "figures": self.figures}

    @classmethod
    def from_json(cls, values: JsonObject) -> Threshold:
        """Of the lineage of an index."""
        return cls(dict(values["weights"]), float(values["value"]), dict(values["figures"]))


def fit_threshold(
    answerable: Sequence[Mapping[str, float]],
    unanswerable: Sequence[Mapping[str, float]],
    max_refused: float = MAX_REFUSED,
) -> Threshold:
    """The threshold for questions of both kinds by their signals. `UserError` for fewer than ten of one kind."""
    if min(len(answerable), len(unanswerable)) < MIN_QUESTIONS:
        raise UserError(
            f"a threshold needs {MIN_QUESTIONS} questions of each kind, and there are {len(answerable)} with an answer and"
            f" {len(unanswerable)} without",
            "give more questions",
        )
    weights, value = _fit(answerable, unanswerable, max_refused)
    fitted = Threshold(weights, value, {})
    refused = _refused(fitted, answerable, unanswerable)
    figures: JsonObject = {
        "n_answerable": len(answerable),
        "n_unanswerable": len(unanswerable),
        "refused_answerable": refused[0] / len(answerable),
        "refused_unanswerable": refused[1] / len(unanswerable),
    }
    totals = np.zeros(2)
    for side in (0, 1):  # fitted on every other question, measured on the rest
        half = Threshold(*_fit(answerable[side::2], unanswerable[side::2], max_refused), {})
        totals += _refused(half, answerable[1 - side :: 2], unanswerable[1 - side :: 2])
    figures["held_out_refused_answerable"] = float(totals[0]) / len(answerable)
    figures["held_out_refused_unanswerable"] = float(totals[1]) / len(unanswerable)
    return Threshold(weights, value, figures)


def _fit(
    answerable: Sequence[Mapping[str, float]], unanswerable: Sequence[Mapping[str, float]], max_refused: float
) -> tuple[dict[str, float], float]:
    best: tuple[float, float, dict[str, float], float] | None = None
    for weights in _MIXTURES:
        probe = Threshold(weights, 0.0, {})
        scores, others = ([probe.score(one) for one in side] for side in (answerable, unanswerable))
        known = [[score for score in side if score is not None] for side in (scores, others)]
        if [len(side) for side in known] != [len(scores), len(others)]:
            continue
        gain, gap, value = _best_value(np.sort(known[0]), np.sort(known[1]), max_refused)
        if best is None or (gain, gap) > best[:2]:
            best = gain, gap, weights, value
    assert best is not None, "every search has one of the signals"
    return best[2], best[3]


def _best_value(scores: np.ndarray, others: np.ndarray, max_refused: float) -> tuple[float, float, float]:
    """Of sorted scores of questions with and without an answer: how much larger the refused share of the latter is, the gap
    around the threshold as a share of all scores' range, and the threshold.
    """
    both = np.unique(np.concatenate([scores, others]))
    below = np.concatenate([both[:1], both[:-1]])  # a threshold at the lowest score refuses nothing
    values, gaps = (below + both) / 2, both - below
    refused = np.searchsorted(scores, values) / len(scores)
    gains = np.searchsorted(others, values) / len(others) - refused
    gains[refused > max_refused] = -np.inf
    best = max(range(len(values)), key=lambda i: (round(float(gains[i]), 9), gaps[i]))
    spread = float(both[-1] - both[0]) or 1.0
    return round(float(gains[best]), 9), float(gaps[best]) / spread, float(values[best])


def _refused(
    fitted: Threshold, answerable: Sequence[Mapping[str, float]], unanswerable: Sequence[Mapping[str, float]]
) -> tuple[int, int]:
    return sum(map(fitted.refuses, answerable)), sum(map(fitted.refuses, unanswerable))
