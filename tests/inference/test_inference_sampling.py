"""Filters against transformers and against distributions worked out by hand; draws against the exact one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parakit.common.errors import UserError
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.filters import (
    draw,
    filter_logits,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    keep_typical,
)
from parakit.inference.generation.sampling import (
    RequestSampler,
    choose_tokens,
    distribution,
    request_seeds,
    uniforms,
)

LOGITS = torch.tensor([0.5, 0.25, 0.125, 0.0625, 0.0625]).log()[None]


def probabilities(config, logits=LOGITS):
    return filter_logits(logits, config).softmax(-1)[0]


def sampler(config, prompt=(), seed=0, rules=None, limit=100, **more):
    return RequestSampler(config, prompt, seed, rules, limit, **more)


def chosen(config, logits, prompt=(), **more):
    """The tokens of a batch whose rows have equal settings."""
    samplers = [sampler(config, prompt, seed, **more) for seed in range(len(logits))]
    return [choice.token_id for choice in choose_tokens(samplers, logits)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.5, 0.25, 0.125, 0.0625, 0.0625]),
        ({"top_k": 2}, [2 / 3, 1 / 3, 0, 0, 0]),
        ({"top_k": 4}, [0.5, 0.25, 0.125, 0.0625, 0.0625]),  # the fourth and fifth tie: both are kept
        ({"top_p": 0.7}, [2 / 3, 1 / 3, 0, 0, 0]),
        ({"top_p": 0.76}, [4 / 7, 2 / 7, 1 / 7, 0, 0]),
        ({"top_p": 1e-9}, [1, 0, 0, 0, 0]),
        ({"min_p": 0.3}, [2 / 3, 1 / 3, 0, 0, 0]),
        ({"min_p": 1.0}, [1, 0, 0, 0, 0]),
        ({"temperature": 0.5}, np.array([64, 16, 4, 1, 1]) / 86),  # squares
        ({"temperature": 0.5, "top_p": 0.9}, [0.8, 0.2, 0, 0, 0]),  # temperature comes before top-p
        ({"temperature": 1e-30}, [1, 0, 0, 0, 0]),
    ],
)
def test_filters_give_the_distribution_worked_out_by_hand(settings, expected):
    config = SamplingConfig(**{"temperature": 1.0, **settings})
    np.testing.assert_allclose(probabilities(config), expected, atol=1e-6)


def test_each_filter_and_all_together_agree_with_transformers():
    from transformers.generation import logits_process as reference

    torch.manual_seed(1)
    for _ in range(20):
        logits = 3 * torch.randn(4, 200)
        history = torch.randint(0, 200, (4, 30))
        filters = [
            keep_top_k(logits, 13),
            keep_top_p(logits, 0.83),
            keep_min_p(logits, 0.07),
            keep_typical(logits, 0.6),
            keep_typical(keep_top_k(logits, 13), 0.3),
        ]
        processors = [
            [reference.TopKLogitsWarper(13)],
            [reference.TopPLogitsWarper(0.83)],
            [reference.MinPLogitsWarper(0.07)],
            [reference.TypicalLogitsWarper(0.6)],
            [reference.TopKLogitsWarper(13), reference.TypicalLogitsWarper(0.3)],
        ]
        for mine, chain in zip(filters, processors, strict=True):
            wanted = reference.LogitsProcessorList(chain)(history, logits.clone())
            torch.testing.assert_close(mine, wanted)
        config = SamplingConfig(
            repetition_penalty=0.8, temperature=1.4, top_k=50, top_p=0.9, min_p=0.02, typical_p=0.9
        )
        chain = reference.LogitsProcessorList(
            [
                reference.RepetitionPenaltyLogitsProcessor(0.8),
                reference.TemperatureLogitsWarper(1.4),
                reference.TopKLogitsWarper(50),
                reference.TopPLogitsWarper(0.9),
                reference.MinPLogitsWarper(0.02),
                reference.TypicalLogitsWarper(0.9),
            ]
        )
        wanted = chain(history, logits.clone()).softmax(-1)
        for row, expected in zip(history.tolist(), wanted, strict=True):
            i = history.tolist().index(row)
            torch.testing.assert_close(distribution(sampler(config, row), logits[i]), expected)


@given(
    st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=30),
    st.floats(0.01, 1.0),
    st.integers(1, 40),
    st.floats(0.0, 1.0),
)
def test_filters_only_drop_and_always_keep_the_likeliest(values, top_p, top_k, min_p):
    logits = torch.tensor([values])
    for kept in (keep_top_p(logits, top_p), keep_top_k(logits, top_k), keep_min_p(logits, min_p)):
        same = kept == logits
        assert bool((same | (kept == float("-inf"))).all())
        assert bool(same[0, logits.argmax()])


@given(st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=20), st.floats(0, 1, exclude_max=True))
def test_a_draw_is_the_inverse_of_the_distribution_function(values, uniform):
    logits = torch.tensor([values])
    token_id = int(draw(logits, torch.tensor([uniform], dtype=torch.float64)))
    passed = np.exp(np.float64(values) - max(values)).cumsum()
    passed /= passed[-1]
    assert (passed[token_id - 1] if token_id else 0.0) <= uniform + 1e-6
    assert uniform <= passed[token_id] + 1e-6


def test_dropped_tokens_are_never_drawn_even_by_the_largest_uniform():
    logits = torch.tensor([[float("-inf"), 1.0, float("-inf"), 2.0, float("-inf")]]).repeat(3, 1)
    drawn = draw(logits, torch.tensor([0.0, 0.5, uniforms(0, 1).dtype.type(1 - 2**-50)], dtype=torch.float64))
    assert drawn.tolist() == [1, 3, 3]


def test_temperature_zero_is_exactly_greedy_whatever_else_is_set():
    torch.manual_seed(0)
    logits = torch.randn(50, 300)
    config = SamplingConfig(temperature=0.0, top_k=3, top_p=0.4, min_p=0.2)
    assert chosen(config, logits) == logits.argmax(-1).tolist()


def test_repetition_penalty_changes_the_greedy_choice():
    logits = torch.tensor([[2.0, 1.9, -1.0]])
    config = SamplingConfig(temperature=0.0, repetition_penalty=1.5)
    assert chosen(config, logits, (0, 2)) == [1]
    scores = sampler(config, (0, 2)).changed_scores(logits[0])
    np.testing.assert_allclose(scores, [2 / 1.5, 1.9, -1.5], rtol=1e-6)


def test_drawn_frequencies_are_those_of_the_distribution():
    n = 200_000
    config = SamplingConfig(temperature=0.8, top_p=0.95)
    expected = probabilities(config).numpy()
    drawn = draw(filter_logits(LOGITS, config).expand(n, -1), torch.from_numpy(uniforms(5, n)))
    counts = np.bincount(drawn.numpy(), minlength=5)
    kept = expected > 0
    chi_square = (((counts - n * expected) ** 2)[kept] / (n * expected[kept])).sum()
    assert counts[~kept].sum() == 0
    assert chi_square < 16.3  # 99.9 % of the chi-square distribution with 3 degrees of freedom


def test_seeds_of_requests_are_fixed_by_the_calls_seed_and_fresh_without_one():
    assert request_seeds(7, 3) == request_seeds(7, 5)[:3]
    assert len({*request_seeds(7, 3), *request_seeds(8, 3)}) == 6
    assert request_seeds(None, 1) != request_seeds(None, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("min_p", 2),
        ("repetition_penalty", 0),
        ("max_new_tokens", 0),
        ("max_new_tokens", 10**9),
        ("stop", ("",)),
        ("stop", ("x",) * 65),
        ("seed", -1),
    ],
)
def test_every_setting_has_a_bound_and_says_so(name, value):
    with pytest.raises(UserError, match=name):
        SamplingConfig.parse({name: value})
