"""Ratings out of pairwise comparisons: Bradley-Terry and Elo, on Elo's scale, with bootstrap intervals over prompts.

Bradley-Terry (Bradley and Terry 1952): P(i beats j) = 1 / (1 + 10^((r_j - r_i) / 400)), fitted by maximum likelihood; a tie
counts as half a win of each. The maximum is finite only where every model can be reached from every other by a chain of
wins or ties (Ford 1957). Where it is not, as for a model that won everything, each pair that met is given one more,
drawn comparison. Elo (Elo 1978) updates ratings comparison by comparison and so depends on the order: it is averaged
over random orders, and shrinks towards the start where there are few comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.evaluation.intervals import N_RESAMPLES, Estimate, percentiles

SCALE = 400 / math.log(10)
"""Points by which the natural logarithm of the odds is multiplied: 400 points are odds of ten to one."""
CENTRE = 1000.0
ELO_K = 32.0
_MAX_UPDATES, _MIN_ORDERS = 10_000_000, 50  # of Elo: over all orders; a few hundred MB
_N_STEPS = 200
_MAX_STEP = 1.0  # in logarithms of odds; keeps Newton's steps from overshooting


@dataclass(frozen=True)
class Match:
    """One comparison of two models on a prompt; `outcome` is 1 where the first is better, 0 where the second is, 0.5 a tie."""

    prompt_id: str
    first: str
    second: str
    outcome: float


@dataclass(frozen=True)
class Rating:
    """A model's ratings, whose mean over the models is `CENTRE`, and its record."""

    model: str
    bradley_terry: Estimate
    elo: Estimate
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class RatingTable:
    """The models from best to worst. `notes`: what is unusual about these ratings, in sentences."""

    ratings: tuple[Rating, ...]
    notes: tuple[str, ...]


def rate(comparisons: Sequence[Match], *, seed: int = 0, n_resamples: int = N_RESAMPLES) -> RatingTable:
    """Ratings of all models in the comparisons; intervals are percentiles over resampled prompts. `UserError` without
    comparisons, and where the models fall into groups that never met.
    """
    models = list(dict.fromkeys(name for one in comparisons for name in (one.first, one.second)))
    wins, prompts = _wins_by_prompt(comparisons, models)
    check_connected(wins.sum(0), models)
    generator = rng(seed, "ratings")
    drawn = generator.multinomial(len(wins), np.full(len(wins), 1 / len(wins)), size=n_resamples)
    fitted = bradley_terry(np.concatenate([wins.sum(0)[None], np.einsum("bp,pij->bij", drawn, wins)]))
    by_terry = CENTRE + SCALE * fitted
    orders, resampled = _elo(comparisons, models, prompts, drawn, generator)
    ratings = []
    for i, model in enumerate(models):
        record = [_outcome_for(model, one) for one in comparisons if model in (one.first, one.second)]
        ratings.append(
            Rating(
                model,
                Estimate(float(by_terry[0, i]), *percentiles(by_terry[1:, i])),
                Estimate(float(orders[:, i].mean()), *percentiles(resampled[:, i])),
                record.count(1.0),
                record.count(0.5),
                record.count(0.0),
            )
        )
    ratings.sort(key=lambda one: -one.bradley_terry.value)
    return RatingTable(tuple(ratings), _notes(ratings, wins.sum(0)))


def rate_groups(comparisons: Sequence[Match], *, seed: int = 0) -> tuple[RatingTable, ...]:
    """The ratings of each group of models that met, directly or through others; the group with most comparisons first. Ratings
    of different groups have no common scale.
    """
    groups: list[tuple[set[str], list[Match]]] = []
    for one in comparisons:
        names, matches = {one.first, one.second}, [one]
        for group in [group for group in groups if group[0] & names]:
            groups.remove(group)
            names, matches = names | group[0], [*group[1], *matches]
        groups.append((names, matches))
    groups.sort(key=lambda group: -len(group[1]))
    return tuple(rate(matches, seed=seed) for _, matches in groups)


def bradley_terry(wins: np.ndarray) -> np.ndarray:
    """(..., M) maximum-likelihood strengths, in logarithms of odds with mean 0, from wins (..., M, M) of row over column, in
    which a tie is half a win of each. Data without a finite maximum is given one drawn comparison for each pair that met
    in any of the data sets.
    """
    m = wins.shape[-1]
    met = (wins + wins.swapaxes(-1, -2)).reshape(-1, m, m).sum(0) > 0
    wins = wins + 0.5 * met * ~_is_finite(wins)[..., None, None]
    games = wins + wins.swapaxes(-1, -2)
    strengths = np.zeros(wins.shape[:-1])
    for _ in range(_N_STEPS):
        expected = games / (1 + np.exp(strengths[..., None, :] - strengths[..., :, None]))
        gradient = (wins - expected).sum(-1)
        if np.abs(gradient).max() < 1e-10 * max(1.0, games.max()):
            break
        curvature = expected * expected.swapaxes(-1, -2) / np.where(games > 0, games, 1)
        # of the negative log-likelihood; the ones fix the mean, on which the likelihood does not depend
        hessian = np.eye(m) * curvature.sum(-1)[..., None] - curvature + np.ones((m, m))
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        strengths = strengths + step * np.minimum(
            1, _MAX_STEP / np.maximum(np.abs(step).max(-1, keepdims=True), 1e-12)
        )
    return strengths - strengths.mean(-1, keepdims=True)


