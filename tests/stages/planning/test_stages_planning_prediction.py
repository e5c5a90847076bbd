"""A run's figures carry what was predicted before it began, and its card prints both."""

from __future__ import annotations

import pytest

from parakit.model.presets import config_for_size
from parakit.planning.laws import BESIROGLU
from parakit.reports.cards.model_card import against_plan
from parakit.reports.summary_schema import TrainingSummary
from parakit.stages.planning.prediction import expected_loss


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


def test_a_published_law_predicts_the_loss_of_decoders_that_are_large_enough() -> None:
    config = config_for_size("50m", 4096, 256).config
    found = expected_loss("pretrain", "next_token", config, {"tokens": 10**9})["predicted_loss"]
    assert found["low"] < found["value"] < found["high"]
    assert found["value"] == pytest.approx(BESIROGLU.loss(config.n_active_params(), 1e9))
    small = config_for_size("1m", 4096, 256).config
    assert expected_loss("pretrain", "next_token", small, {"tokens": 10**9}) == {}
    assert expected_loss("finetune", "next_token", config, {"tokens": 10**9}) == {}
    assert expected_loss("pretrain", "next_token", config, {"tokens": 0}) == {}
