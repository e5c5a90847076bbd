"""The plan of a run: how large, how many examples a step, and how long."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from parakit.common import UserError
from parakit.model import DecoderConfig
from parakit.model.presets import config_for_size, default_hyperparameters
from parakit.stages import plans
from parakit.stages.config import FinetuneConfig, PretrainConfig
from parakit.stages.plans import (
    N_TIMED_STEPS,
    ModelSpec,
    choose_model_size,
    n_tokens,
    plan_by_timing,
    resolve_plan,
)
from parakit.stages.pretraining import PretrainJob
from parakit.stages.task_models import build_model
from parakit.stages.tasks import Splits, TaskBuilder, task_settings
from parakit.tokens import TokenizerConfig, train_tokenizer
from parakit.tokens.examples.shards import EncodedTexts, ExampleShards
from parakit.tokens.shards import TokenShards
from parakit.tokens.tokenizer.special_tokens_template import SpecialTokensTemplate
from parakit.training.pace import TimeBudget

VOCAB_SIZE = 300


def texts(n: int, length: int, seed: int) -> EncodedTexts:
    ids = np.random.default_rng(seed).integers(20, VOCAB_SIZE, n * length).astype(np.uint16)
    return EncodedTexts(ids, np.arange(n + 1, dtype=np.int64) * length)


def examples(n: int, task: str = "translate", length: int = 10) -> ExampleShards:
    keys = ("source", "target") if task == "translate" else ("text",)
    frame = SpecialTokensTemplate(((), (1,)), ((), (0,)), (0,))
    return ExampleShards(
        task=task,
        texts={key: texts(n, length, i) for i, key in enumerate(keys)},
        targets=None if task == "translate" else np.arange(n) % 2,
        labels=() if task == "translate" else ("no", "yes"),
        templates=(frame, frame),
        vocab_size=VOCAB_SIZE,
        pad_id=2,
        eos_id=1,
    )


def sizing(family: str = "encoder-decoder", size: str = "80k"):
    return config_for_size(size, VOCAB_SIZE, 32, family)


@pytest.mark.parametrize(("width", "share"), [(48, 1.0), (64, 1.0), (128, 0.5), (256, 0.25)])
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "schedule_free", "muon"])
def test_the_rate_of_adam_for_matrices_falls_with_the_width(optimizer: str, width: int, share: float) -> None:
    shape = {"d_model": width, "n_layers": 1, "n_heads": 2, "n_kv_heads": 2, "head_dim": 8, "d_ff": 32}
    chosen = default_hyperparameters(DecoderConfig(vocab_size=VOCAB_SIZE, max_seq_len=32, **shape))
    data = TokenShards(np.zeros(10_000, np.uint16), np.array([0, 10_000]), vocab_size=VOCAB_SIZE)
    plan = resolve_plan(PretrainConfig(optimizer=optimizer), chosen, data)
    assert plan.embedding_learning_rate == chosen.embedding_learning_rate
    usual = chosen.learning_rate if optimizer == "muon" else share * chosen.embedding_learning_rate
    assert plan.learning_rate == usual
    given = resolve_plan(PretrainConfig(optimizer=optimizer, learning_rate=0.1), chosen, data)
    assert given.learning_rate == 0.1
    tuned = resolve_plan(
        FinetuneConfig(task="translate", optimizer=optimizer), chosen, examples(200), tuning=True
    )
    assert optimizer == "muon" or tuned.learning_rate == tuned.embedding_learning_rate


def test_translations_fill_a_step_as_text_does_and_labels_come_by_the_dozen():
    tokens = sizing().batch_tokens
    assert resolve_plan(FinetuneConfig(), sizing(), examples(20_000)).n_rows == 64
    assert resolve_plan(FinetuneConfig(), sizing(), examples(20_000, length=25)).n_rows == tokens // 50
    assert resolve_plan(FinetuneConfig(), sizing(), examples(20_000, length=40)).n_rows == 32
    assert resolve_plan(FinetuneConfig(), sizing(), examples(2_000)).n_rows == 40  # fifty steps an epoch
    assert resolve_plan(FinetuneConfig(), sizing("encoder"), examples(20_000, "classify")).n_rows == 32
    assert (
        resolve_plan(FinetuneConfig(task="translate", batch_examples=7), sizing(), examples(20_000)).n_rows
        == 7
    )


def test_tuning_takes_smaller_steps_and_fewer_passes_than_training_from_scratch():
    data = examples(3200, "classify")
    fresh = resolve_plan(FinetuneConfig(), sizing("encoder"), data)
    tuned = resolve_plan(FinetuneConfig(), sizing("encoder"), data, tuning=True)
    assert tuned.learning_rate == fresh.learning_rate / 4
    assert tuned.max_steps < fresh.max_steps
    assert resolve_plan(FinetuneConfig(epochs=1), sizing("encoder"), data).max_steps == 100


def test_tokens_of_examples_are_those_of_every_text():
    assert n_tokens(examples(50)) == 50 * 20
    text = TokenShards(np.arange(60, dtype=np.uint16), np.array([0, 20, 60]), vocab_size=VOCAB_SIZE)
    assert n_tokens(text) == 60


@pytest.mark.parametrize("family", ["decoder", "encoder", "encoder-decoder"])
def test_a_size_is_taken_as_it_is_and_a_time_buys_one(family):
    data = examples(100)
    wanted = ModelSpec(family=family, size="90k", max_seq_len=32)
    assert (
        choose_model_size(wanted, PretrainConfig(), VOCAB_SIZE, data).config == sizing(family, "90k").config
    )
    bought = choose_model_size(
        ModelSpec(family=family, max_seq_len=32), PretrainConfig(), VOCAB_SIZE, data, seconds=30
    )
    assert bought.config.family == family
    with pytest.raises(UserError, match="no architecture 'gpt9'"):
        choose_model_size(
            ModelSpec(family=family, size="90k", architecture="gpt9"), PretrainConfig(), VOCAB_SIZE, data
        )


def test_a_time_says_how_many_steps_where_nothing_else_does():
    tokenizer = train_tokenizer(iter(["the small bird sings. " * 40]), TokenizerConfig(vocab_size=280))
    splits = Splits(examples(400), examples(40))
    training = FinetuneConfig(task="translate", device="cpu", compile="off", seed=3)
    builder = TaskBuilder("translate", splits, sizing().config, tokenizer, task_settings(training))
    n_built = 0

    def trial():
        nonlocal n_built
        n_built += 1
        return build_model(sizing().config)

    plan = plan_by_timing(10.0, training, sizing(), builder, trial)
    assert n_built == 1
    assert plan.max_steps > N_TIMED_STEPS  # of milliseconds each, and ten seconds are left
    assert plan.most_steps > plan.max_steps  # and more, where they turn out to be faster
    fixed = plan_by_timing(10.0, training.replace(epochs=2), sizing(), builder, trial)
    assert fixed == resolve_plan(training.replace(epochs=2), sizing(), splits.train)
    unhurried = plan_by_timing(None, training, sizing(), builder, trial)
    assert unhurried == resolve_plan(training, sizing(), splits.train)
    assert n_built == 1


@pytest.mark.parametrize(
    ("seconds", "given", "n_rows"),
    [(1000.0, None, 32), (300.0, None, 16), (1.0, None, 8), (1.0, 1024, 32)],
)
def test_a_short_time_is_divided_into_smaller_steps_where_no_batch_is_given(
    seconds: float, given: int | None, n_rows: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(plans, "_time_steps", lambda trainer, seconds: ([1.0], 1.0))
    monkeypatch.setattr(plans, "LEAST_BATCH_TOKENS", 128)
    tokenizer = train_tokenizer(iter(["the small bird sings. " * 40]), TokenizerConfig(vocab_size=280))
    text = TokenShards(np.arange(4000, dtype=np.uint16) % 280, np.array([0, 4000]), vocab_size=280)
    training = PretrainConfig(device="cpu", compile="off", seq_len=32, batch_tokens=given)
    size = dataclasses.replace(config_for_size("80k", VOCAB_SIZE, 32), batch_tokens=1024)
    builder = TaskBuilder("next_token", Splits(text, text), size.config, tokenizer, task_settings(training))
    plan = plan_by_timing(seconds, training, size, builder, lambda: build_model(size.config))
    assert plan.n_rows == n_rows
    assert plan.max_steps == max(1, int(seconds / (plans.STEP_OVERHEAD * n_rows / 32)))


def test_the_time_that_stages_before_took_decides_nothing_that_a_resume_compares():
    def spec(seconds: float, promised: float, **settings: str) -> dict[str, object]:
        budget = TimeBudget(seconds, promised=promised)
        work = Path("work")
        return PretrainJob(work, work, work, PretrainConfig(), ModelSpec(**settings), budget).to_spec()

    assert spec(59.0, 60.0) == spec(58.0, 60.0)
    assert spec(59.0, 60.0) != spec(59.0, 61.0)
    assert spec(59.0, 60.0) != spec(59.0, 60.0, family="encoder")