def check_connected(wins: np.ndarray, models: Sequence[str]) -> None:
    """`UserError` where there is nothing to rate, or where two models have no chain of comparisons between them."""
    if len(models) < 2:
        raise UserError("ratings need comparisons of at least two models", "judge two models or more")
    apart = ~_reachable(wins + wins.T)[0]
    if apart.any():
        other = models[int(apart.argmax())]
        raise UserError(
            f"{models[0]} and {other} were never compared, not even through other models",
            "judge them on common prompts, or rate the groups separately",
        )


def _is_finite(wins: np.ndarray) -> np.ndarray:
    """(...,): whether every model is reached from every other by wins or ties, so that the likelihood has a maximum."""
    return np.asarray(_reachable(wins).all((-1, -2)))


def _reachable(wins: np.ndarray) -> np.ndarray:
    m = wins.shape[-1]
    found: np.ndarray = (wins > 0) | np.eye(m, dtype=bool)
    for _ in range(max(1, math.ceil(math.log2(m)))):
        found = np.greater(found.astype(np.float32) @ found.astype(np.float32), 0)
    return found


def _wins_by_prompt(comparisons: Sequence[Match], models: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Wins (P, M, M) of row over column on each prompt, and the prompt's index of each comparison."""
    places = {name: i for i, name in enumerate(models)}
    ids = list(dict.fromkeys(one.prompt_id for one in comparisons))
    index = {prompt_id: i for i, prompt_id in enumerate(ids)}
    wins = np.zeros((len(ids), len(models), len(models)))
    for one in comparisons:
        a, b, p = places[one.first], places[one.second], index[one.prompt_id]
        wins[p, a, b] += one.outcome
        wins[p, b, a] += 1 - one.outcome
    return wins, np.array([index[one.prompt_id] for one in comparisons])


def _elo(
    comparisons: Sequence[Match],
    models: Sequence[str],
    prompts: np.ndarray,
    drawn: np.ndarray,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Ratings (R, M) of all comparisons in random orders, and of resamples, which have each prompt `drawn` times (R, P); of
    fewer resamples where there are very many comparisons.
    """
    places = {name: i for i, name in enumerate(models)}
    pairs = np.array([(places[one.first], places[one.second]) for one in comparisons])
    outcomes = np.array([one.outcome for one in comparisons])
    whole = np.ones(len(comparisons), dtype=int)
    orders = [generator.permutation(len(comparisons)) for _ in drawn]
    resampled = [generator.permutation(np.repeat(np.arange(len(whole)), counts[prompts])) for counts in drawn]
    return (
        elo(pairs, outcomes, orders, len(models)),
        elo(pairs, outcomes, resampled, len(models)),
    )


def elo(pairs: np.ndarray, outcomes: np.ndarray, orders: Sequence[np.ndarray], n_models: int) -> np.ndarray:
    """(R, M): Elo's ratings after each of R sequences of comparisons, from `CENTRE` on, with factor `ELO_K`. `pairs` (N, 2)
    are indices of models, `outcomes` (N,) those of the first; an order has indices of comparisons.
    """
    ratings = np.full((len(orders), n_models), CENTRE)
    longest = max(map(len, orders))
    padded = np.full((len(orders), longest), -1)
    for row, order in enumerate(orders):
        padded[row, : len(order)] = order
    rows = np.arange(len(orders))
    for now in padded.T:
        first, second = pairs[now].T
        expected = 1 / (1 + 10 ** ((ratings[rows, second] - ratings[rows, first]) / 400))
        change = np.where(now >= 0, ELO_K * (outcomes[now] - expected), 0.0)
        ratings[rows, first] += change
        ratings[rows, second] -= change
    return ratings


def _outcome_for(model: str, comparison: Match) -> float:
    return comparison.outcome if comparison.first == model else 1 - comparison.outcome


def _notes(ratings: Sequence[Rating], wins: np.ndarray) -> tuple[str, ...]:
    if not any(one.wins for one in ratings):
        return (
            "every comparison is a tie, so the ratings and their intervals say nothing about a difference",
        )
    if _is_finite(wins):
        return ()
    extremes = [
        f"{one.model} {'won' if one.wins else 'lost'} every comparison"
        for one in ratings
        if one.ties == 0 and 0 in (one.wins, one.losses)
    ]
    why = "; ".join(extremes) or "some models never lost a comparison to the others, or drew one"
    return (
        f"{why}: the most likely ratings are infinite, so each pair that met is given one more, drawn comparison."
        " Read the order, not the distances",
    )
