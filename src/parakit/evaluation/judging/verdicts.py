"""Pairwise verdicts: both orders of every two answers, the winner, and the judge's position bias.

An answer wins where the judge prefers it in both orders; all else is a tie (Zheng et al. 2023, "Judging LLM-as-a-judge",
section 3.4). `preference`, the mean probability over both orders, keeps what a biased judge knows all the same: a bias for
one position cancels in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from parakit.common.files import JsonObject
from parakit.evaluation.intervals import Estimate, bootstrap_mean, wilson_interval
from parakit.evaluation.judging.inputs import Question
from parakit.evaluation.judging.judges import Judge, OrderedAnswers, Scores
from parakit.evaluation.judging.ratings import Match
from parakit.evaluation.results import digest

Winner = Literal["model_a", "model_b", "tie"]
OUTCOMES: Mapping[Winner, float] = {"model_a": 1.0, "tie": 0.5, "model_b": 0.0}


@dataclass(frozen=True)
class Duel:
    """Two models' answers to one prompt."""

    question: Question
    model_a: str
    model_b: str
    answer_a: str
    answer_b: str

    @property
    def is_equal(self) -> bool:
        """Equal answers are a tie, and no judge is needed."""
        return self.answer_a.strip() == self.answer_b.strip()

    @property
    def content_id(self) -> str:
        """Of all that the judge reads."""
        return digest([self.question.text, self.question.reference or "", self.answer_a, self.answer_b])


def make_duels(
    questions: Sequence[Question], answers: Mapping[str, Mapping[str, str | None]]
) -> tuple[list[Duel], int]:
    """Every two models on every prompt, and how many pairs lack an answer, which are left out. `answers`: by model, by the
    prompt's id.
    """
    duels, n_missing = [], 0
    for question in questions:
        for a, b in combinations(answers, 2):
            first, second = answers[a].get(question.id), answers[b].get(question.id)
            if first is None or second is None:
                n_missing += 1
            else:
                duels.append(Duel(question, a, b, first, second))
    return duels, n_missing


def compare_duels(judge: Judge, duels: Sequence[Duel]) -> list[JsonObject]:
    """A row for each: `scores`, those of `Judge.compare` for the answers as they are and swapped; None where one is missing
    or the answers are equal.
    """
    open_ones = [duel for duel in duels if not duel.is_equal]
    pairs = [
        OrderedAnswers(duel.question, *answers)
        for duel in open_ones
        for answers in ((duel.answer_a, duel.answer_b), (duel.answer_b, duel.answer_a))
    ]
    found = iter(judge.compare(pairs) if pairs else [])
    return [{"scores": None if duel.is_equal else _both(next(found), next(found))} for duel in duels]


def _both(forward: Scores | None, swapped: Scores | None) -> list[Scores] | None:
    return None if forward is None or swapped is None else [forward, swapped]


def verdict_row(duel: Duel, scores: Sequence[Scores] | None) -> JsonObject:
    """The line of verdicts.jsonl; its `id`, `model_a`, `model_b` and `winner` are those of a file of votes."""
    row: JsonObject = {"id": duel.question.id, "model_a": duel.model_a, "model_b": duel.model_b}
    row |= {"prompt": duel.question.text, "answer_a": duel.answer_a, "answer_b": duel.answer_b}
    if duel.is_equal:
        return row | {"winner": "tie", "preference": 0.5, "equal": True, "scores": None}
    if scores is None:
        return row | {"winner": None, "preference": None, "equal": False, "scores": None}
    forward, swapped = scores
    preference = (forward[0] + forward[2] / 2 + swapped[1] + swapped[2] / 2) / 2
    first, second = _position(forward), _position(swapped)
    winner: Winner = "tie" if first != -second or first == 0 else "model_a" if first > 0 else "model_b"
    return row | {"winner": winner, "preference": preference, "equal": False, "scores": [forward, swapped]}


def _position(scores: Sequence[float]) -> int:
    """1 where the answer shown first wins, -1 where the second does, 0 for a tie or two equal highest."""
    best = max(scores)
    winners = [i for i, score in enumerate(scores) if score == best]
    return {0: 1, 1: -1, 2: 0}[winners[0]] if len(winners) == 1 else 0


def position_bias(rows: Sequence[JsonObject]) -> JsonObject | None:
    """How far the verdicts depend on the order: the shares of pairs that are consistent, that favour the answer shown
    first, and the one shown second, whichever it is; and `first_share`, how often the first is chosen where one is. None
    where the judge compared nothing.
    """
    positions = np.array([[_position(one) for one in row["scores"]] for row in rows if row["scores"]])
    if not len(positions):
        return None
    total, n = positions.sum(1), len(positions)
    shares = {
        name: int(found.sum())
        for name, found in (
            ("consistent", total == 0),
            ("favours_first", total > 0),
            ("favours_second", total < 0),
        )
    }
    chosen = (positions != 0).sum(1)
    first = (
        bootstrap_mean((positions > 0).sum(1).astype(float), chosen.astype(float)) if chosen.any() else None
    )
    return {
        "n": n,
        **{name: Estimate(k / n, *wilson_interval(k, n)).__dict__ for name, k in shares.items()},
        "first_share": None if first is None else first.__dict__,
    }


def matches_of(rows: Sequence[JsonObject]) -> list[Match]:
    """What ratings are made of; pairs without a verdict are left out."""
    return [
        Match(row["id"], row["model_a"], row["model_b"], OUTCOMES[row["winner"]])
        for row in rows
        if row["winner"] is not None
    ]
