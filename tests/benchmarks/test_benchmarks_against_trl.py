"""Losses of fine-tuning, DPO, reward modelling and GRPO are trl's, step by step, on the same models and rows.

Each side runs in a process of its own, as in the benchmark, whose sides these are.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.against_trl import OURS, THEIRS
from benchmarks.harness import run_process

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("trl")
    run_process([sys.executable, "-m", OURS, "make", made])
    return made


def losses(module: str, task: str, folder: Path) -> Any:
    return run_process([sys.executable, "-m", module, task, folder, "0"]).figures["losses"]


@pytest.mark.parametrize("task", ["sft", "dpo", "reward", "given"])
def test_the_losses_are_those_of_trl(task: str, folder: Path) -> None:
    """`given`: GRPO's over completions that both sides are given, for as many steps as they are gone over."""
    pytest.importorskip("trl")
    ours, theirs = losses(OURS, task, folder), losses(THEIRS, task, folder)
    assert len(ours) >= 6
    assert max(ours) - min(ours) > 1e-4  # they learn
    assert ours == pytest.approx(theirs, abs=2e-6)
