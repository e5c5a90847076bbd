"""What votes come to: ratings, agreement of raters, position bias, grades; with intervals, by the functions of judging."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from parakit.common.files import JsonObject
from parakit.evaluation.intervals import Estimate, bootstrap_mean, wilson_interval
from parakit.evaluation.judging.agreement import vote_agreement
from parakit.evaluation.judging.inputs import Vote
from parakit.evaluation.judging.ratings import Match, RatingTable, rate_groups
from parakit.serving.studio.arena.votes import QUALITIES, ArenaVote


@dataclass(frozen=True)
class Agreement:
    """Of two raters on the pairs on which both voted: 0 is what chance gives, 1 is complete."""

    raters: tuple[str, str]
    n_pairs: int
    kappa: Estimate


@dataclass(frozen=True)
class ArenaResults:
    """`ratings`: a table for each group of models that met. `first_share`: how often the answer shown as A won, where one
    did.
    """

    n_votes: int
    n_ties: int
    ratings: tuple[RatingTable, ...]
    agreements: tuple[Agreement, ...]
    first_share: Estimate | None
    n_decided: int
    grades: dict[str, dict[str, Estimate]]
    """Means by model, then by quality."""


def arena_results(votes: Sequence[ArenaVote]) -> ArenaResults:
    """Figures of all votes."""
    tables = rate_groups([Match(v.pair_id, *v.models, v.score) for v in votes])
    decided = [vote for vote in votes if vote.outcome in ("a", "b")]
    n_first = sum(vote.outcome == "a" for vote in decided)
    share = (
        Estimate(n_first / len(decided), *wilson_interval(n_first, len(decided))) if len(decided) else None
    )
    return ArenaResults(
        len(votes),
        len(votes) - len(decided),
        tables,
        tuple(_agreements(votes)),
        share,
        len(decided),
        _grades(votes),
    )


def _agreements(votes: Sequence[ArenaVote]) -> list[Agreement]:
    """Of every two raters with a common pair."""
    by_rater: dict[str, list[ArenaVote]] = {}
    for vote in votes:
        by_rater.setdefault(vote.rater, []).append(vote)
    found = []
    for one, other in combinations(sorted(by_rater), 2):
        common = {v.pair_id for v in by_rater[one]} & {v.pair_id for v in by_rater[other]}
        if common:
            rows = [_verdict(vote) for vote in by_rater[one] if vote.pair_id in common]
            others = [
                Vote(vote.pair_id, *vote.models, vote.score)
                for vote in by_rater[other]
                if vote.pair_id in common
            ]
            kappa = Estimate(**vote_agreement(rows, others)["kappa"])
            found.append(Agreement((one, other), len(common), kappa))
    return found


def _verdict(vote: ArenaVote) -> JsonObject:
    """A vote in the form of a judge's verdict."""
    winner = {1.0: "model_a", 0.5: "tie", 0.0: "model_b"}[vote.score]
    a, b = vote.models
    return {"id": vote.pair_id, "model_a": a, "model_b": b, "winner": winner, "preference": vote.score}


def _grades(votes: Sequence[ArenaVote]) -> dict[str, dict[str, Estimate]]:
    values: dict[str, dict[str, list[int]]] = {}
    for vote in votes:
        for model, grades in vote.grades.items():
            for quality, grade in grades.items():
                if quality in QUALITIES:
                    values.setdefault(model, {}).setdefault(quality, []).append(grade)
    return {
        model: {quality: bootstrap_mean(np.array(grades, float)) for quality, grades in by_quality.items()}
        for model, by_quality in values.items()
    }
