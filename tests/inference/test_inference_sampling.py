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


@pytest.mark.parametrize("setting", ["temperature", "top_p"])
@pytest.mark.parametrize("value", [1e-30, 1e-40, 5e-324])  # the last is no float32
def test_a_temperature_or_nucleus_near_zero_is_greedy(setting, value):
    torch.manual_seed(0)
    logits = torch.randn(50, 300)
    logits[:, 7] = float("-inf")
    assert chosen(SamplingConfig(**{setting: value}), logits) == logits.argmax(-1).tolist()


def test_repetition_penalty_changes_the_greedy_choice():
    logits = torch.tensor([[2.0, 1.9, -1.0]])
    config = SamplingConfig(temperature=0.0, repetition_penalty=1.5)
    assert chosen(config, logits, (0, 2)) == [1]
    scores = sampler(config, (0, 2)).changed_scores(logits[0])
    np.testing.assert_allclose(scores, [2 / 1.5, 1.9, -1.5], rtol=1e-6)


def exact(config, logits, prompt):
    """The distribution in float64 from the filters' definitions, token by token."""
    scores = logits.double().numpy().copy()
    for token_id, bias in config.logit_bias.items():
        scores[token_id] += bias
    for token_id in set(prompt):
        scores[token_id] *= config.repetition_penalty ** (1 if scores[token_id] < 0 else -1)
    scores /= config.temperature
    kept = np.ones(len(scores), bool)

    def p():
        weights = np.where(kept, np.exp(scores - scores.max()), 0)
        return weights / weights.sum()

    if config.top_k:
        kept &= scores >= np.sort(scores)[-config.top_k]
    if config.top_p < 1:
        order = np.argsort(-p(), kind="stable")
        n = int(np.searchsorted(p()[order].cumsum(), config.top_p)) + 1
        kept &= np.isin(np.arange(len(scores)), order[:n])
    if config.min_p:
        kept &= p() >= config.min_p * p().max()
    if config.typical_p < 1:
        now = p()
        surprise = -np.log(np.where(now > 0, now, 1))
        distance = np.where(kept, abs(surprise - (now * surprise).sum()), np.inf)
        order = np.argsort(distance, kind="stable")
        n = int(np.searchsorted(now[order].cumsum(), config.typical_p)) + 1
        kept &= np.isin(np.arange(len(scores)), order[:n])
    return p()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 1.7},
        {"top_k": 6},
        {"top_p": 0.8},
        {"min_p": 0.1},
        {"typical_p": 0.6},
        {"repetition_penalty": 1.8, "logit_bias": {3: 1.5, 8: -2.0}},
        {"temperature": 0.8, "top_k": 12, "top_p": 0.95, "min_p": 0.02, "typical_p": 0.9},
    ],
    ids=str,
)
def test_drawn_frequencies_are_those_of_the_exact_distribution(settings):
    """Chi-square over the first tokens of 2,500 requests, each with a seed of its own."""
    n, prompt = 2_500, [2, 5, 11]
    config = SamplingConfig(**{"temperature": 1.0, **settings})
    logits = 1.5 * torch.randn(30, generator=torch.Generator().manual_seed(3))
    expected = exact(config, logits, prompt)
    np.testing.assert_allclose(distribution(sampler(config, prompt), logits), expected, atol=1e-6)
    samplers = [sampler(config, prompt, seed) for seed in request_seeds(1, n)]
    drawn = [choice.token_id for choice in choose_tokens(samplers, logits.expand(n, -1))]
    counts = np.bincount(drawn, minlength=30)
    kept = expected > 0
    assert counts[~kept].sum() == 0
    chi_square = (((counts - n * expected) ** 2)[kept] / (n * expected[kept])).sum()
    freedom = kept.sum() - 1  # the 99.99 % quantile, by Wilson and Hilferty
    assert chi_square < freedom * (1 - 2 / (9 * freedom) + 3.72 * (2 / (9 * freedom)) ** 0.5) ** 3


