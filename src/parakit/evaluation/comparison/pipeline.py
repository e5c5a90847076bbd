"""The models of a pipeline, each against the one that it was made from, and the gate that stops where a model is worse.

Each is compared in the form that it was tuned for: a stage that makes a chat model out of a base model changes the prompts,
which is part of what it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.evaluation.comparison.config import CompareConfig, GateConfig
from parakit.evaluation.comparison.models import compare_models
from parakit.evaluation.comparison.outcome import ModelComparison, ModelScores, ScoreComparison

ACROSS_STAGES = CompareConfig(allow=("prompting", "prompts_digest", "system_prompt"))
_FIGURES = ("difference", "low", "high", "p_value", "n", "corrected_p_value", "verdict", "unit")


class QualityFall(UserError):
    """A stage's model is worse than its parent by more than the gate allows."""

    exit_status = 1


def compare_with_parents(scores: Mapping[str, ModelScores]) -> JsonObject:
    """Every model against the one before it, by suite and benchmark and over all 0/1 items."""
    found: JsonObject = {}
    for parent, model in pairwise(scores):
        (one,) = compare_models(scores[parent], [scores[model]], ACROSS_STAGES)
        suites, benchmarks = _figures(one, "suite"), _figures(one, "benchmark")
        found[model] = {
            "parent": parent,
            "verdict": one.verdict,
            "suites": suites,
            "benchmarks": benchmarks,
            "all": next(iter((_figures(one, "all") or suites or benchmarks).values())),
        }
    return found


def compare_with_start(start: ModelScores, models: Mapping[str, ModelScores]) -> JsonObject:
    """Every model against the first: of `suites` and of `benchmarks`, by name, the differences by model."""
    found: JsonObject = {"suites": {}, "benchmarks": {}}
    compared = compare_models(start, list(models.values()), ACROSS_STAGES) if models else []
    for model, one in zip(models, compared, strict=True):
        for part, kind in (("suites", "suite"), ("benchmarks", "benchmark")):
            for name, figures in _figures(one, kind).items():
                found[part].setdefault(name, {})[model] = figures
    return found


def falls(comparison: ModelComparison, gate: GateConfig) -> list[ScoreComparison]:
    """The scores that are worse, by more than the gate allows."""
    return [row for row in comparison.scores if row.verdict == "worse" and -row.gain > gate.max_fall]


def check_gate(parent: ModelScores, model: ModelScores, gate: GateConfig) -> ModelComparison:
    """Compare a stage's model with its parent; `QualityFall` names every score that fell."""
    (found,) = compare_models(parent, [model], ACROSS_STAGES.replace(level=gate.level))
    fallen = falls(found, gate)
    if fallen:
        each = "; ".join(map(_fall, fallen))
        raise QualityFall(
            f"gate: the model of {model.name} is worse than that of {parent.name}: {each}",
            "all that was made is kept: change the recipe and build again, or raise evaluate.gate.max_fall",
        )
    return found


def _fall(row: ScoreComparison) -> str:
    scale, unit = (100, " points") if row.unit == "share" else (1, "")
    low, high = scale * row.low, scale * row.high
    return (
        f"{'all 0/1 items' if row.kind == 'all' else row.name} {scale * row.difference:+.3g}{unit} "
        f"(95 % {low:+.3g} to {high:+.3g}, corrected p {row.corrected_p_value:.1g}, {row.n:,} items)"
    )


def _figures(comparison: ModelComparison, kind: str) -> JsonObject:
    return {
        row.name: {key: getattr(row, key) for key in _FIGURES}
        for row in comparison.scores
        if row.kind == kind and row.verdict is not None
    }
