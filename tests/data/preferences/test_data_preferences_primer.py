"""The primer's preferences: good answers are right, worse ones are wrong by the suites' own checks."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from parakit.primer import PrimerConfig, SuiteItem, generate_preferences, is_correct
from parakit.primer.documents import SKILLS
from parakit.primer.seeded_random import Random
from parakit.primer.skills.negatives import negative_answer


@pytest.mark.parametrize("name", SKILLS)
@pytest.mark.parametrize("held_out", [False, True])
def test_a_worse_answer_fails_where_the_good_one_passes(name: str, held_out: bool) -> None:
    random = Random(5, "worse", name)
    for _ in range(60):
        exercise = SKILLS[name].draw(random, held_out)
        item = SuiteItem(
            name, (), exercise.answer, exercise.accept, exercise.reject, exercise.check, exercise.combination
        )
        worse = negative_answer(random, exercise)
        assert is_correct(item, exercise.answer)
        assert not is_correct(item, worse), (exercise.question, exercise.answer, worse)


def test_the_stream_is_a_function_of_the_seed_and_a_larger_number_goes_on() -> None:
    few, more, other = (
        list(generate_preferences(PrimerConfig(seed=seed, n_examples=n)))
        for seed, n in ((1, 30), (1, 50), (2, 30))
    )
    assert more[:30] == few
    assert other != few
    assert len({ranking.digest for ranking in more}) == 50


def test_every_skill_occurs_and_some_rankings_have_three_answers() -> None:
    found = list(islice(generate_preferences(PrimerConfig(n_examples=400)), 400))
    sizes = Counter(len(ranking.completions) for ranking in found)
    assert set(sizes) == {2, 3}
    assert 0.05 < sizes[3] / 400 < 0.3