@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([{"top_k": 7}, {"top_k": 40, "top_p": 0.7},
    {"top_p": 0.6}, {"top_p": 0.99}, {"top_k": 9, "typical_p": 0.5}, {"top_p": 0.9, "min_p": 0.2}]))  # fmt: skip
def test_a_few_candidates_give_the_distribution_of_the_whole_vocabulary(seed, has_ties, settings):
    logits = 4 * torch.randn(1, 3000, generator=torch.Generator().manual_seed(seed))
    logits = logits.round() if has_ties else logits
    config = SamplingConfig(temperature=0.9, **settings)
    whole = filter_logits(logits, config).softmax(-1)[0]
    torch.testing.assert_close(distribution(sampler(config), logits[0]), whole, atol=1e-6, rtol=1e-4)


def test_rows_with_settings_of_their_own_choose_as_they_do_alone():
    torch.manual_seed(5)
    configs = [
        SamplingConfig(temperature=0.0),
        SamplingConfig(temperature=0.0, repetition_penalty=1.9),
        SamplingConfig(temperature=1.3, top_k=5),
        SamplingConfig(temperature=1.3, top_k=5, log_probabilities=3),
        SamplingConfig(temperature=0.6, top_p=0.8, frequency_penalty=1.0),
        SamplingConfig(temperature=1.0, min_p=0.1, no_repeat_ngram_size=1),
        SamplingConfig(temperature=1.0, typical_p=0.4, logit_bias={3: 4.0}),
        SamplingConfig(temperature=0.0, log_probabilities=0),
    ]
    together = [sampler(config, [1, 2, 3], seed) for seed, config in enumerate(configs)]
    alone = [sampler(config, [1, 2, 3], seed) for seed, config in enumerate(configs)]
    for _ in range(12):
        logits = 2 * torch.randn(len(configs), 40)
        choices = choose_tokens(together, logits)
        assert choices == [choose_tokens([one], logits[i : i + 1])[0] for i, one in enumerate(alone)]
        logs = logits.log_softmax(-1)
        for row, n in ((3, 3), (7, 0)):
            token_id, log_probability, alternatives = choices[row][:3]
            assert log_probability == pytest.approx(float(logs[row, token_id]), abs=1e-5)
            assert [one.token_id for one in alternatives] == logs[row].topk(n).indices.tolist()
        assert choices[0].log_probability is None
    ids = together[5].token_ids
    assert len(set(ids)) == len(ids) == 12


def test_a_row_without_a_choice_has_an_error_and_the_others_have_tokens():
    logits = torch.randn(4, 20)
    logits[1, 3] = float("nan")

    class Nothing:
        def allowed(self, token_ids):
            return torch.zeros(20, dtype=torch.bool)

    plain, drawing = SamplingConfig(temperature=0.0), SamplingConfig(temperature=1.0)
    rows = [sampler(plain), sampler(plain), sampler(drawing), sampler(drawing, constraint=Nothing())]
    choices = choose_tokens(rows, logits)
    assert [choice.token_id >= 0 for choice in choices] == [True, False, True, False]
    assert "not finite" in choices[1].error.message
    assert "no token is allowed" in choices[3].error.message
    assert [row.n_new for row in rows] == [1, 0, 1, 0]
    choices = choose_tokens([sampler(plain) for _ in range(4)], logits)
    assert [choice.error is None for choice in choices] == [True, False, True, True]


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
        ("repetition_penalty", float("nan")),
        ("presence_penalty", float("nan")),
        ("presence_penalty", -2.5),
        ("frequency_penalty", 3),
        ("typical_p", 0.0),
        ("typical_p", float("nan")),
        ("no_repeat_ngram_size", -1),
        ("min_new_tokens", -1),
        ("min_new_tokens", 201),
        ("n", 0),
        ("n", 10**6),
        ("log_probabilities", -1),
        ("log_probabilities", 10**6),
        ("logit_bias", {3: float("nan")}),
        ("logit_bias", {3: float("inf")}),
        ("logit_bias", {2**31: 1.0}),
        ("logit_bias", "[3]"),
        ("logit_bias", "{3"),
        ("max_new_tokens", -5),
        ("stop", ("x" * 1_000_000,)),
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
