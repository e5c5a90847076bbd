"""In reverse: what a time, an amount of money and a memory allow."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parakit.common.errors import UserError
from parakit.planning.best_size import best_in_memory, best_in_time, tokens_per_parameter
from parakit.planning.choices import (
    default_vocabulary,
    model_of,
    parse_count,
    parse_money,
    run_of,
    with_fitting_rows,
)
from parakit.planning.machines import Machine, find_machine
from parakit.planning.runs import RunSpec, check_run

CARD = find_machine("h100")


def spec_of_size(size: int) -> RunSpec | None:
    try:
        spec = run_of(model_of(size), {"precision": "bfloat16"})
    except UserError:
        return None
    return with_fitting_rows(spec, CARD)


def test_more_time_gives_a_model_that_is_no_smaller_and_sees_enough() -> None:
    last = 0
    for seconds in (60.0, 3600.0, 86_400.0):
        plan = best_in_time(seconds, CARD, spec_of_size)
        n = plan.spec.n_parameters
        assert n >= last
        assert plan.n_tokens >= 0.99 * tokens_per_parameter(n) * n
        assert plan.seconds == pytest.approx(seconds, rel=0.02)
        assert plan.fit.fits
        last = n


def test_too_little_time_says_how_much_it_takes() -> None:
    slow = Machine(
        name="slow", title="a slow one", peak_flops={"bfloat16": 1e9}, bandwidth=1e9, memory_bytes=1e10
    )
    with pytest.raises(UserError, match=r"nothing fits: in 1\.0 s .* it takes about"):
        best_in_time(1.0, slow, spec_of_size)
    with pytest.raises(UserError, match="nothing fits: the smallest model needs"):
        best_in_time(1e6, slow.replace(memory_bytes=1e8), spec_of_size)


def test_the_largest_models_in_a_memory() -> None:
    rows = best_in_memory(8 * 2**30, CARD, spec_of_size, ("full", "lora", "qlora", "inference"))
    largest = {row.method: row.config.n_params()["total"] for row in rows}
    assert largest["full"] < largest["lora"] < largest["qlora"]
    assert largest["full"] < largest["inference"]
    assert all(row.peak_bytes <= 0.9 * 8 * 2**30 for row in rows)
    with pytest.raises(UserError, match="nothing fits into 10"):
        best_in_memory(1e7, CARD, spec_of_size, ("full", "inference"))


@settings(max_examples=20)
@given(st.integers(300_000, 10**11))
def test_a_vocabulary_leaves_room_for_the_model(size: int) -> None:
    vocab_size = default_vocabulary(size)
    assert vocab_size & (vocab_size - 1) == 0
    assert 512 <= vocab_size <= 65_536
    config = model_of(size, vocab_size=vocab_size)
    assert 0.5 < config.n_params()["total"] / size < 2


def test_sizes_presets_and_amounts() -> None:
    assert model_of("gpt2").n_params()["total"] == 124_439_808
    with pytest.raises(UserError, match="llama-2-7") as caught:
        model_of("llama-2-7")
    assert "llama-2-7b" in caught.value.hint
    with pytest.raises(UserError, match="not a parameter count"):
        model_of("0m")
    assert parse_count("1.5b", "--tokens") == 1.5e9
    assert parse_money("$50") == 50
    for parse, wrong in (
        (parse_money, "free"),
        (parse_money, "0"),
    ):
        with pytest.raises(UserError, match="is not an amount"):
            parse(wrong)
    with pytest.raises(UserError, match="not a number of tokens"):
        parse_count("many", "--tokens")


def test_runs_that_make_no_sense() -> None:
    config = model_of("1m", seq_len=64)
    for spec, words in (
        (RunSpec(config, seq_len=128), "exceeds the model's context of 64"),
        (RunSpec(config, "distill", seq_len=64), "needs a teacher"),
        (RunSpec(config, "grpo", seq_len=64, n_new_tokens=64), "leaves no tokens for a prompt"),
        (RunSpec(model_of("1m", seq_len=64, family="encoder"), "dpo", seq_len=64), "models that generate"),
    ):
        with pytest.raises(UserError, match=words):
            check_run(spec)
    with pytest.raises(UserError, match="less than one row"):
        run_of(config, {"batch_tokens": 32, "seq_len": 64})
