"""The size that a time buys."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parakit.planning import choose_size
from parakit.planning.choices import run_of
from parakit.planning.step_time import step_seconds
from parakit.planning.time import (
    MAX_EPOCHS,
    TOKENS_PER_PARAMETER,
    speed_of_peak,
    speed_on,
    training_flops_per_token,
)
from tests.planning.test_planning_step_time import CONFIG, measured

PEAK = 5e10
SPEED = speed_of_peak(PEAK, 128)


def n_params(seconds: float, tokens: int = 10**9, vocab_size: int = 4096, peak: float = PEAK) -> int:
    return choose_size(seconds, speed_of_peak(peak, 256), tokens, vocab_size, 256).config.n_params()["total"]


@settings(max_examples=15)
@given(st.floats(1, 1e6), st.floats(1, 1e6))
def test_more_time_never_gives_a_smaller_model(one, other):
    short, long = sorted((one, other))
    assert n_params(short) <= n_params(long)


@settings(max_examples=10)
@given(st.integers(10**4, 10**10), st.integers(10**4, 10**10))
def test_more_text_never_gives_a_smaller_model(one, other):
    few, many = sorted((one, other))
    assert n_params(1e6, few) <= n_params(1e6, many)


def test_a_faster_machine_is_as_good_as_more_time():
    assert n_params(600, peak=8 * PEAK) == n_params(4800) > n_params(600)


def test_little_text_bounds_the_model_whatever_the_time():
    assert n_params(1e9, tokens=10**6) * TOKENS_PER_PARAMETER <= MAX_EPOCHS * 10**6


def test_no_time_still_gives_a_model_that_the_vocabulary_admits():
    for vocab_size in (320, 4096, 65_536):
        assert n_params(0.1, tokens=100, vocab_size=vocab_size) > 0


@pytest.mark.parametrize(
    ("family", "architecture"),
    [("encoder", None), ("encoder", "bert"), ("encoder-decoder", None), ("encoder-decoder", "2017")],
)
def test_every_family_gets_a_size_that_grows_with_the_time(family, architecture):
    short, long = (
        choose_size(seconds, SPEED, 10**9, 1024, 128, family, architecture).config for seconds in (60, 3600)
    )
    assert short.family == long.family == family
    assert short.n_params()["total"] < long.n_params()["total"]
    assert long.max_seq_len == 128


def test_a_token_of_a_pair_costs_the_mean_of_its_two_sides():
    """Half of what one source token and one target token cost together; the head's share is the target's alone."""
    config = choose_size(60, SPEED, 10**9, 1024, 128, "encoder-decoder").config
    assert training_flops_per_token(config, 64) * 2 == config.flops_per_token(64)
    alone = choose_size(60, SPEED, 10**9, 1024, 128).config
    assert training_flops_per_token(alone, 64) == alone.flops_per_token(64)


def test_the_speed_on_a_calibrated_machine_is_that_of_its_plan():
    run = run_of(CONFIG, {"seq_len": 128})
    expected = run.n_tokens / step_seconds(run, measured()).total
    assert speed_on(measured(), 128)(CONFIG) == pytest.approx(expected)
    long = CONFIG.max_seq_len
    assert speed_on(measured(), 10 * long)(CONFIG) == speed_on(measured(), long)(CONFIG)  # rows fit the model


def test_a_machine_whose_update_is_slow_gets_a_smaller_model_than_its_peak_promises():
    """What a peak does not show: each parameter's update takes a microsecond here."""
    sizes = [
        choose_size(3600, speed, 10**9, 4096, 256).config.n_params()["total"]
        for speed in (speed_on(measured(), 256), speed_on(measured(adamw_seconds=1e-6), 256))
    ]
    assert sizes[1] < sizes[0]
