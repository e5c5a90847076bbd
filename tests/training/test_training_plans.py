"""Schedules, batch growth, and how a plan is made of settings."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parakit.common.errors import UserError
from parakit.training.config import (
    ExampleTrainingConfig,
    TextTrainingConfig,
    TrainingPlan,
    resolve,
    resolve_examples,
)
from parakit.training.optimizers.schedules import learning_rate_factor
from tests.training.tiny_runs import tiny_plan


def factors(**settings: Any) -> list[float]:
    plan = tiny_plan(**settings)
    return [learning_rate_factor(plan, step) for step in range(plan.max_steps)]


def test_warm_up_climbs_in_equal_steps_to_the_whole_rate() -> None:
    for schedule in ("wsd", "cosine", "constant"):
        assert factors(schedule=schedule, max_steps=40, warmup_steps=4)[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors(schedule="constant", max_steps=40, warmup_steps=0) == [1.0] * 40


def test_warm_up_stable_decay_holds_and_then_falls_in_a_line() -> None:
    got = factors(schedule="wsd", max_steps=100, warmup_steps=20, decay_fraction=0.25)
    assert got[20:81] == [1.0] * 61
    assert got[80:] == pytest.approx([(100 - step) / 20 for step in range(80, 100)])
    floor = factors(schedule="wsd", max_steps=100, warmup_steps=0, decay_fraction=1.0, final_fraction=0.2)
    assert floor == pytest.approx([0.2 + 0.8 * (1 - step / 100) for step in range(100)])
    assert factors(schedule="wsd", max_steps=50, warmup_steps=0, decay_fraction=0.0) == [1.0] * 50


def test_cosine_is_its_formula() -> None:
    got = factors(schedule="cosine", max_steps=60, warmup_steps=10, final_fraction=0.1)
    wanted = [0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - 10) / 50)) for step in range(10, 60)]
    assert got[10:] == pytest.approx(wanted)


def test_inverse_square_root_is_its_formula() -> None:
    got = factors(schedule="inverse_sqrt", max_steps=60, warmup_steps=10)
    wanted = [min((step + 1) / 10, math.sqrt(10 / (step + 1))) for step in range(60)]
    assert got == pytest.approx(wanted)


@given(
    st.sampled_from(["wsd", "cosine", "inverse_sqrt", "constant"]),
    st.integers(1, 300),
    st.integers(0, 400),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_rate_stays_between_nothing_and_its_full_value(
    schedule: str, max_steps: int, warmup_steps: int, decay_fraction: float, final_fraction: float
) -> None:
    known = type(TextTrainingConfig(schedule=schedule)).model_fields
    rates = {"decay_fraction": decay_fraction, "final_fraction": final_fraction}
    rates = {name: value for name, value in rates.items() if name in known}
    got = factors(schedule=schedule, max_steps=max_steps, warmup_steps=warmup_steps, **rates)
    assert all(0 <= factor <= 1 + 1e-12 for factor in got)
    peak = min(warmup_steps, max_steps // 2)
    assert got[peak:] == sorted(got[peak:], reverse=True)
    assert got[:peak] == sorted(got[:peak])


plans = st.builds(
    lambda doublings, extra, max_steps: tiny_plan(
        batch_growth=2**doublings, batch_tokens=12 * (2**doublings + extra), max_steps=max_steps
    ),
    st.integers(0, 5),
    st.integers(0, 70),
    st.integers(1, 120),
)


@given(plans)
def test_the_rows_before_a_step_are_those_of_all_earlier_steps(plan: TrainingPlan) -> None:
    total = 0
    for step in range(plan.max_steps + 1):
        assert plan.rows_before(step) == total
        assert plan.n_tokens(step) == total * plan.seq_len
        total += plan.rows_at(step)
    assert plan.n_tokens() == plan.n_tokens(plan.max_steps)


@given(plans)
def test_the_batch_grows_from_its_fraction_to_its_whole_by_doubling(plan: TrainingPlan) -> None:
    rows = [plan.rows_at(step) for step in range(plan.max_steps)]
    assert rows[0] == max(1, plan.n_rows // plan.batch_growth)
    assert rows == sorted(rows)
    assert set(rows) <= {plan.n_rows >> n for n in range(plan.batch_growth.bit_length())}
    assert all(n == plan.n_rows for n in rows[math.ceil(plan.max_steps / 2) :])


def made(config: TextTrainingConfig | None = None, **changes: Any) -> TrainingPlan:
    settings = {
        "learning_rate": 0.02, "embedding_learning_rate": 0.004, "batch_tokens": 4096, "max_seq_len": 256,
        "n_train_tokens": 1_000_000,
    }  # fmt: skip
    return resolve(config or TextTrainingConfig(), **settings | changes)


def test_what_is_left_open_follows_from_the_size_and_the_data() -> None:
    plan = made()
    assert (plan.seq_len, plan.n_rows, plan.max_steps) == (256, 16, 244)
    assert (plan.learning_rate, plan.embedding_learning_rate) == (0.02, 0.004)
    assert made(TextTrainingConfig(epochs=3)).max_steps == 732
    assert made(TextTrainingConfig(max_tokens=40_960)).max_steps == 10
    assert made(default_epochs=2.0).max_steps == 488
    adamw = made(TextTrainingConfig(optimizer="adamw"))
    assert adamw.learning_rate == adamw.embedding_learning_rate == 0.004


@pytest.mark.parametrize(
    ("settings", "changes", "words"),
    [
        ({"seq_len": 512}, {}, ["seq_len = 512", "max_seq_len = 256"]),
        ({}, {"n_train_tokens": 4000}, ["4,000 tokens", "16 rows of 256"]),
        ({"batch_growth": 3}, {}, ["batch_growth = 3", "power of two"]),
        ({"batch_growth": 32}, {}, ["batch_growth = 32", "16 rows"]),
        ({"max_steps": 5, "epochs": 2.0}, {}, ["`max_steps` and `epochs`", "keep one"]),
    ],
)
def test_settings_that_cannot_meet_the_data_are_errors_with_a_way_out(
    settings: dict[str, Any], changes: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        made(TextTrainingConfig.parse(settings), **changes)
    assert all(word in str(caught.value) for word in words)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("settings", "key", "owner"),
    [
        ({"optimizer": "adamw", "momentum": 0.9}, "momentum", "choose one of muon, sgd"),
        (
            {"optimizer": "adamw", "embedding_learning_rate": 0.1},
            "embedding_learning_rate",
            "choose muon",
        ),
        ({"schedule": "cosine", "decay_fraction": 0.2}, "decay_fraction", "choose wsd"),
        (
            {"schedule": "constant", "final_fraction": 0.2},
            "final_fraction",
            "choose one of wsd, linear, cosine, inverse_sqrt",
        ),
    ],
)
def test_a_setting_of_another_optimizer_or_schedule_is_refused(
    settings: dict[str, Any], key: str, owner: str
) -> None:
    with pytest.raises(UserError, match=f"`{key}` is set") as error:
        TextTrainingConfig.parse(settings)
    assert owner in error.value.hint


# ---- rows that are examples


def made_of_examples(config: ExampleTrainingConfig | None = None, **changes: Any) -> TrainingPlan:
    settings = {
        "learning_rate": 0.02, "embedding_learning_rate": 0.004, "max_seq_len": 128, "n_train_examples": 1000,
    }  # fmt: skip
    return resolve_examples(config or ExampleTrainingConfig(), **settings | changes)


def test_a_plan_of_examples_counts_examples() -> None:
    plan = made_of_examples()
    assert (plan.n_rows, plan.micro_batch_size, plan.seq_len, plan.max_steps) == (32, 32, 128, 94)
    assert made_of_examples(ExampleTrainingConfig(batch_examples=100, epochs=2)).max_steps == 20
    assert made_of_examples(ExampleTrainingConfig(batch_examples=100, max_steps=7)).max_steps == 7
    assert made_of_examples(ExampleTrainingConfig(epochs=0.001)).max_steps == 1
    few = made_of_examples(n_train_examples=5)
    assert (few.n_rows, few.max_steps) == (5, 3)
    cut = made_of_examples(ExampleTrainingConfig(batch_examples=64, micro_batch_size=16, seq_len=50))
    assert (cut.n_rows, cut.micro_batch_size, cut.seq_len) == (64, 16, 50)
    assert cut.rows_before(3) == 192


@pytest.mark.parametrize(
    ("settings", "changes", "words"),
    [
        ({"seq_len": 512}, {}, ["seq_len = 512", "max_seq_len = 128"]),
        ({"batch_examples": 32}, {"n_train_examples": 31}, ["31 examples", "batch of 32"]),
        ({"batch_growth": 3}, {}, ["batch_growth = 3", "power of two"]),
        ({"max_steps": 5, "epochs": 2.0}, {}, ["`max_steps` and `epochs`", "keep one"]),
    ],
)
def test_settings_that_cannot_meet_the_examples_are_errors_with_a_way_out(
    settings: dict[str, Any], changes: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        made_of_examples(ExampleTrainingConfig.parse(settings), **changes)
    assert all(word in str(caught.value) for word in words)
    assert caught.value.hint


def test_text_is_counted_in_tokens_and_examples_in_examples() -> None:
    for kind, settings in (
        (TextTrainingConfig, {"batch_examples": 8}),
        (ExampleTrainingConfig, {"batch_tokens": 512}),
        (ExampleTrainingConfig, {"max_tokens": 10_000}),
    ):
        with pytest.raises(UserError, match=f"unknown key `{next(iter(settings))}`"):
            kind.parse(settings)
    both = ExampleTrainingConfig(batch_examples=8, epochs=2, seq_len=64, micro_batch_size=4)
    assert made_of_examples(both).n_rows == 8


def test_on_and_off_may_be_what_yaml_makes_of_them() -> None:
    found = [
        ExampleTrainingConfig.parse({"compile": value}).compile
        for value in (True, False, "on", "off", "auto")
    ]
    assert found == ["on", "off", "on", "off", "auto"]
