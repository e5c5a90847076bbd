"""Prompts that are read once: the same rewards, log-probabilities and gradients as with a row for each completion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from parakit.alignment.preferences.dpo import PreferenceObjective, completion_log_probs, reference_log_probs
from parakit.alignment.preferences.reward_model import RewardObjective, completion_rewards
from parakit.model.adapters import LoraConfig, PrefixConfig, attach, make_lora, make_prefix
from parakit.model.layers.masks import prefix_tree_mask, supports_prefix_tree
from parakit.tokens.preferences.sources import PreferenceSource
from parakit.training.micro_batches import RankingMicroBatch, to_micro_batch
from tests.alignment.ranking_cases import encoded, language_model, reward_model

SIZES = [2, 3, 2, 5, 2]
SHAPES: dict[str, dict[str, Any]] = {
    "default": {},
    "learned": {"positions": "learned"},
    "sinusoidal": {"positions": "sinusoidal"},
    "grouped": {"n_kv_heads": 1},
    "experts": {"n_experts": 3, "n_active_experts": 2, "d_expert": 8},
}


def both(model: Any, reference: bool = False, sizes: Sequence[int] = SIZES) -> list[RankingMicroBatch]:
    """The same rankings with a row for each completion, and with their prompts laid once."""
    found = []
    for share in (False, True):
        source = PreferenceSource(encoded(list(sizes)), 0, share_prompts=share)
        if reference:
            source.reference = reference_log_probs(model, source)
        found.append(to_micro_batch(source.batch_of(range(len(sizes))), torch.device("cpu")))
    return found


def slopes(loss: torch.Tensor, model: Any) -> list[torch.Tensor]:
    trained = [p for p in model.parameters() if p.requires_grad]
    return list(torch.autograd.grad(loss, trained, allow_unused=True, materialize_grads=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_rewards_and_their_gradients_are_the_same(shape: str) -> None:
    model = reward_model(**SHAPES[shape])
    apart, shared = both(model)
    assert shared.n_tokens < apart.n_tokens
    torch.testing.assert_close(
        completion_rewards(model, shared), completion_rewards(model, apart), rtol=1e-9, atol=1e-12
    )
    losses = [RewardObjective(0.4, True, 0.3)(model, batch) for batch in (apart, shared)]
    for one, other in zip(*(slopes(loss, model) for loss in losses), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_log_probabilities_and_the_gradient_of_dpo_are_the_same(shape: str) -> None:
    model = language_model(**SHAPES[shape])
    apart, shared = both(model, reference=True)
    log_probs = [completion_log_probs(model, batch) for batch in (apart, shared)]
    torch.testing.assert_close(*log_probs, rtol=1e-9, atol=1e-12)
    losses = [PreferenceObjective("dpo", 0.4)(model, batch) for batch in (apart, shared)]
    for one, other in zip(*(slopes(loss, model) for loss in losses), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["lora", "prefix"])
def test_adapters_see_the_same(kind: str) -> None:
    model = language_model()
    attach(
        model,
        make_lora(model, LoraConfig(rank=2))
        if kind == "lora"
        else make_prefix(model, PrefixConfig(n_prompt_tokens=3)),
    )
    model.double()
    apart, shared = both(model)
    log_probs = [completion_log_probs(model, batch) for batch in (apart, shared)]
    torch.testing.assert_close(*log_probs, rtol=1e-9, atol=1e-12)


def test_completions_that_see_each_other_are_told_by_their_rewards() -> None:
    """The mistake that this layout makes possible, put back: without branches a later answer reads the earlier one."""
    model = reward_model()
    apart, shared = both(model, sizes=[2] * 5)
    assert shared.prefix_tree is not None
    real = shared.prefix_tree.real_mask
    trees = torch.where(real, (shared.prefix_tree.position_ids == 0).cumsum(1), -1)
    leaking = replace(shared.prefix_tree, attention_mask=prefix_tree_mask(trees, torch.zeros_like(trees)))
    wrong = completion_rewards(model, replace(shared, prefix_tree=leaking))
    off = (wrong - completion_rewards(model, apart)).abs().detach()
    best = shared.place == 0
    assert float(off[best].max()) < 1e-9
    assert float(off[~best].min()) > 1e-4


def test_an_answer_behind_another_prompt_gets_a_row_of_its_own() -> None:
    """Where a ranking's prompts differ (which the doctor refuses), none is judged behind another's."""
    model, source = reward_model(), PreferenceSource(encoded([2, 2]), 0, share_prompts=True)
    batch = source.batch_of([0, 1])
    changed = batch.input_ids.copy()
    changed[0, 1, 0] = 7 if changed[0, 1, 0] != 7 else 8
    found = [
        completion_rewards(
            model, to_micro_batch(replace(batch, input_ids=changed, share_prompts=share), torch.device("cpu"))
        )
        for share in (False, True)
    ]
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "changes",
    [{"sliding_window": 4}, {"positions": "relative"}, {"attention": "linear", "query_key_norm": False}],
)
def test_models_that_count_the_places_between_read_rows_apart(changes: dict[str, Any]) -> None:
    model = reward_model(**changes)
    assert not supports_prefix_tree(model.config)
    apart, shared = both(model)
    assert torch.isfinite(completion_rewards(model, apart)).all()
    with pytest.raises(AssertionError, match="cannot share"):
        completion_rewards(model, shared)
