"""Compares models with a reference on everything that both were scored on: benchmarks, the primer's suites, losses on texts.

Every benchmark, suite and text has one test, of its main score, and `all` one over all 0/1 items, which tells a fall that is
spread over many small suites. `all` has half of the level, as it counts as much as the others together in Holm's correction.
Other metrics of a benchmark are shown without a verdict. It says nothing of the noise of training: two runs that differ by
their seed differ too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.evaluation.comparison.config import CompareConfig
from parakit.evaluation.comparison.losses import LossDifference, compare_losses
from parakit.evaluation.comparison.matching import Matched, match_items, match_losses
from parakit.evaluation.comparison.outcome import (
    ChangedItem,
    GroupDifference,
    ModelComparison,
    ModelScores,
    ScoreComparison,
    ScoreKind,
    Verdict,
    overall_verdict,
)
from parakit.evaluation.comparison.paired_tests import (
    PairedTest,
    detectable,
    detectable_by_error,
    holm,
    items_needed,
    paired_test,
)
from parakit.evaluation.results import BenchmarkResult, Item


@dataclass(frozen=True)
class _Tested:
    """A row before the correction, and its test; that of a loss is in its row."""

    row: ScoreComparison
    test: PairedTest | None = None
    better: tuple[np.ndarray, np.ndarray] | None = None
    """Of 0/1 scores whether each item is right, for `all`."""


def compare_models(
    reference: ModelScores, models: Sequence[ModelScores], config: CompareConfig | None = None
) -> list[ModelComparison]:
    """Each of `models` against `reference`; all tests of all models are corrected together. `UserError` where two scores of
    one name have other protocols or items, and where a model shares nothing with the reference.
    """
    config = config or CompareConfig()
    found = [_test_all(reference, model, config) for model in models]
    main = [(i, j) for i, (tested, _) in enumerate(found) for j, one in enumerate(tested) if _is_main(one)]
    n_others = len([1 for i, j in main if found[i][0][j].row.kind != "all"])
    n_all = len(main) - n_others
    weights = [n_others / n_all if found[i][0][j].row.kind == "all" else 1.0 for i, j in main]
    corrected = holm([found[i][0][j].row.p_value for i, j in main], weights)
    judged = {
        place: _judge(found[place[0]][0][place[1]], p, config, config.level * weight / sum(weights))
        for place, p, weight in zip(main, corrected, weights, strict=True)
    }
    return [
        _comparison(
            reference, model, [judged.get((i, j), one.row) for j, one in enumerate(found[i][0])], found[i][1]
        )
        for i, model in enumerate(models)
    ]


def _is_main(tested: _Tested) -> bool:
    return tested.row.verdict is not None


def _judge(tested: _Tested, corrected: float, config: CompareConfig, level: float) -> ScoreComparison:
    """The row with its verdict. `level`: the smallest that the correction may leave for this test."""
    row, test = tested.row, tested.test
    verdict: Verdict = "cannot tell"
    if corrected < config.level and row.difference:
        verdict = "better" if row.gain > 0 else "worse"
    needed: JsonObject = {}
    if test is None:
        error = (row.high - row.low) / (2 * NormalDist().inv_cdf(0.975))
        needed["detectable"] = detectable_by_error(error, level=level, power=config.power)
    else:
        needed["detectable"] = detectable(test, level=level, power=config.power)
        if row.unit == "share":
            needed["n_needed"] = items_needed(test, config.detect, level=level, power=config.power)
    return dataclasses.replace(row, corrected_p_value=corrected, verdict=verdict, **needed)


def _comparison(
    reference: ModelScores,
    model: ModelScores,
    rows: Sequence[ScoreComparison],
    changed: Sequence[ChangedItem],
) -> ModelComparison:
    names = [{*one.benchmarks, *one.suites, *one.loss} for one in (reference, model)]
    tested = {row.name for row in rows}
    return ModelComparison(
        reference.name,
        model.name,
        overall_verdict([row.verdict for row in rows]),
        tuple(rows),
        tuple(changed),
        tuple(sorted(names[0] - names[1])),
        tuple(sorted(names[1] - names[0])),
        tuple(sorted((names[0] & names[1]) - tested)),
    )


def _test_all(
    reference: ModelScores, model: ModelScores, config: CompareConfig
) -> tuple[list[_Tested], list[ChangedItem]]:
    """Every score that both have, `all` first."""
    tested: list[_Tested] = []
    changed: list[ChangedItem] = []
    faults: list[UserError] = []
    kinds: tuple[tuple[ScoreKind, Any, Any], ...] = (
        ("benchmark", reference.benchmarks, model.benchmarks),
        ("suite", reference.suites, model.suites),
    )
    for kind, mine, its in kinds:
        for name in [name for name in mine if name in its]:
            try:
                matched = match_items(name, mine[name], its[name], config)
                rows = _test_items(kind, name, mine[name], its[name], matched)
                changed += _changed_items(name, rows[0].row, matched) if rows else []
                tested += rows
            except UserError as error:
                faults.append(error)
    for name in [name for name in reference.loss if name in model.loss]:
        try:
            match_losses(name, reference.loss[name], model.loss[name], config)
            (difference,) = compare_losses({name: reference.loss[name]}, {name: model.loss[name]}).values()
            tested.append(_Tested(_loss_row(name, reference.loss[name], difference)))
        except UserError as error:
            faults.append(error)
    if faults:
        raise UserError(f"{reference.name} and {model.name}: {_merged(faults)}", faults[0].hint)
    if not tested:
        raise UserError(
            f"{reference.name} and {model.name}: the two evaluations share no benchmark, suite or text",
            "evaluate both on the same: parakit evaluate MODEL --suites --output FOLDER",
        )
    return [*_pooled(tested), *tested], changed


def _merged(faults: Sequence[UserError]) -> str:
    """A line for each fault, with the names of all that have it."""
    names: dict[str, list[str]] = {}
    for fault in faults:
        name, _, what = fault.message.partition(": ")
        names.setdefault(what, []).append(name)
    return "\n".join(f"{', '.join(each)}: {what}" for what, each in names.items())


def _test_items(
    kind: ScoreKind, name: str, first: BenchmarkResult, second: BenchmarkResult, matched: Matched
) -> list[_Tested]:
    """The main metric, and the others without a verdict."""
    if first.main != second.main:
        raise UserError(
            f"{name}: the main score is {first.main} in one evaluation and {second.main} in the other",
            "evaluate both models with the same version",
        )
    of_items = {metric for item in matched.first for metric in item.scores}
    metrics = [metric for metric in first.scores if metric in second.scores and metric in of_items]
    if not metrics:
        return []
    main = first.main if first.main in metrics else metrics[0]  # one of all items together has no pairs
    ordered = [main, *(metric for metric in metrics if metric != main)]
    return [_test_metric(kind, name, metric, first, matched, is_main=metric == main) for metric in ordered]


def _test_metric(
    kind: ScoreKind, name: str, metric: str, result: BenchmarkResult, matched: Matched, *, is_main: bool
) -> _Tested:
    both = [
        (a, b)
        for a, b in zip(matched.first, matched.second, strict=True)
        if metric in a.scores and metric in b.scores
    ]
    values = np.array([(a.scores[metric], b.scores[metric]) for a, b in both], float).reshape(-1, 2)
    if not len(values) or not np.isfinite(values).all():
        what = "no item has the score" if not len(values) else "a score is not finite:"
        raise UserError(f"{name}: {what} {metric}", "evaluate both models again")
    test = paired_test(values[:, 0], values[:, 1])
    higher = result.scores[metric].higher_is_better
    row = dataclasses.replace(
        _row(kind, name, metric, test, higher),
        n_left_out=matched.n_left_out,
        allowed=matched.allowed,
        verdict="cannot tell" if is_main else None,
        groups=_groups([a.group for a, _ in both], values, higher) if is_main else {},
    )
    right = values if higher else 1 - values
    return _Tested(row, test, (right[:, 0], right[:, 1]) if test.is_binary else None)


def _row(kind: ScoreKind, name: str, metric: str, test: PairedTest, higher: bool = True) -> ScoreComparison:
    found = test.difference
    return ScoreComparison(
        kind,
        name,
        metric,
        test.first,
        test.second,
        found.difference,
        found.low,
        found.high,
        found.n,
        found.p_value,
        higher_is_better=higher,
        unit="share" if test.is_binary else "",
        n_better=test.n_higher if higher else test.n_lower,
        n_worse=test.n_lower if higher else test.n_higher,
    )


def _groups(names: Sequence[str | None], values: np.ndarray, higher: bool) -> dict[str, GroupDifference]:
    """By group; empty for items without groups."""
    found = {}
    for name in sorted({name for name in names if name is not None}):
        own = values[[one == name for one in names]]
        gains = (own[:, 1] - own[:, 0]) * (1 if higher else -1)
        first, second = own.mean(0).tolist()
        found[name] = GroupDifference(first, second, len(own), int((gains > 0).sum()), int((gains < 0).sum()))
    return found


def _pooled(tested: Sequence[_Tested]) -> list[_Tested]:
    """All 0/1 items of main scores as one test, where there are several such scores."""
    parts = [one.better for one in tested if _is_main(one) and one.better is not None]
    if len(parts) < 2:
        return []
    test = paired_test(np.concatenate([a for a, _ in parts]), np.concatenate([b for _, b in parts]))
    row = dataclasses.replace(_row("all", "all", "right", test), verdict="cannot tell")
    return [_Tested(row, test)]


def _loss_row(name: str, first: Mapping[str, Any], found: LossDifference) -> ScoreComparison:
    value = first[found.metric]
    return ScoreComparison(
        "loss",
        name,
        found.metric,
        value,
        value + found.difference,
        found.difference,
        found.low,
        found.high,
        found.n_blocks,
        found.p_value,
        higher_is_better=False,
        unit=found.unit,
        verdict="cannot tell",
    )


def _changed_items(name: str, row: ScoreComparison, matched: Matched) -> list[ChangedItem]:
    """The items whose main score differs."""
    main = row.metric
    return [
        _changed(name, a, b, main, row.higher_is_better)
        for a, b in zip(matched.first, matched.second, strict=True)
        if main in a.scores and main in b.scores and a.scores[main] != b.scores[main]
    ]


def _changed(name: str, a: Item, b: Item, main: str, higher: bool) -> ChangedItem:
    first, second = a.scores[main], b.scores[main]
    better = (second > first) == higher
    return ChangedItem(name, a.id, a.group, a.prompt, a.target, a.answer, b.answer, first, second, better)
