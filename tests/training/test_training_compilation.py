"""Compilation: chosen by figures, and nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from parakit.model.heads import MaskedLanguageModel
from parakit.training import compilation
from parakit.training.compilation import (
    GUESSED_COLD_SECONDS,
    GUESSED_SPEEDUP,
    CompileChoice,
    choose_compilation,
    expected_gain,
    lengths_vary,
    save_measurement,
)
from parakit.training.micro_batches import MicroBatch
from parakit.training.objectives import next_token
from tests.training.tiny_runs import finish, tiny_model, tiny_trainer, weights
from tests.training.tiny_tasks import task_trainer


@pytest.fixture
def batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[MicroBatch]:
    monkeypatch.setenv("PARAKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(compilation.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(compilation, "load_training_kernels", lambda: None)
    return tiny_trainer(None).micro_batches(0)


def timed(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(compilation, "time_step", lambda *arguments, **settings: seconds)


@pytest.mark.parametrize("setting", ["on", "off"])
def test_a_person_who_says_on_or_off_is_obeyed(setting: str, batches: list[MicroBatch]) -> None:
    assert choose_compilation(setting, tiny_model(), next_token, batches, 10).compiled == (setting == "on")


def test_it_pays_when_what_is_saved_exceeds_what_it_costs(
    batches: list[MicroBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch, 0.1)
    even = 1.2 * GUESSED_COLD_SECONDS / (0.1 * (1 - 1 / GUESSED_SPEEDUP))
    assert not choose_compilation("auto", tiny_model(), next_token, batches, int(even) - 1).compiled
    choice = choose_compilation("auto", tiny_model(), next_token, batches, int(even) + 2)
    assert choice.compiled
    assert "100 ms" in choice.reason


def test_figures_of_earlier_runs_take_the_place_of_guesses(
    batches: list[MicroBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch, 0.1)
    model = tiny_model()
    assert not choose_compilation("auto", model, next_token, batches, 200).compiled
    eager = CompileChoice(True, "", eager_seconds=0.1)
    save_measurement(model, batches, eager, [10.05, 0.05, 0.05, 0.05, 0.05])
    assert choose_compilation("auto", model, next_token, batches, 200).compiled
    assert not choose_compilation("auto", tiny_model(n_layers=3), next_token, batches, 200).compiled, (
        "another model's figures"
    )
    save_measurement(model, batches, eager, [1.2, 0.2, 0.2, 0.2, 0.2])
    assert not choose_compilation("auto", model, next_token, batches, 100_000).compiled, (
        "slower is never worth it"
    )


def test_a_damaged_or_absent_table_of_figures_is_no_figures(
    batches: list[MicroBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch, 0.1)
    folder = compilation.cache_folder()
    for content in ("", "{", json.dumps([1])[:2]):
        folder.mkdir(exist_ok=True)
        (folder / "compile.json").write_text(content)
        assert not choose_compilation("auto", tiny_model(), next_token, batches, 200).compiled


def test_what_the_kernels_compute_is_neither_compiled_nor_timed(
    batches: list[MicroBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation, "load_training_kernels", object)
    monkeypatch.setattr(compilation, "time_step", lambda *arguments: pytest.fail("timed"))
    choice = choose_compilation("auto", tiny_model(), next_token, batches, 10**9)
    assert not choice.compiled
    assert "kernels" in choice.reason
    eager = CompileChoice(True, "", eager_seconds=0.1)
    save_measurement(tiny_model(), batches, eager, [10.05, 0.05, 0.05, 0.05, 0.05])
    timed(monkeypatch, 0.1)
    assert choose_compilation("auto", tiny_model(), next_token, batches, 10**6).compiled, "measured here"


@pytest.mark.parametrize("changes", [{"activation": "gelu"}, {"norm": "layer"}, {"gated": False}])
def test_other_blocks_may_gain_by_compiling(
    changes: dict[str, Any], batches: list[MicroBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation, "load_training_kernels", object)
    assert expected_gain(tiny_model(**changes), batches)[0] == GUESSED_SPEEDUP
    with torch.autocast("cpu", torch.bfloat16):
        assert expected_gain(tiny_model(), batches)[0] == GUESSED_SPEEDUP


def test_without_a_compiler_nothing_is_compiled(
    batches: list[MicroBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation.shutil, "which", lambda name: None)
    choice = choose_compilation("auto", tiny_model(), next_token, batches, 10**9)
    assert not choice.compiled
    assert "compiler" in choice.reason


def test_many_lengths_are_compiled_once_for_all_and_cost_more(batches: list[MicroBatch]) -> None:
    trainer = task_trainer("classify")
    one, other = trainer.micro_batches(0), trainer.micro_batches(4)
    assert lengths_vary(one)
    assert not lengths_vary(batches)
    assert one[0].input_ids.shape != other[0].input_ids.shape
    assert expected_gain(tiny_model(), batches) == (GUESSED_SPEEDUP, GUESSED_COLD_SECONDS)
    assert expected_gain(trainer.model, one) == (GUESSED_SPEEDUP, 2 * GUESSED_COLD_SECONDS)
    eager = CompileChoice(True, "", eager_seconds=0.1)
    save_measurement(trainer.model, one, eager, [10.05, 0.05, 0.05, 0.05, 0.05])
    assert expected_gain(trainer.model, other) == (2.0, 2.0), "whatever lengths they have"
    two_kinds_of_blocks = task_trainer("span")
    guess = expected_gain(two_kinds_of_blocks.model, two_kinds_of_blocks.micro_batches(0))
    assert guess == (GUESSED_SPEEDUP, 4 * GUESSED_COLD_SECONDS)


def test_figures_are_kept_by_head_and_shape(
    batches: list[MicroBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch, 0.1)
    trainer = task_trainer("classify")
    model, first = trainer.model, trainer.micro_batches(0)
    save_measurement(
        model, first, CompileChoice(True, "", eager_seconds=0.1), [10.05, 0.05, 0.05, 0.05, 0.05]
    )
    assert choose_compilation("auto", model, trainer.objective, first, 200).compiled
    masked = MaskedLanguageModel(model.config)
    assert not choose_compilation("auto", masked, trainer.objective, first, 200).compiled
    few = task_trainer("classify", batch_tokens=12).micro_batches(0)
    assert not choose_compilation("auto", model, trainer.objective, few, 200).compiled


def test_choosing_leaves_weights_gradients_and_random_state_as_they_were(batches: list[MicroBatch]) -> None:
    model = tiny_model(dropout=0.3)
    before, random = weights(model), torch.get_rng_state()
    choose_compilation("auto", model, next_token, batches, 10)
    assert weights(model) == before
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["experts", "span", "classify"])
def test_every_head_computes_the_same_when_compiled(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARAKIT_CACHE", str(tmp_path))
    eager = [record.loss for record in finish(task_trainer(name, dropout=0.0, max_steps=6))]
    trainer = task_trainer(name, dropout=0.0, max_steps=6, compile="on")
    assert trainer.compile_choice.compiled
    assert [record.loss for record in finish(trainer)] == pytest.approx(eager, rel=1e-3)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_run_gives_the_losses_of_an_eager_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARAKIT_CACHE", str(tmp_path))
    eager = [record.loss for record in finish(tiny_trainer(None, dropout=0.0))]
    trainer = tiny_trainer(None, dropout=0.0, compile="on")
    assert trainer.compile_choice.compiled
    assert [record.loss for record in finish(trainer)] == pytest.approx(eager, rel=1e-3)
    assert set(weights(trainer.model)) == set(weights(tiny_model()))
