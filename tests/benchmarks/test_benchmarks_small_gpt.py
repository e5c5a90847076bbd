"""The plain PyTorch baselines are what they say: size, schedule, evaluation of every token."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmarks.quality.small_gpt.characters import RECIPE, pace_of_steps
from benchmarks.quality.small_gpt.model import GPT, Shape, make_optimizer, mean_loss, train

ROOT = Path(__file__).resolve().parents[2]


def test_it_has_the_published_size_and_recipe() -> None:
    model = GPT(Shape(65))
    n_params = sum(p.numel() for p in model.parameters())
    per_block = 12 * 128 * 128 + 2 * 128
    assert n_params == 65 * 128 + 64 * 128 + 4 * per_block + 128 == 804_096
    groups = make_optimizer(model, RECIPE).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert sum(p.numel() for group in groups for p in group["params"]) == n_params


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 1e-3 / 101), (99, 1e-3 * 100 / 101), (100, 1e-3), (1050, 5.5e-4), (2000, 1e-4)]
)
def test_the_learning_rate_warms_up_and_falls_as_a_cosine(step: int, rate: float) -> None:
    assert math.isclose(RECIPE.rate(step, pace_of_steps(2000)(step)), rate, rel_tol=1e-9)


def test_validation_counts_every_token_once() -> None:
    model = GPT(Shape(11))
    ids = torch.randint(11, (64 * 5 + 20,))
    with torch.no_grad():
        one_by_one = 0.0
        for start in range(0, len(ids) - 1, 64):
            rows = ids[start : start + 65]
            one_by_one += model(rows[None, :-1], rows[None, 1:]).item()
    assert math.isclose(mean_loss(model, ids, rows_at_once=2), one_by_one / (len(ids) - 1), rel_tol=1e-5)


def test_the_first_loss_is_that_of_guessing_and_a_future_token_changes_nothing() -> None:
    model = GPT(Shape(65))
    ids = torch.randint(65, (2, 65))
    loss = model(ids[:, :-1], ids[:, 1:]) / 128
    assert abs(loss.item() - math.log(65)) < 0.1
    hidden = F.one_hot(ids[:, :-1], 65).float() @ model.token_embedding.weight
    changed = hidden.clone()
    changed[:, 40:] += 1
    with torch.no_grad():
        assert torch.allclose(model.blocks[0](hidden)[:, :40], model.blocks[0](changed)[:, :40], atol=1e-6)


@pytest.mark.parametrize("steps", [30, 120])
def test_training_learns_in_just_as_many_steps(steps: int) -> None:
    text = torch.arange(13).repeat(60)
    model = GPT(Shape(13))
    before = mean_loss(model, text)
    assert train(model, text, RECIPE, pace_of_steps(steps), seed=0) == steps
    assert mean_loss(model, text) < before / 2


def test_the_model_of_token_files_trains_until_its_time_is_over(tmp_path: Path) -> None:
    for name, n_tokens in (("train", 2000), ("validation", 300)):
        np.save(tmp_path / name, np.arange(n_tokens, dtype=np.uint16) % 17)
    files = [str(tmp_path / f"{name}.npy") for name in ("train", "validation")]
    command = [sys.executable, "-m", "benchmarks.quality.small_gpt.tokens", *files]
    options = ["--vocab-size", "17", "--seconds", "0.001", "--rows", "2"]
    run = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, check=True)
    figures = json.loads(run.stdout)
    assert (figures["steps"], figures["tokens"]) == (0, 0)  # the start took longer
    assert abs(figures["nats"] / 299 - math.log(17)) < 0.3
    assert figures["n_params"] == (17 + 256 + 1) * 320 + 6 * (12 * 320 * 320 + 2 * 320)
