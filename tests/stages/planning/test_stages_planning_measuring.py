"""The calibration: what is measured is plausible, stored, and found again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from parakit.common.hardware import peak_memory, reset_peak_memory, resident_memory
from parakit.planning.calibration import MeasuredSpeeds
from parakit.stages.planning import engine_speeds, measuring


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[MeasuredSpeeds]:
    """Calibrations as they are made, each of one small width."""
    made: list[MeasuredSpeeds] = []
    plain = measuring.calibrate

    def calibrate() -> MeasuredSpeeds:
        made.append(plain((32,), 0.001))
        return made[-1]

    monkeypatch.setenv("PARAKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(measuring, "calibrate", calibrate)
    monkeypatch.setattr(measuring, "HEAD_VOCABULARY", 256)
    monkeypatch.setattr(engine_speeds, "DECODERS", ((32, 1), (64, 1)))
    monkeypatch.setattr(engine_speeds, "DRAWERS", ((32, 1, 64), (32, 1, 128)))
    monkeypatch.setattr(engine_speeds, "SEVERAL", ((32, 1, 64), (32, 1, 128), (64, 1, 128)))
    monkeypatch.setattr(engine_speeds, "PROMPT_WIDTH", 64)
    monkeypatch.setattr(measuring, "CHUNK_ELEMENTS", 2**12)
    monkeypatch.setattr(measuring, "SMALL_CHUNK_ELEMENTS", 2**11)
    monkeypatch.setattr(engine_speeds, "N_NEW", 2)
    return made


def test_a_machine_is_measured_once(quick: list[MeasuredSpeeds]) -> None:
    state = torch.get_rng_state()
    first = measuring.this_machine()
    assert torch.equal(state, torch.get_rng_state())
    again = measuring.this_machine()
    assert len(quick) == 1
    assert first.calibration == again.calibration == quick[0]
    for name, value in quick[0]:
        if isinstance(value, float):
            assert value > 0 or name.endswith("_seconds"), name
    assert first.flops("float32") > 0
    measuring.this_machine(recalibrate=True)
    assert len(quick) == 2


def test_the_most_memory_of_a_process_counts_from_where_it_is_reset() -> None:
    if not resident_memory():
        pytest.skip("this system does not tell")
    before = resident_memory()
    large = torch.ones(30_000_000)
    assert peak_memory() >= before + 100e6
    del large
    reset_peak_memory()
    assert peak_memory() < before + 100e6


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("Tesla T4", "t4"),
        ("Tesla V100-SXM2-32GB", "v100"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA Unheard-Of 9", None),
    ],
)
def test_a_card_is_known_by_what_its_driver_calls_it(driver: str, name: str | None) -> None:
    assert measuring.card_of(driver) == name
