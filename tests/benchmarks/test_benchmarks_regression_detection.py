"""The planted falls: what a trial draws, and that the two ways of reporting see a large fall and none where there is none."""

from __future__ import annotations

import numpy as np

from benchmarks.quality.verdicts import regression_detection as planted
from parakit.common.seeds import rng


def test_a_trial_keeps_how_often_the_sides_disagree_and_takes_away_who_is_better() -> None:
    first = rng(0, "answers").random(1000) < 0.7
    answers = np.array([first, first & (rng(0, "worse").random(1000) < 0.8)])
    drawn = planted._without_difference(answers, 20_000, trial=0)
    assert abs((drawn[0] != drawn[1]).mean() - (answers[0] != answers[1]).mean()) < 0.01
    assert abs(drawn[1].mean() - drawn[0].mean()) < 0.01
    often = planted._disagreeing(answers, 0.3)
    assert (often[0] != often[1]).mean() == 0.3
    assert planted._compare(answers)
    assert planted._gate(answers)
    assert not planted._compare(drawn[:, 300:600])
    assert not planted._gate(drawn[:, 300:620])
