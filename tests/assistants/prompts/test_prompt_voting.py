"""The expected score of a choice among n replies, against the mean over all subsets."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from parakit.assistants.prompts.voting import (
    coverage,
    expected_choice,
    expected_vote,
    majority,
    verifier_errors,
    vote_key,
)

SCORES = np.array([[1, 0, 0, 1, 0, 1], [0, 0, 1, 0, 0, 0], [0] * 6], float)


def test_a_vote_ignores_case_and_punctuation():
    assert vote_key("  The Bird. ") == vote_key("the  bird") == "the bird"
    assert vote_key("...") is None
    assert vote_key(None) is None


def test_the_most_frequent_answer_wins_and_of_equal_ones_the_first():
    assert majority(["a", "b", "b"]) == 1
    assert majority(["a", "b"]) == 0
    assert majority([None, None, "b"]) == 2
    assert majority([None, None]) == 0


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_the_best_of_n_is_the_mean_over_all_subsets(n: int):
    by = np.array([[0.3, 0.9, 0.1, 0.8, 0.2, 0.7], [3, 2, 9, 1, 0, 4], [1, 2, 3, 4, 5, 6]], float)
    found = expected_choice(SCORES, by, n)
    for item in range(3):
        subsets = [SCORES[item][max(one, key=lambda i: by[item][i])] for one in combinations(range(6), n)]
        assert found[item] == pytest.approx(np.mean(subsets))


@pytest.mark.parametrize("n", [1, 2, 4, 6])
def test_coverage_is_pass_at_n(n: int):
    found = coverage(SCORES, n)
    for item in range(3):
        subsets = [SCORES[item][list(one)].max() for one in combinations(range(6), n)]
        assert found[item] == pytest.approx(np.mean(subsets))


def test_equal_scores_of_a_verifier_share_their_places():
    assert expected_choice(SCORES, np.zeros_like(SCORES), 4) == pytest.approx(SCORES.mean(1))


def test_votes_are_near_the_mean_over_all_subsets():
    keys = [["7", "8", "9", "7", "8", "7"]]
    scores = np.array([[1, 0, 0, 1, 0, 1]], float)
    exact = np.mean(
        [
            scores[0][[*order][majority([keys[0][i] for i in order])]]
            for one in combinations(range(6), 3)
            for order in (one, one[::-1])  # of equally frequent answers the first: both orders
        ]
    )
    assert expected_vote(scores, keys, 3)[0] == pytest.approx(exact, abs=0.1)
    assert expected_vote(scores, keys, 1)[0] == 0.5
    assert expected_vote(scores, keys, 6)[0] == 1.0


def test_a_verifiers_errors_are_counted():
    by = np.array([[5, 6, 1, 2, 0, 7], [0, 1, 2, 3, 4, 5], [0] * 6], float)
    found = verifier_errors(SCORES, by)
    # item 1: right 5, 2, 7 against wrong 6, 1, 0: 2 + 2 + 3 of 9; item 2: right 2 against 0, 1, 3, 4, 5: 2 of 5
    assert found == {
        "ranked": pytest.approx(9 / 14),
        "missed": pytest.approx(0.5),
        "n_pairs": 14,
        "n_items": 2,
    }
    assert verifier_errors(np.zeros((2, 3)), np.zeros((2, 3)))["ranked"] is None
