"""Votes on blind pairs: one row each, in a file that alignment reads; counted once; what they come to."""

from __future__ import annotations

import json
import threading
from collections import Counter

import numpy as np
import pytest

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Message
from parakit.data.preferences.readers import read_preferences
from parakit.data.row_report import RowReport
from parakit.serving.studio.arena.results import arena_results
from parakit.serving.studio.arena.votes import (
    OUTCOMES,
    AlreadyVoted,
    ArenaVote,
    BlindPair,
    VoteStore,
    check_rater,
    graded_models,
    preference_row,
)

PROMPT = (Message("user", "Who <b>are</b> you?"),)


def pair_of(first: str = "x", second: str = "y", answers: tuple[str, str] = ("good", "bad")) -> BlindPair:
    return BlindPair(PROMPT, (first, second), answers)


def a_wins(pair: BlindPair, rater: str, model: str) -> str:
    """The outcome by which `model` wins as the pair is shown to `rater`."""
    order = pair.shown_order(rater)
    return "ab"[order.index(pair.models.index(model))]


def test_votes_are_rows_that_alignment_reads(tmp_path):
    store = VoteStore(tmp_path)
    one, tie = pair_of(), pair_of()
    assert store.vote(one, "ann", a_wins(one, "ann", "y")) == ""
    assert store.vote(tie, "ann", "both_bad") == "no answer is better than another"
    report = RowReport()
    [(_, ranking)] = list(read_preferences(store.file, report))
    assert (ranking.prompt, ranking.completions) == (PROMPT, ("bad", "good"))
    assert [vote.outcome for vote in store.votes()][1] == "both_bad"
    assert report.total == 1


def test_equal_answers_are_counted_and_the_reader_names_why_it_skips_them(tmp_path):
    pair = pair_of(answers=("same", "same"))
    assert VoteStore(tmp_path).vote(pair, "ann", "a") == "the answers are the same"


def test_two_tabs_on_one_pair_are_counted_once(tmp_path):
    store, pair = VoteStore(tmp_path), pair_of()
    store.vote(pair, "ann", "a")
    with pytest.raises(AlreadyVoted, match="another tab"):
        VoteStore(tmp_path).vote(pair, " ann ", "b")
    store.vote(pair, "bob", "b")
    assert len(store.votes()) == 2


