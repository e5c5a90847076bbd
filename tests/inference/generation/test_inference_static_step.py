"""Steps of fixed shapes, which a GPU replays as a graph, compute what growing steps compute; here without a GPU."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from parakit.inference.generation.steps.model_steps import allocate_cache, decode_step, prefill
from parakit.inference.generation.steps.static_step import SLOT_STEP, StaticStep, has_static_step
from parakit.model.delta_rule import DeltaRule
from tests.inference.conftest import TINY, build_model

KINDS: dict[str, dict[str, Any]] = {
    "default": {},
    "all heads": {"n_kv_heads": 4},
    "window": {"sliding_window": 5, "local_layers": (1,)},
    "learned": {"positions": "learned"},
    "relative": {"positions": "relative", "n_relative_buckets": 8, "max_relative_distance": 12},
    "soft cap": {"attention_soft_cap": 20.0},
    "sinks": {"attention_sinks": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_static_steps_equal_growing_ones_for_rows_of_any_lengths(kind: str) -> None:
    model = build_model(TINY.replace(**KINDS[kind]), torch.float64)
    assert has_static_step(model)
    prompts = [[5, 6, 7], [8, 9, 10, 11, 12, 13, 14], [3]]
    caches = [allocate_cache(model, prompts, 20) for _ in range(2)]
    for cache in caches:
        prefill(model, cache, prompts)
    static = StaticStep(model, partial(decode_step, model), n_eager_steps=1)
    generator = torch.Generator().manual_seed(0)
    for n_rows in (3, 3, 3, 2, 2, 2):
        if n_rows < caches[0].n_rows:
            for cache in caches:
                cache.select([0, 2])
        token_ids = torch.randint(97, (n_rows,), generator=generator)
        wanted = decode_step(model, caches[0], token_ids)
        torch.testing.assert_close(static(caches[1], token_ids), wanted, rtol=1e-9, atol=1e-9)
    assert caches[0].lengths == caches[1].lengths


def test_a_step_covers_more_slots_when_the_rows_outgrow_them() -> None:
    model = build_model(TINY.replace(max_seq_len=SLOT_STEP + 20), torch.float64)
    prompt = [[(7 * i) % 97 for i in range(SLOT_STEP - 3)]]
    caches = [allocate_cache(model, prompt, 20) for _ in range(2)]
    for cache in caches:
        prefill(model, cache, prompt)
    static = StaticStep(model, partial(decode_step, model), n_eager_steps=0)
    for token_id in range(6):
        wanted = decode_step(model, caches[0], torch.tensor([token_id]))
        torch.testing.assert_close(static(caches[1], torch.tensor([token_id])), wanted, rtol=1e-9, atol=1e-9)


def test_models_whose_steps_differ_are_not_recorded() -> None:
    assert not has_static_step(build_model(TINY.replace(n_experts=4, n_active_experts=2)))
    assert not has_static_step(build_model(TINY.replace(attention="linear")))
    rule = DeltaRule(layers=(0,), n_key_heads=2, n_value_heads=2, key_dim=4, value_dim=4)
    assert not has_static_step(build_model(TINY.replace(delta_rule=rule)))
