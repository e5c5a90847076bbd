"""Losses of fine-tuning, DPO, reward modelling and GRPO are trl's, step by step, on the same models and rows.

Each side runs in a process of its own, as in the benchmark, whose sides these are.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness import run_process
from benchmarks.speed.against_trl import PARAKIT, PEER

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("trl")
    run_process([sys.executable, "-m", PARAKIT, "make", made])
    return made


def losses(module: str, task: str, folder: Path) -> Any:
    return run_process([sys.executable, "-m", module, task, folder, "0"]).figures["losses"]


@pytest.mark.parametrize("task", ["sft", "dpo", "reward", "given"])
def test_the_losses_are_those_of_trl(task: str, folder: Path) -> None:
    """`given`: GRPO's over completions that both sides are given, for as many steps as they are gone over."""
    pytest.importorskip("trl")
    parakit, peer = losses(PARAKIT, task, folder), losses(PEER, task, folder)
    assert len(parakit) >= 6
    assert max(parakit) - min(parakit) > 1e-4  # they learn
    assert parakit == pytest.approx(peer, abs=2e-6)