def test_many_at_once_are_counted_once_each(tmp_path):
    store, pairs = VoteStore(tmp_path), [pair_of() for _ in range(5)]
    refused = []

    def vote(pair: BlindPair) -> None:
        try:
            store.vote(pair, "ann", "tie")
        except AlreadyVoted:
            refused.append(pair.id)

    threads = [threading.Thread(target=vote, args=(pair,)) for pair in pairs for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(vote.pair_id for vote in store.votes()) == Counter(pair.id for pair in pairs)
    assert len(refused) == 10


def test_a_line_that_a_crash_cut_costs_no_other_vote(tmp_path):
    store, pair = VoteStore(tmp_path), pair_of()
    store.vote(pair, "ann", "a")
    whole = store.file.read_text()
    store.file.write_text(whole + whole[: len(whole) // 2])
    store.vote(pair_of(), "ann", "a")
    assert len(store.votes()) == 2


def test_the_order_is_by_chance_and_the_same_for_a_rater():
    pairs = [pair_of() for _ in range(400)]
    shown = [pair.shown_order("ann") for pair in pairs]
    assert shown == [pair.shown_order("ann") for pair in pairs]
    assert 140 < sum(order == (0, 1) for order in shown) < 260


def test_pairs_are_kept_for_other_raters_and_ids_name_no_other_file(tmp_path):
    store, pair = VoteStore(tmp_path), pair_of()
    store.add_pair(pair)
    assert store.pair(pair.id) == pair
    assert store.waiting_pair("bob") is None
    store.vote(pair, "ann", "a")
    assert store.waiting_pair("bob") == pair
    assert store.waiting_pair("ann") is None
    for bad in ("../x", "", "zz"):
        with pytest.raises(UserError):
            store.pair(bad)
    (store.pairs / f"{pair.id}.json").write_text("[1]")
    with pytest.raises(UserError, match="not a pair"):
        store.pair(pair.id)


def test_a_rater_has_a_name():
    assert check_rater("  Ann   B ") == "Ann B"
    for bad in ("", "   ", "x" * 61):
        with pytest.raises(UserError, match="rater's name"):
            check_rater(bad)


def test_grades_belong_to_the_models_behind_the_letters():
    pair = pair_of()
    found = graded_models(pair, "ann", ({"helpful": 5}, {"honest": 1}))
    order = pair.shown_order("ann")
    assert found == {pair.models[order[0]]: {"helpful": 5}, pair.models[order[1]]: {"honest": 1}}


def vote_of(
    pair_id: str, rater: str, outcome: str, order=(0, 1), models=("x", "y"), grades=None
) -> ArenaVote:
    return ArenaVote(pair_id, rater, outcome, order, models, grades or {})


def test_ratings_equal_the_closed_form_for_two_models():
    """Of two models Bradley-Terry's maximum is the logarithm of the odds: 3 wins and 1 tie against 1 is 3.5 to 1.5."""
    outcomes = ["a", "a", "a", "tie", "b"]
    results = arena_results([vote_of(str(i), "ann", outcome) for i, outcome in enumerate(outcomes)])
    first, second = results.ratings[0].ratings
    assert first.model == "x"
    gap = first.bradley_terry.value - second.bradley_terry.value
    assert gap == pytest.approx(400 * np.log10(3.5 / 1.5), abs=1e-6)
    assert first.bradley_terry.low <= first.bradley_terry.value <= first.bradley_terry.high
    assert (results.n_ties, results.n_decided, results.first_share.value) == (1, 4, 0.75)


def test_the_order_in_which_answers_were_shown_does_not_change_who_won():
    assert vote_of("1", "ann", "a", (1, 0)).score == 0.0
    assert vote_of("1", "ann", "b", (1, 0)).score == 1.0
    assert {vote_of("1", "ann", one).score for one in OUTCOMES} == {0.0, 0.5, 1.0}


def test_kappa_equals_its_definition():
    generator = np.random.default_rng(0)
    ann, bob = (generator.choice(["a", "b", "tie"], size=40) for _ in range(2))
    bob = np.where(generator.random(40) < 0.6, ann, bob)
    votes = [
        vote_of(str(i), name, one) for name, row in (("ann", ann), ("bob", bob)) for i, one in enumerate(row)
    ]
    [agreement] = arena_results(votes).agreements
    assert (agreement.raters, agreement.n_pairs) == (("ann", "bob"), 40)
    observed = np.mean(ann == bob)
    by_chance = sum(np.mean(ann == one) * np.mean(bob == one) for one in ("a", "b", "tie"))
    assert agreement.kappa.value == pytest.approx((observed - by_chance) / (1 - by_chance))  # Cohen 1960


def test_without_votes_there_are_no_figures_and_models_that_never_met_are_named():
    assert arena_results([]).ratings == ()
    apart = [vote_of("1", "ann", "a"), vote_of("2", "ann", "a", models=("u", "v"))]
    assert len(arena_results(apart).ratings) == 2


def test_grades_have_means_by_model():
    votes = [
        vote_of(str(i), "ann", "a", grades={"x": {"helpful": grade}, "y": {"other": 1}})
        for i, grade in enumerate((2, 5))
    ]
    grades = arena_results(votes).grades
    assert grades["x"]["helpful"].value == 3.5
    assert "y" not in grades


def test_a_row_is_text_as_it_was(tmp_path):
    pair = pair_of(answers=("</script><script>x</script>", "b"))
    row = preference_row(pair, vote_of(pair.id, "ann", "a"))
    assert json.loads(json.dumps(row))["chosen"] == "</script><script>x</script>"
