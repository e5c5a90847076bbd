"""Two models' scores: verdicts, what is refused, and how often a planted fall is told."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.evaluation.comparison.config import CompareConfig
from parakit.evaluation.comparison.models import compare_models
from parakit.evaluation.comparison.outcome import ModelScores
from parakit.evaluation.results import BenchmarkResult, Item, Protocol, digest, summarize_items

PROTOCOL = Protocol("arc", "1.0", "lm-eval 0.4.13", "data", "prompts", settings={"limit": 40})


def result(values, protocol: Protocol = PROTOCOL, start: int = 0, **others) -> BenchmarkResult:
    items = [
        Item(
            f"q{start + i}",
            f"question {start + i}",
            "yes",
            "yes" if value else "no",
            {"acc": float(value)},
            "g",
        )
        for i, value in enumerate(values)
    ]
    return summarize_items(protocol, items, "acc", **others)


def scores(name: str, *results: BenchmarkResult) -> ModelScores:
    return ModelScores(name, {f"task{i}": one for i, one in enumerate(results)})


def one_comparison(first: BenchmarkResult, second: BenchmarkResult, **settings):
    (found,) = compare_models(scores("a", first), [scores("b", second)], CompareConfig(**settings))
    return found


def test_a_verdict_is_better_worse_or_cannot_tell_and_the_other_way_round_where_lower_is_better() -> None:
    low, high = [1] * 60 + [0] * 140, [1] * 90 + [0] * 110
    found = one_comparison(result(low), result(high))
    assert (found.verdict, found.scores[0].n_better, found.scores[0].n_worse) == ("better", 30, 0)
    assert [(c.item, c.better) for c in found.changed][:1] == [("q60", True)]
    assert one_comparison(result(high), result(low)).verdict == "worse"
    lower = [result(low, lower_is_better=["acc"]), result(high, lower_is_better=["acc"])]
    assert one_comparison(*lower).verdict == "worse"
    near = one_comparison(result(low), result([*low[:-2], 1, 0]))
    (row,) = near.scores
    assert (near.verdict, row.verdict, near.changed[0].item) == ("cannot tell", "cannot tell", "q198")
    assert row.n_needed > 200  # 2 points are below what 200 items tell
    assert row.detectable > 0.02
    assert one_comparison(result(low), result([*low[:-2], 1, 0]), detect=0.3).scores[0].n_needed < 200


def test_the_worst_score_decides_and_all_tests_of_all_models_are_corrected_together() -> None:
    low, high = [1] * 60 + [0] * 140, [1] * 90 + [0] * 110
    reference = scores("a", result(low), result(high))
    mixed = scores("mixed", result(high), result(low))
    found = compare_models(reference, [mixed, scores("same", result(low), result(high))])
    assert [one.verdict for one in found] == ["worse", "cannot tell"]
    assert [row.kind for row in found[0].scores] == ["all", "benchmark", "benchmark"]
    assert found[0].scores[0].n == 400
    alone = one_comparison(result(low), result(high)).scores[0]
    assert alone.corrected_p_value == alone.p_value
    assert found[0].score("benchmark", "task0").corrected_p_value == pytest.approx(8 * alone.p_value)


def test_other_metrics_are_shown_without_a_verdict() -> None:
    both = [
        dataclasses.replace(item, scores={**item.scores, "nats": i / 7})
        for i, item in enumerate(result([1, 0] * 30).items)
    ]
    first = summarize_items(PROTOCOL, both, "acc")
    second = summarize_items(
        PROTOCOL, [dataclasses.replace(item, scores={"acc": 1.0, "nats": 0.1}) for item in both], "acc"
    )
    main, other = one_comparison(first, second).scores
    assert (main.metric, main.verdict) == ("acc", "better")
    assert (other.metric, other.verdict, other.corrected_p_value) == ("nats", None, None)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"version": "2.0"}, r"version is 1\.0 and 2\.0"),
        ({"n_shots": 5}, "n_shots is 0 and 5"),
        ({"prompting": "chat"}, "prompting is plain and chat"),
        ({"system_prompt": "Be kind"}, "system_prompt is None and Be kind"),
        ({"program": "lm-eval 0.4.9"}, r"program is lm-eval 0\.4\.13 and lm-eval 0\.4\.9"),
        ({"data_digest": "other"}, "data_digest is data and other"),
        ({"prompts_digest": "other"}, "prompts_digest is prompts and other"),
        ({"split": "test"}, "split is None and test"),
        ({"settings": {"limit": 40, "normalise": "bytes"}}, r"settings\.normalise is None and bytes"),
    ],
)
def test_scores_of_other_protocols_are_refused_with_both_values_unless_allowed(
    change: dict, named: str
) -> None:
    first, second = result([1, 0] * 20), result([1, 1] * 20, dataclasses.replace(PROTOCOL, **change))
    with pytest.raises(UserError, match=f"task0: .*different protocols: {named}") as error:
        one_comparison(first, second)
    field = next(iter(change))
    assert f"--allow {field}" in error.value.hint
    found = one_comparison(first, second, allow=(field,))
    assert found.scores[0].allowed[field][1] == change[field]
    assert found.verdict == "better"


def test_other_items_are_refused_with_counts_and_the_shared_ones_compared_where_requested() -> None:
    first = result([1, 0] * 20)
    other = dataclasses.replace(PROTOCOL, prompts_digest=digest(["x"]), settings={"limit": 60})
    second = result([1, 1] * 30, other)
    with pytest.raises(UserError, match="40 and 60, of which 40 are shared") as error:
        one_comparison(first, second)
    assert "--common-items" in error.value.hint
    (row,) = one_comparison(first, second, common_items=True).scores
    assert (row.n, row.n_left_out, row.difference) == (40, 20, 0.5)
    with pytest.raises(UserError, match="40 and 30, of which 0 are shared"):
        one_comparison(first, result([1] * 30, other, start=500), common_items=True)
    worded = dataclasses.replace(
        second, items=tuple(dataclasses.replace(i, prompt="!") for i in second.items)
    )
    with pytest.raises(UserError, match="prompts_digest is question 0 and !"):
        one_comparison(first, worded, common_items=True)


def test_a_score_of_all_items_together_is_not_compared_and_the_next_stands_for_its_benchmark() -> None:
    def with_perplexity(values) -> BenchmarkResult:
        one = result(values)
        return dataclasses.replace(
            one,
            main="perplexity",
            scores={"perplexity": dataclasses.replace(one.scores["acc"]), **one.scores},
        )

    low, high = with_perplexity([1] * 60 + [0] * 140), with_perplexity([1] * 90 + [0] * 110)
    assert (one_comparison(low, high).scores[0].metric, one_comparison(low, high).verdict) == (
        "acc",
        "better",
    )
    alone = dataclasses.replace(low, scores={"perplexity": low.scores["acc"]})
    with_other = [ModelScores(name, {"text": alone, "arc": low}) for name in ("a", "b")]
    assert compare_models(with_other[0], with_other[1:])[0].not_compared == ("text",)


def test_data_that_was_corrected_is_another_protocol() -> None:
    first, second = result([1, 0] * 20), result([1, 1] * 20, dataclasses.replace(PROTOCOL, data_digest="new"))
    right = dataclasses.replace(
        second, items=tuple(dataclasses.replace(i, target="no") for i in second.items)
    )
    with pytest.raises(UserError, match=r"data_digest is yes and no \(target of an item\)"):
        one_comparison(first, right)
    fewer = dataclasses.replace(second, items=second.items[:30])
    assert one_comparison(first, fewer, common_items=True).scores[0].n == 30


def test_faults_of_all_benchmarks_are_named_at_once_and_what_only_one_has_is_listed() -> None:
    first = ModelScores("a", {"x": result([1] * 9), "y": result([1] * 9), "mine": result([1] * 9)})
    other = dataclasses.replace(PROTOCOL, n_shots=3)
    with pytest.raises(UserError, match=r"a and b: x, y: .*n_shots"):
        compare_models(first, [ModelScores("b", {"x": result([1] * 9, other), "y": result([1] * 9, other)})])
    (found,) = compare_models(first, [ModelScores("b", {"x": result([0] * 9), "its": result([1])})])
    assert (found.only_in_reference, found.only_in_model) == (("mine", "y"), ("its",))
    with pytest.raises(UserError, match="share no benchmark, suite or text"):
        compare_models(first, [ModelScores("b", {"its": result([1])})])
    twice = dataclasses.replace(result([1, 1]), items=result([1]).items * 2)
    with pytest.raises(UserError, match="1 of 2 items have the id of another"):
        one_comparison(twice, twice)
    broken = result([float("nan"), 1])
    with pytest.raises(UserError, match="a score is not finite: acc"):
        one_comparison(broken, broken)


def test_a_fall_of_five_points_is_told_and_no_fall_hardly_ever_is() -> None:
    """2,000 items in eight suites, on which two equal models disagree one time in five; a few of the 200 trials that
    benchmarks/quality/verdicts/regression_detection.py runs on the answers of a real model.
    """
    told = {0.0: 0, 0.05: 0}
    for trial in range(10):
        generator = rng(trial, "fall")
        easy = generator.random((8, 250)) < 0.6
        first = easy ^ (generator.random((8, 250)) < 0.1)
        for fall in told:
            second = easy ^ (generator.random((8, 250)) < 0.1)
            second &= generator.random((8, 250)) >= fall / second.mean()
            (found,) = compare_models(scores("a", *map(result, first)), [scores("b", *map(result, second))])
            told[fall] += found.verdict == "worse"
    assert told[0.0] <= 1
    assert told[0.05] >= 9
    assert np.isfinite(found.scores[0].detectable)
