"""How far a judge agrees with people: accuracy and Cohen's kappa, with intervals over prompts.

Kappa (Cohen 1960) is the agreement beyond that of two judges who choose by chance, each with its own frequencies; with
quadratic weights (Cohen 1968) for grades. It is 0 for a judge who always gives one verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from parakit.common.files import JsonObject
from parakit.common.seeds import rng
from parakit.evaluation.intervals import N_RESAMPLES, Estimate, bootstrap, percentiles
from parakit.evaluation.judging.inputs import GradeVote, Vote
from parakit.evaluation.judging.prompts import GRADES
from parakit.evaluation.judging.verdicts import OUTCOMES
from parakit.evaluation.metrics.correlation import spearman

_CLASSES = (1.0, 0.5, 0.0)


def kappa(confusion: np.ndarray, quadratic: bool = False) -> np.ndarray:
    """(...,) Cohen's kappa of confusion matrices (..., K, K); 0 where both sides only ever give one and the same class."""
    k = confusion.shape[-1]
    off = np.subtract.outer(np.arange(k), np.arange(k))
    weights = off.astype(float) ** 2 if quadratic else (off != 0).astype(float)
    total = np.maximum(confusion.sum((-1, -2)), 1e-12)
    expected = confusion.sum(-1)[..., :, None] * confusion.sum(-2)[..., None, :] / total[..., None, None]
    by_chance = (weights * expected).sum((-1, -2))
    observed = (weights * confusion).sum((-1, -2))
    found: np.ndarray = np.where(by_chance > 0, 1 - observed / np.where(by_chance > 0, by_chance, 1), 0.0)
    return found


def vote_agreement(rows: Sequence[JsonObject], votes: Sequence[Vote], seed: int = 0) -> JsonObject:
    """Of verdict rows with votes on the same pairs: `accuracy` and `kappa` over better, worse and tie; `decided`, the
    accuracy where both choose a winner; `preferred`, how often the judge's mean preference is for the voters' winner.
    """
    verdicts: dict[tuple[str, str, str], tuple[float, float]] = {}
    for row in rows:
        if row["winner"] is not None:
            outcome, preference = OUTCOMES[row["winner"]], row["preference"]
            verdicts[row["id"], row["model_a"], row["model_b"]] = outcome, preference
            verdicts[row["id"], row["model_b"], row["model_a"]] = 1 - outcome, 1 - preference
    matched = [
        (vote, *verdicts[key])
        for vote in votes
        if (key := (vote.prompt_id, vote.first, vote.second)) in verdicts
    ]
    labels = [
        (vote.prompt_id, _CLASSES.index(vote.outcome), _CLASSES.index(found)) for vote, found, _ in matched
    ]
    preferred = [
        (vote.prompt_id, float(np.sign(vote.outcome - 0.5) * np.sign(preference - 0.5) + 1) / 2)
        for vote, _, preference in matched
        if vote.outcome != 0.5
    ]
    decided = [(i, float(a == b)) for i, a, b in labels if a != 1 and b != 1]
    return {
        "n": len(matched),
        "n_unmatched": len(votes) - len(matched),
        **_agreement(labels, len(_CLASSES), False, seed),
        "decided": _mean(decided, seed),
        "n_decided": len(decided),
        "preferred": _mean(preferred, seed),
        "n_preferred": len(preferred),
    }


def grade_agreement(
    grades: Mapping[tuple[str, str], Sequence[float]], votes: Sequence[GradeVote], seed: int = 0
) -> JsonObject:
    """Of the judge's probabilities of the grades, by prompt and model, with people's grades: `accuracy` and quadratic `kappa`
    of the likeliest grade, and the rank correlation of the expected one.
    """
    matched = [
        (vote, scores) for vote in votes if (scores := grades.get((vote.prompt_id, vote.model))) is not None
    ]
    labels = [(vote.prompt_id, round(vote.grade) - 1, int(np.argmax(scores))) for vote, scores in matched]
    expected = np.array([expected_grade(scores) for _, scores in matched])
    voted = np.array([vote.grade for vote, _ in matched])
    correlation = None
    if len(set(voted)) > 1 and len(set(expected)) > 1:
        found = bootstrap(lambda items: spearman(expected[items], voted[items]), len(voted), seed=seed)
        correlation = found.__dict__
    return {
        "n": len(matched),
        "n_unmatched": len(votes) - len(matched),
        **_agreement(labels, len(GRADES), True, seed),
        "spearman": correlation,
    }


def expected_grade(scores: Sequence[float]) -> float:
    """The mean grade under the judge's probabilities (Liu et al. 2023, G-Eval)."""
    return float(np.dot(scores, np.arange(1, len(scores) + 1)) / np.sum(scores))


def _agreement(
    labels: Sequence[tuple[str, int, int]], n_classes: int, quadratic: bool, seed: int
) -> JsonObject:
    """Accuracy and kappa of (prompt, vote, verdict) as classes, with intervals over resampled prompts."""
    if not labels:
        return {"accuracy": None, "kappa": None}
    ids = {prompt_id: i for i, prompt_id in enumerate(dict.fromkeys(label[0] for label in labels))}
    by_prompt = np.zeros((len(ids), n_classes, n_classes))
    for prompt_id, vote, verdict in labels:
        by_prompt[ids[prompt_id], vote, verdict] += 1
    drawn = rng(seed, "agreement").multinomial(len(ids), np.full(len(ids), 1 / len(ids)), size=N_RESAMPLES)
    confusions = np.concatenate([by_prompt.sum(0)[None], np.tensordot(drawn, by_prompt, 1)])
    right = np.trace(confusions, axis1=1, axis2=2) / confusions.sum((1, 2))
    beyond_chance = kappa(confusions, quadratic)
    return {
        name: Estimate(float(values[0]), *percentiles(values[1:])).__dict__
        for name, values in (("accuracy", right), ("kappa", beyond_chance))
    } | {"confusion": by_prompt.sum(0).astype(int).tolist()}


def _mean(values: Sequence[tuple[str, float]], seed: int) -> JsonObject | None:
    """The mean with its interval over resampled prompts; None without values."""
    if not values:
        return None
    ids = {prompt_id: i for i, prompt_id in enumerate(dict.fromkeys(prompt_id for prompt_id, _ in values))}
    sums = np.zeros((len(ids), 2))
    for prompt_id, value in values:
        sums[ids[prompt_id]] += value, 1
    found = bootstrap(lambda items: float(sums[items, 0].sum() / sums[items, 1].sum()), len(ids), seed=seed)
    return found.__dict__
