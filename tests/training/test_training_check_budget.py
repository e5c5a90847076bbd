"""The doctor's checks stay within a time: the cheapest first, and what does not fit is named."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from parakit.training.doctor import registry, run
from parakit.training.doctor import setup as run_setup


@dataclass
class Clock:
    now: float = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(run, "time", clock)
    return clock


@pytest.fixture
def context(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Four checks that take three seconds a pass, in a registry of their own."""
    monkeypatch.setattr(registry, "_CHECKS", {})
    context = SimpleNamespace(model=torch.nn.Linear(1, 1), checked_as=("some",), ran=[])

    def declare(name: str, passes: float, blocking: bool = False) -> None:
        def find(context: Any) -> str | None:
            clock.now += 3 * passes
            context.ran.append(name)
            return None

        registry.check(
            name, subject="", applies_to=("some",), prevents="", noticed_by="", remedy="", runs_model=True,
            passes=passes, blocking=blocking,
        )(find)  # fmt: skip

    for name, passes in (("dear", 4), ("cheap", 1), ("free", 0), ("middling", 2)):
        declare(name, passes)
    return context


def test_checks_that_do_not_fit_are_skipped_by_name(context: Any, capsys: Any) -> None:
    results = run.run_in(context, seconds=10.0)
    assert context.ran == ["free", "cheap", "middling"]
    assert [result.name for result in results] == ["dear", "cheap", "free", "middling"]
    assert [result.name for result in results if result.skipped] == ["dear"]
    assert "doctor: 3 of 4 checks, 9s" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", [None, 25.0])
def test_with_enough_time_every_check_runs(context: Any, seconds: float | None) -> None:
    results = run.run_in(context, seconds)
    assert context.ran == ["free", "cheap", "middling", "dear"]
    assert not any(result.skipped for result in results)


def test_a_long_run_gives_the_checks_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_setup, "SMALL_PARAMETERS", 0)
    monkeypatch.setattr(run_setup, "measure_peak_flops", lambda *_: 1e9)
    monkeypatch.setattr(run_setup, "to_micro_batch", lambda *_: SimpleNamespace(n_tokens=100))

    def setup(steps: int) -> Any:
        plan = SimpleNamespace(
            device="cpu", precision="float32", seq_len=8, max_steps=steps, rows_before=lambda step: step * 4
        )
        config = SimpleNamespace(max_seq_len=8, flops_per_token=lambda n: 1e6)
        model = SimpleNamespace(config=config, parameters=lambda: iter([torch.zeros(1)]))
        task = SimpleNamespace(source=SimpleNamespace(rows=lambda first, n: None))
        return SimpleNamespace(plan=plan, model=model, task=task)

    assert run_setup.check_seconds(setup(10)) == 10.0
    assert run_setup.check_seconds(setup(10_000)) == pytest.approx(0.03 * 10_000 * 400 * 1e6 / 0.4e9)
