"""Suites: the form a model is asked in, what is judged, what is kept, and the comparison of two models."""

from __future__ import annotations

import dataclasses

import pytest

from parakit.common.errors import UserError
from parakit.evaluation.comparison.folders import scores_of
from parakit.evaluation.comparison.models import compare_models
from parakit.evaluation.comparison.outcome import ModelScores
from parakit.evaluation.intervals import wilson_interval
from parakit.evaluation.suites import SuiteAnswer, run_suites, summarize_answers
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.text import generate
from parakit.primer import PrimerConfig, SuiteItem, generate_suites, is_correct, plain_prompt


@pytest.fixture(scope="module")
def small_suites() -> dict[str, list[SuiteItem]]:
    return generate_suites(PrimerConfig(n_suite_items=8))


def test_a_tuned_model_is_asked_by_the_template_and_a_base_model_as_plain_text(
    model, tokenizer, small_suites
):
    done = []
    for chat in (True, False):
        results = run_suites(model, tokenizer, small_suites, chat=chat, max_new_tokens=8, advance=done.append)
        assert list(results) == list(small_suites)
        for name, items in small_suites.items():
            assert results[name].prompting == ("chat" if chat else "plain")
            for item, sample in zip(items[:2], results[name].samples, strict=False):
                config = SamplingConfig(temperature=0.0, max_new_tokens=8, stop=() if chat else ("\n",))
                alone = generate(model, tokenizer, item.messages if chat else plain_prompt(item), config)
                assert sample.completion == alone.text.strip()
                assert sample.correct == is_correct(item, alone.text)
                assert sample.question == item.messages[-1].content
                assert "\n" not in sample.completion or chat
    assert sum(done) == 2 * 8 * 8


def test_what_counts_is_the_primers_judgement_of_the_answer(model, tokenizer, small_suites):
    """A suite whose right answers are what the model says anyway is solved, whatever it says."""
    items = small_suites["facts"]
    plain = run_suites(model, tokenizer, {"facts": items}, chat=True, max_new_tokens=8)["facts"]
    solved = [
        dataclasses.replace(item, answer=sample.completion, check="exact")
        for item, sample in zip(items, plain.samples, strict=True)
    ]
    found = run_suites(model, tokenizer, {"facts": solved[:6] + items[6:]}, chat=True, max_new_tokens=8)[
        "facts"
    ]
    n_correct = 6 + sum(sample.correct for sample in plain.samples[6:])
    assert found.accuracy == n_correct / 8
    assert (found.low, found.high) == wilson_interval(n_correct, 8)
    assert found.n == len(found.samples) == 8


def test_a_question_over_the_window_names_the_suite(model, tokenizer, small_suites):
    item = small_suites["facts"][0]
    long = dataclasses.replace(
        item, messages=(dataclasses.replace(item.messages[-1], content="bird " * 300),)
    )
    with pytest.raises(UserError, match=r"suite facts: prompt 2 of 2.* 256"):
        run_suites(model, tokenizer, {"facts": [item, long]}, chat=True)


def as_scores(right: list[bool]) -> ModelScores:
    samples = tuple(SuiteAnswer(f"q{i}", "a", "b", correct, "stop") for i, correct in enumerate(right))
    suites = {"facts": dataclasses.asdict(summarize_answers(samples, "chat"))}
    return scores_of("model", {"suites": suites}, {"max_new_tokens": 9})


def test_two_models_are_compared_item_by_item():
    first, second = as_scores([True] * 10 + [False] * 30), as_scores([True] * 30 + [False] * 10)
    (found,) = compare_models(first, [second])
    row = found.score("suite", "facts")
    assert row.difference == 0.5
    assert row.p_value == pytest.approx(2 * 0.5**20)
    assert row.low > 0.3
    with pytest.raises(UserError, match="40 and 39, of which 39 are shared"):
        compare_models(first, [as_scores([True] * 39)])
