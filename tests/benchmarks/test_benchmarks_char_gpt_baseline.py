"""The baseline program of figure 2 is what it says: its size, its schedule, its evaluation of every
character.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from benchmarks.quality import char_gpt_baseline as baseline


def test_it_has_the_published_size_and_recipe() -> None:
    model = baseline.CharacterGPT(65)
    n_params = sum(p.numel() for p in model.parameters())
    per_block = 12 * 128 * 128 + 2 * 128
    assert n_params == 65 * 128 + 64 * 128 + 4 * per_block + 128 == 804_096
    groups = baseline.make_optimizer(model).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert sum(p.numel() for group in groups for p in group["params"]) == n_params


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 1e-3 / 101), (99, 1e-3 * 100 / 101), (100, 1e-3), (1050, 5.5e-4), (2000, 1e-4)]
)
def test_the_learning_rate_warms_up_and_falls_as_a_cosine(step: int, rate: float) -> None:
    assert math.isclose(baseline.learning_rate(step, 2000), rate, rel_tol=1e-9)


def test_validation_counts_every_character_once() -> None:
    model = baseline.CharacterGPT(11)
    text = torch.randint(11, (64 * 5 + 20,))
    with torch.no_grad():
        one_by_one = 0.0
        for start in range(0, len(text) - 1, 64):
            rows = text[start : start + 65]
            one_by_one += model(rows[None, :-1], rows[None, 1:]).item()
    assert math.isclose(baseline.validation_loss(model, text), one_by_one / (len(text) - 1), rel_tol=1e-5)


def test_the_first_loss_is_that_of_guessing_and_a_future_character_changes_nothing() -> None:
    model = baseline.CharacterGPT(65)
    ids = torch.randint(65, (2, 65))
    loss = model(ids[:, :-1], ids[:, 1:]) / 128
    assert abs(loss.item() - math.log(65)) < 0.1
    hidden = F.one_hot(ids[:, :-1], 65).float() @ model.token_embedding.weight
    changed = hidden.clone()
    changed[:, 40:] += 1
    with torch.no_grad():
        assert torch.allclose(model.blocks[0](hidden)[:, :40], model.blocks[0](changed)[:, :40], atol=1e-6)


def test_training_learns() -> None:
    text = torch.arange(13).repeat(60)
    model = baseline.CharacterGPT(13)
    before = baseline.validation_loss(model, text)
    baseline.train(model, text, max_steps=30, seed=0, compiled=False)
    assert baseline.validation_loss(model, text) < before / 2
