"""A sample of the planted and fuzzed folders; `python -m tests.attacks.folders` runs them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attacks.folders import planted_sweep, sweep
from tests.attacks.planted import FOLDERS
from tests.attacks.samples import make_samples

QUICK = (
    *("config.json: rms_norm_eps is nan", "lineage.json nested 100,000 deep", "index: 300 characters"),
    *("two links that point at each other", "a pipe", "an adapter on 300 characters"),
)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_samples(tmp_path_factory.mktemp("samples") / "all")


def test_planted_folders_are_refused(samples: dict[str, Path]) -> None:
    chosen = [one for one in FOLDERS if one.name in QUICK]
    assert len(chosen) == len(QUICK)
    assert planted_sweep(samples, chosen)["faults"] == []


def test_fuzzed_folders_end_in_a_result_or_a_refusal(samples: dict[str, Path]) -> None:
    assert sweep(samples, 8)["faults"] == []


@pytest.mark.long
def test_every_planted_folder_is_refused(samples: dict[str, Path]) -> None:
    assert planted_sweep(samples)["faults"] == []


@pytest.mark.long
def test_many_fuzzed_folders_end_in_a_result_or_a_refusal(samples: dict[str, Path]) -> None:
    result = sweep(samples, 300, seed=10_000)
    assert result["faults"] == []
    assert result["ends"]["refused"] > 100
