"""How fast a machine trains: by its calibration where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from parakit.planning.time import speed_of_peak, speed_on
from parakit.stages.config import PretrainConfig
from parakit.stages.planning import speed
from tests.planning.test_planning_step_time import CONFIG, measured

TRAINING = PretrainConfig(device="cpu")


def test_the_calibration_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "this_machine_if_known", measured)
    assert speed.training_speed(TRAINING, 128)(CONFIG) == speed_on(measured(), 128)(CONFIG)
    tuned = speed.training_speed(TRAINING, 128, "lora")(CONFIG)
    assert tuned == speed_on(measured(), 128, method="lora")(CONFIG) > speed_on(measured(), 128)(CONFIG)


def test_without_one_the_peak_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PARAKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(speed, "measure_peak_flops", lambda *_: 5e10)
    assert speed.training_speed(TRAINING, 128)(CONFIG) == speed_of_peak(5e10, 128)(CONFIG)
