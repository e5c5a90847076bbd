"""A run's figures carry what was predicted before it began, and its card prints both."""

from __future__ import annotations

import pytest

from parakit.reports.cards.model_card import against_plan
from parakit.reports.summary_schema import TrainingSummary


def test_a_card_compares_what_is_known() -> None:
    figures = {"training_seconds": 10.0, "steps": 4, "predicted_step_seconds": 2.0}
    (line,) = against_plan(TrainingSummary.model_validate(figures))
    assert line == "Time of a step: 2.50 s (predicted 2 s)"
    figures = {"peak_memory_bytes": 500_000_000}
    assert against_plan(TrainingSummary.model_validate(figures)) == ["Peak memory: 500 MB"]
    assert against_plan(TrainingSummary.model_validate({})) == []


@pytest.mark.parametrize("field", ["predicted_step_seconds", "peak_memory_bytes", "predicted_peak_bytes"])
def test_what_was_predicted_is_part_of_the_summary(field: str) -> None:
    assert getattr(TrainingSummary.model_validate({field: 7}), field) == 7
