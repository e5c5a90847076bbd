"""Greedy tokens are the same uncached, alone, batched, streamed, in chunks, with shared prefixes and after preemption, for
every decoder architecture.
"""

from __future__ import annotations

import pytest

from parakit.checkpoints.registry import ARCHITECTURES
from parakit.inference.config import SamplingConfig
from parakit.inference.engine import Engine, EngineConfig, Request
from tests.attacks.engine_exactness import check_architecture, soak, soak_violations
from tests.inference.engine.decoders import (
    LONGROPE,
    NAMES,
    check_by_whole_passes,
    random_prompts,
    tiny_decoder,
)
from tests.short_suite import crossed

GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=5)
SETTINGS = {
    "small pages": EngineConfig(page_size=3, max_rows=4),
    "chunks": EngineConfig(page_size=4, max_rows=3, max_step_tokens=5),
}


def complete(engine: Engine, prompts: list[list[int]], sampling: SamplingConfig = GREEDY) -> list[list[int]]:
    handles = [engine.submit(Request(token_ids=prompt, sampling=sampling)) for prompt in prompts]
    engine.run()
    return [list(handle.completions[0].token_ids) for handle in handles]


def test_every_decoder_architecture_is_here():
    decoders = [n for n, a in ARCHITECTURES.items() if "language_model" in a.CLASSES]
    assert sorted(NAMES) == sorted(decoders)


@crossed("decoder, setting", [*((name, None) for name in NAMES), LONGROPE], list(SETTINGS))
def test_every_way_gives_the_tokens_of_whole_passes(decoder, setting):
    model = tiny_decoder(*decoder)
    prompts = random_prompts(model.config, 6, 33)
    expected = complete(Engine(model, config=EngineConfig(max_rows=8)), prompts)
    check_by_whole_passes(model, prompts, expected)
    assert len({token for tokens in expected for token in tokens}) > 1
    engine = Engine(model, config=SETTINGS[setting])
    assert complete(engine, prompts) == expected
    assert complete(engine, prompts[::-1]) == expected[::-1]  # from the pages of before
    statistics = engine.statistics
    assert statistics.n_pages_used == 0
    assert (statistics.n_shared_tokens > 0) == (model.config.delta_rule is None)
    streamed = Engine(model, config=EngineConfig(page_size=5))
    handles = [streamed.submit(Request(token_ids=prompt, sampling=GREEDY)) for prompt in prompts[:3]]
    assert [[piece.token_id for piece in streamed.stream(handle)] for handle in handles] == expected[:3]


@pytest.mark.parametrize("name", ["qwen3", "gemma2"])
def test_random_settings_give_the_same_tokens(name):
    assert check_architecture(tiny_decoder(name), 20, seed=1) == []


def test_a_soak_with_half_of_the_requests_cancelled_leaves_nothing_behind():
    found = soak(tiny_decoder("qwen3"), 200, seed=1)
    assert soak_violations(found, largest_growth=1.0) == []  # so short a run shows no trend
    assert int(str(found["cancelled"])) > 50
    assert int(str(found["preempted"])) > 0
