"""Defaults for tuning a published model: they follow from its data, and Parakit's own models keep theirs."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from parakit.common import UserError
from parakit.model.presets import config_for_size, default_hyperparameters
from parakit.stages.config import FinetuneConfig, LoraFinetuneConfig, PretrainConfig
from parakit.stages.defaults.published import is_published, tuning_config, tuning_sizing
from parakit.stages.finetune_methods import adjust_sizing
from parakit.stages.plans import resolve_plan
from parakit.stages.tasks import first_documents
from parakit.tokens.shards import TokenShards
from parakit.training import precision

WINDOW = 2048
CONFIG = config_for_size("200k", 300, WINDOW).config


@pytest.fixture
def published(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def write_lineage(folder, kind="model", parents=(), **config):
    folder.mkdir(exist_ok=True)
    lineage = {
        "kind": kind,
        "digest": "0",
        "config": config,
        "parents": [{"kind": "model", "digest": "0", "path": str(path)} for path in parents],
    }
    (folder / "lineage.json").write_text(json.dumps(lineage))
    return folder


def shards(lengths, conversations=True):
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    n = int(offsets[-1])
    mask = np.ones(n, np.uint8) if conversations else None
    return TokenShards(np.arange(n, dtype=np.uint16) % 300, offsets, vocab_size=300, loss_mask=mask)


def plan_for(folder, data, **settings):
    training = tuning_config(folder, FinetuneConfig(device="cpu", **settings))
    return resolve_plan(training, tuning_sizing(folder, CONFIG), data, tuning=True)


def test_a_model_is_published_if_it_came_from_elsewhere_or_was_tuned_from_one_that_did(tmp_path, published):
    own = write_lineage(tmp_path / "own", stage="pretrain")
    imported = write_lineage(tmp_path / "imported", stage="import")
    assert is_published(published)
    assert is_published(imported)
    assert is_published(write_lineage(tmp_path / "tuned", parents=[imported], stage="finetune"))
    moved = write_lineage(tmp_path / "moved", parents=[tmp_path / "gone"], stage="finetune", published=True)
    assert is_published(moved)
    assert not is_published(own)
    assert not is_published(write_lineage(tmp_path / "own2", parents=[own], stage="finetune"))
    assert not is_published(write_lineage(tmp_path / "own3", parents=[own], stage="import"))
    assert not is_published(write_lineage(tmp_path / "data", kind="shards"))


def test_forty_conversations_are_enough_without_any_setting(published):
    data = shards([60] * 38 + [140, 150])
    plan = plan_for(published, data)
    assert plan.optimizer == "adamw"
    assert plan.seq_len == 160  # the longest, of so few
    assert plan.n_rows * plan.seq_len <= data.n_tokens / 8 + plan.seq_len
    assert plan.max_steps > 8
    assert plan.warmup_steps == round(plan.max_steps / 10)
    assert plan_for(published, data, warmup_steps=3).warmup_steps == 3


def test_rows_are_as_long_as_all_but_one_conversation_in_a_hundred(published):
    plan = plan_for(published, shards([64] * 990 + [WINDOW] * 5))
    assert plan.seq_len == 64
    assert plan_for(published, shards([64] * 100 + [5 * WINDOW] * 5)).seq_len == WINDOW
    assert plan_for(published, shards([64] * 1000), batch_tokens=48).seq_len == 48
    assert plan_for(published, shards([64] * 1000), seq_len=512).seq_len == 512


def test_a_text_is_cut_into_enough_rows(published):
    book = shards([64 * 300], conversations=False)
    plan = plan_for(published, book)
    assert 32 <= plan.seq_len <= 320
    assert plan_for(published, shards([50] * 400, conversations=False)).seq_len == 64


def test_own_models_keep_their_defaults(tmp_path):
    own, data = write_lineage(tmp_path / "own", stage="pretrain"), shards([60] * 4000)
    plain = resolve_plan(FinetuneConfig(device="cpu"), default_hyperparameters(CONFIG), data, tuning=True)
    assert plan_for(own, data) == plain
    assert plain.optimizer == "muon"
    assert plain.seq_len == WINDOW


def test_what_is_given_is_taken(published):
    assert tuning_config(published, FinetuneConfig(optimizer="muon")).optimizer == "muon"
    assert tuning_config(published, FinetuneConfig(momentum=0.9)).optimizer == "muon"
    assert tuning_config(published, PretrainConfig()).optimizer == "adamw"
    assert plan_for(published, shards([60] * 100), learning_rate=0.5).learning_rate == 0.5
    sizing = tuning_sizing(published, CONFIG)
    assert adjust_sizing(sizing, LoraFinetuneConfig()).learning_rate > 5 * sizing.learning_rate


@pytest.mark.parametrize("settings", [{}, {"seq_len": 512}, {"batch_tokens": 4096}, {"seq_len": 64}])
@pytest.mark.parametrize("n_tokens", [20, 300, 1500])
def test_advice_for_a_small_set_helps(tmp_path, settings, n_tokens):
    """Whatever the settings were: what the error names makes the same command work."""
    own, data = write_lineage(tmp_path / "own", stage="pretrain"), shards([10] * (n_tokens // 10))
    try:
        plan_for(own, data, **settings)
    except UserError as error:
        advised = {name: int(value) for name, value in re.findall(r"(\w+) to (\d+)", error.hint)}
        assert advised
        assert plan_for(own, data, **settings | advised).n_rows >= 1
    else:
        assert settings == {"seq_len": 64}
        assert n_tokens == 1500


def test_validation_takes_no_longer_than_training(published):
    small, large = shards([60] * 100), shards([60] * 10_000)
    assert plan_for(published, small).validation_tokens == 2048
    plan = plan_for(published, large)
    assert plan.validation_tokens == round(plan.n_tokens() / 10)
    assert plan_for(published, large, validate_every=7).validate_every == 7
    assert plan.max_steps / plan.validate_every <= 4
    part = first_documents(large, 1000)
    assert part.n_documents == 17
    assert part.n_counted == 17 * 59
    assert first_documents(small, None) is small
    silent = shards([60] * 20)
    mask = silent.loss_mask.copy()
    mask[:600] = 0
    assert first_documents(replace(silent, loss_mask=mask), 100).n_documents == 11


@pytest.mark.parametrize(("gain", "chosen"), [(3.0, "bfloat16"), (1.2, "float32"), (0.2, "float32")])
def test_the_precision_is_what_this_cpu_multiplies_faster_in(published, monkeypatch, gain, chosen):
    seconds = {torch.float32: gain, torch.bfloat16: 1.0}
    monkeypatch.setattr(precision, "product_seconds", lambda d_model, d_ff, dtype: seconds[dtype])
    assert plan_for(published, shards([60] * 100)).precision == chosen
    assert plan_for(published, shards([60] * 100), precision="float32").precision == "float32"


def test_the_precision_is_timed_on_this_processor():
    assert precision.faster_precision(CONFIG.d_model, CONFIG.d_ff) in ("float32", "bfloat16")
