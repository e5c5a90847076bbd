"""The five behaviours: pairs without a favourite answer, heads that carry them, the senses of a word."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from parakit.common.errors import UserError
from parakit.inspection.behaviours.measuring import encode_behaviour_pair, measure_behaviour, word_positions
from parakit.inspection.behaviours.senses import BANK, _neighbour_figures, measure_senses
from parakit.inspection.behaviours.sentences import _differing_words, english_pairs, pairs_of, primer_pairs
from parakit.inspection.inputs import encode_input
from parakit.inspection.names import BEHAVIOURS


def test_every_english_pair_names_its_words_and_no_answer_is_right_by_itself():
    pairs = english_pairs()
    assert {one.behaviour for one in pairs} == set(BEHAVIOURS)
    for name in ("reference", "long_range", "agreement", "meaning"):
        of_one = [one for one in pairs if one.behaviour == name]
        assert len(of_one) >= 16
        right, wrong = (Counter(getattr(one, side) for one in of_one) for side in ("good", "bad"))
        assert right == wrong  # a favourite answer is right as often as wrong
    for one in pairs:
        assert one.good != one.bad
        assert one.cue in one.before
        assert one.distractor in one.before


@pytest.mark.parametrize(
    ("good", "bad", "parts"),
    [
        ("The keys are new.", "The keys is new.", ("The keys", " are", " is", " new.")),
        ("She sees it", "She sees her", ("She sees", " it", " her", "")),
        ("A b c d", "A x y d", ("A", " b c", " x y", " d")),
        ("One two", "Three two", ("", "One", "Three", " two")),
    ],
)
def test_pairs_are_split_where_they_differ(good, bad, parts):
    assert _differing_words(good, bad) == parts
    before, first, second, after = parts
    assert (before + first + after, before + second + after) == (good, bad)


def test_the_primers_pairs_are_whole_texts_again():
    found = pairs_of("primer", 6)
    assert {name: len(pairs) for name, pairs in found.items()} == dict.fromkeys(BEHAVIOURS, 6)
    assert any(one.cue for one in found["agreement"])
    for one in primer_pairs(4):
        assert one.good != one.bad


@pytest.mark.parametrize("family", ["decoder", "encoder", "encoder_decoder"])
def test_a_behaviour_is_measured_on_pairs_that_did_not_choose_the_heads(family, request):
    model = request.getfixturevalue(family)
    pairs = [one for one in english_pairs() if one.behaviour == "negation"][:8]
    seen = []
    found = measure_behaviour(model, pairs, n_heads=2, on_progress=seen.append)
    assert sum(seen) == len(pairs)
    assert found.values.shape == found.values_without.shape == (4,)
    assert found.values_random.shape == (5, 4)
    assert len(found.heads) >= 1
    from parakit.inspection.ablation import effects

    alone = [
        effects(model.network, encode_behaviour_pair(model, pairs[i]), [list(found.heads)])[0]
        for i in (2, 3, 6, 7)
    ]
    np.testing.assert_allclose(found.values_without - found.values, alone, atol=1e-5)
    assert 0 <= found.carriers.cue <= 1
    assert found.example.good in [one.good.strip() for one in pairs]
    with pytest.raises(UserError, match="3 pairs: one half chooses heads"):
        measure_behaviour(model, pairs[:3])


@pytest.mark.parametrize("family", ["decoder", "encoder"])
def test_the_tokens_of_a_word_are_found(family, request):
    model = request.getfixturevalue(family)
    text = "The small bird sees the old tree"
    given = encode_input(model, text)
    at = word_positions(model, given, text, "old")
    assert "".join(given.tokens[i] for i in at).strip() == "old"
    assert word_positions(model, given, text, "ol") == []
    assert word_positions(model, given, text, "") == []


def test_senses_by_nearest_neighbour():
    vectors = np.array(
        [[[1, 0.1], [1, 0], [-1, 0.1], [-1, 0]], [[1, 0], [-1, 0], [1, 0.1], [-1, 0.1]]], float
    )
    right, within, between = _neighbour_figures(vectors, ["a", "a", "b", "b"])
    assert right.tolist() == [[True] * 4, [False] * 4]
    assert within[0] > 0.9 > between[0]


@pytest.mark.parametrize("family", ["decoder", "encoder", "encoder_decoder"])
def test_senses_of_a_word_in_any_model(family, request):
    model = request.getfixturevalue(family)
    few = {sense: texts[:2] for sense, texts in BANK.items()}
    found = measure_senses(model, "bank", few, n_shown=2)
    assert found.right.shape == (len(found.layers), 4)
    assert len(found.without) == found.best + 1
    assert len(found.neighbours) == 4
    assert len(found.neighbours[0].neighbours) == 2
    with pytest.raises(UserError, match="'bank' does not occur in 'A bird'"):
        measure_senses(model, "bank", {"a": ("A bird",), "b": ("the bank",)})
