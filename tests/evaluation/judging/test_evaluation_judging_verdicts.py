"""Verdicts of both orders, the judge's position bias, and its agreement with votes against scikit-learn's kappa."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from parakit.evaluation.judging.agreement import expected_grade, grade_agreement, kappa, vote_agreement
from parakit.evaluation.judging.inputs import GradeVote, Question, Vote
from parakit.evaluation.judging.judges import OrderedAnswers, Scores
from parakit.evaluation.judging.summary import pairwise_result
from parakit.evaluation.judging.verdicts import Duel, compare_duels, make_duels, position_bias, verdict_row

A, B, C = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


def duel(prompt_id: str = "q", answer_a: str = "one", answer_b: str = "other") -> Duel:
    return Duel(Question(prompt_id, ()), "first", "second", answer_a, answer_b)


def row(forward: Scores | None, swapped: Scores | None = None, prompt_id: str = "q") -> dict[str, Any]:
    scores = None if forward is None or swapped is None else (forward, swapped)
    return verdict_row(duel(prompt_id), scores)


@pytest.mark.parametrize(
    ("forward", "swapped", "winner", "preference"),
    [
        (A, B, "model_a", 1.0),
        (B, A, "model_b", 0.0),
        (A, A, "tie", 0.5),  # always the first: no preference
        (B, B, "tie", 0.5),
        (C, C, "tie", 0.5),
        (A, C, "tie", 0.75),
        ((0.6, 0.3, 0.1), (0.4, 0.5, 0.1), "model_a", 0.6),
        ((0.9, 0.1, 0.0), (0.8, 0.2, 0.0), "tie", 0.55),
        ((0.4, 0.4, 0.2), (0.1, 0.9, 0.0), "tie", 0.7),  # two equal highest are no choice
        (None, None, None, None),
    ],
)
def test_a_winner_is_preferred_in_both_orders(
    forward: Scores | None, swapped: Scores | None, winner: str | None, preference: float | None
) -> None:
    found = row(forward, swapped)
    assert found["winner"] == winner
    assert found["preference"] == (None if preference is None else pytest.approx(preference))


def test_position_bias_counts_pairs_and_choices() -> None:
    rows = [row(A, B), row(A, A), row(A, A), row(A, C), row(B, B), row(C, C), row(None)]
    rows.append(verdict_row(duel(answer_b="one "), None))  # equal answers are no question of position
    found = position_bias(rows)
    assert found is not None
    assert found["n"] == 6
    assert found["consistent"]["value"] == pytest.approx(2 / 6)
    assert found["favours_first"]["value"] == pytest.approx(3 / 6)
    assert found["favours_second"]["value"] == pytest.approx(1 / 6)
    assert found["first_share"]["value"] == pytest.approx(6 / 9)  # of the letters A and B
    assert position_bias([row(None)]) is None


class Recorder:
    """A judge that prefers the longer answer, and records what it was shown."""

    name = "recorder"

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def compare(self, pairs: Sequence[OrderedAnswers]) -> list[Scores | None]:
        self.seen += [(one.first, one.second) for one in pairs]
        return [A if len(one.first) > len(one.second) else B for one in pairs]

    def grade(self, answers: Any) -> list[Scores | None]:
        raise AssertionError


def test_every_pair_is_shown_in_both_orders_and_equal_answers_not_at_all() -> None:
    questions = [Question("q1", ()), Question("q2", ())]
    answers = {"a": {"q1": "x", "q2": "same"}, "b": {"q1": "yy", "q2": "same "}, "c": {"q1": "zzz"}}
    duels, n_missing = make_duels(questions, answers)
    assert (len(duels), n_missing) == (4, 2)
    judge = Recorder()
    rows = [
        verdict_row(one, found["scores"])
        for one, found in zip(duels, compare_duels(judge, duels), strict=True)
    ]
    assert judge.seen == [("x", "yy"), ("yy", "x"), ("x", "zzz"), ("zzz", "x"), ("yy", "zzz"), ("zzz", "yy")]
    assert [one["winner"] for one in rows] == ["model_b", "model_b", "model_b", "tie"]
    result = pairwise_result(rows, list(answers), n_missing, [])
    assert [one["model"] for one in result.figures["ratings"]] == ["c", "b", "a"]
    assert result.figures["pairs"][0] == {"model_a": "a", "model_b": "b", "wins": 0, "ties": 1, "losses": 1}
    assert result.figures["n_equal"] == 1


def test_kappa_is_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(0)
    for n_classes in (2, 3, 5):
        first = generator.integers(0, n_classes, 80)
        second = np.where(generator.random(80) < 0.5, first, generator.integers(0, n_classes, 80))
        counts = np.zeros((n_classes, n_classes))
        np.add.at(counts, (first, second), 1)
        assert kappa(counts) == pytest.approx(metrics.cohen_kappa_score(first, second))
        weighted = metrics.cohen_kappa_score(first, second, weights="quadratic")
        assert kappa(counts, quadratic=True) == pytest.approx(weighted)
    assert kappa(np.diag([4.0, 0.0])) == 0.0  # one class only: nothing beyond chance


def test_agreement_with_votes_in_either_orientation() -> None:
    rows = [row(A, B, "1"), row(B, A, "2"), row(C, C, "3"), row((0.9, 0.1, 0.0), (0.8, 0.2, 0.0), "4")]
    votes = [
        Vote("1", "first", "second", 1.0),
        Vote("1", "second", "first", 0.0),  # the same vote, turned around
        Vote("2", "first", "second", 1.0),
        Vote("3", "first", "second", 0.5),
        Vote("4", "second", "first", 0.0),
        Vote("9", "first", "second", 0.0),
    ]
    found = vote_agreement(rows, votes)
    assert (found["n"], found["n_unmatched"]) == (5, 1)
    assert found["accuracy"]["value"] == pytest.approx(3 / 5)
    assert found["decided"]["value"] == pytest.approx(2 / 3)
    assert found["n_decided"] == 3
    assert found["preferred"]["value"] == pytest.approx(3 / 4)  # the fourth pair's preference is right
    assert found["accuracy"]["low"] <= 3 / 5 <= found["accuracy"]["high"]


def test_agreement_of_grades() -> None:
    sure = {grade: tuple(float(k == grade) for k in range(1, 6)) for grade in range(1, 6)}
    grades = {(str(i), "m"): sure[i % 5 + 1] for i in range(30)}
    same = grade_agreement(grades, [GradeVote(str(i), "m", i % 5 + 1) for i in range(30)])
    assert (same["accuracy"]["value"], same["kappa"]["value"]) == (1.0, 1.0)
    assert same["spearman"]["value"] == pytest.approx(1.0)
    constant = grade_agreement(grades, [GradeVote(str(i), "m", 3) for i in range(30)])
    assert constant["spearman"] is None
    assert constant["kappa"]["value"] == pytest.approx(0.0)
    assert expected_grade((0.5, 0.0, 0.0, 0.0, 0.5)) == 3.0


def test_a_judge_that_knows_nothing_is_noted() -> None:
    found = pairwise_result([row(A, A, str(i)) for i in range(4)], ["first", "second"], 0, []).figures
    assert [one["bradley_terry"]["value"] for one in found["ratings"]] == [1000.0, 1000.0]
    assert "every comparison is a tie" in found["notes"][0]
    assert "contradicts itself" in found["notes"][1]
    assert not pairwise_result([row(A, B), row(B, A)], ["first", "second"], 0, []).figures["notes"]
