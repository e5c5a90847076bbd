"""Compilation: chosen by figures, and nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from parakit.training import compilation
from parakit.training.compilation import (
    GUESSED_COLD_SECONDS,
    GUESSED_SPEEDUP,
    CompileChoice,
    choose,
    remember,
)
from parakit.training.objectives import MicroBatch, next_token
from tests.training.tiny_runs import finish, tiny_model, tiny_session, weights


@pytest.fixture
def batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[MicroBatch]:
    monkeypatch.setenv("PARAKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(compilation.shutil, "which", lambda name: f"/usr/bin/{name}")
    return tiny_session(None).micro_batches(0)


def timed(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(compilation, "time_step", lambda *arguments, **settings: seconds)


@pytest.mark.parametrize("setting", ["on", "off"])
def test_a_person_who_says_on_or_off_is_obeyed(setting: str, batches: list[MicroBatch]) -> None:
    assert choose(setting, tiny_model(), next_token, batches, 10).compiled == (setting == "on")


def test_it_pays_when_what_is_saved_exceeds_what_it_costs(
    batches: list[MicroBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch, 0.1)
    even = 1.2 * GUESSED_COLD_SECONDS / (0.1 * (1 - 1 / GUESSED_SPEEDUP))
    assert not choose("auto", tiny_model(), next_token, batches, int(even) - 1).compiled
    choice = choose("auto", tiny_model(), next_token, batches, int(even) + 2)
    assert choice.compiled
    assert "100 ms" in choice.reason


def test_figures_of_earlier_runs_take_the_place_of_guesses(
    batches: list[MicroBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch, 0.1)
    model = tiny_model()
    assert not choose("auto", model, next_token, batches, 200).compiled
    eager = CompileChoice(True, "", eager_seconds=0.1)
    remember(model, batches, eager, [10.05, 0.05, 0.05, 0.05, 0.05])
    assert choose("auto", model, next_token, batches, 200).compiled
    assert not choose("auto", tiny_model(n_layers=3), next_token, batches, 200).compiled, (
        "another model's figures"
    )
    remember(model, batches, eager, [1.2, 0.2, 0.2, 0.2, 0.2])
    assert not choose("auto", model, next_token, batches, 100_000).compiled, "slower is never worth it"


def test_a_damaged_or_absent_table_of_figures_is_no_figures(
    batches: list[MicroBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch, 0.1)
    folder = compilation.cache_folder()
    for content in ("", "{", json.dumps([1])[:2]):
        folder.mkdir(exist_ok=True)
        (folder / "compile.json").write_text(content)
        assert not choose("auto", tiny_model(), next_token, batches, 200).compiled


def test_without_a_compiler_nothing_is_compiled(
    batches: list[MicroBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation.shutil, "which", lambda name: None)
    choice = choose("auto", tiny_model(), next_token, batches, 10**9)
    assert not choice.compiled
    assert "compiler" in choice.reason


def test_choosing_leaves_weights_gradients_and_random_state_as_they_were(batches: list[MicroBatch]) -> None:
    model = tiny_model(dropout=0.3)
    before, random = weights(model), torch.get_rng_state()
    choose("auto", model, next_token, batches, 10)
    assert weights(model) == before
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_run_gives_the_losses_of_an_eager_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARAKIT_CACHE", str(tmp_path))
    eager = [record.loss for record in finish(tiny_session(None, dropout=0.0))]
    session = tiny_session(None, dropout=0.0, compile="on")
    assert session.compile_choice.compiled
    assert [record.loss for record in finish(session)] == pytest.approx(eager, rel=1e-3)
    assert set(weights(session.model)) == set(weights(tiny_model()))
