"""Choices of a recipe's `model` change what they name, and neither the size nor the width and depth."""

from __future__ import annotations

from typing import Any

import pytest

from parakit.common import UserError
from parakit.model.config import EncoderDecoderConfig
from parakit.model.model_choices import ELSEWHERE, ModelChoices
from parakit.model.presets import config_for_size, config_of_shape
from parakit.model.transformer_config import TransformerConfig

SIZE, VOCAB, CONTEXT = "500k", 512, 64


def config_with(family: str = "decoder", **choices: Any) -> Any:
    return config_for_size(SIZE, VOCAB, CONTEXT, family, None, ModelChoices.of(choices)).config


@pytest.mark.parametrize(
    "choices",
    [
        {"positions": "learned"},
        {"positions": "none"},
        {"norm": "layer", "norm_bias": True},
        {"post_norm": True, "final_norm": False},
        {"gated": False, "activation": "relu"},
        {"n_kv_heads": 1},
        {"n_heads": 8},
        {"head_dim": 16},
        {"sliding_window": 16},
        {"tie_embeddings": False},
        {"n_experts": 4},
        {"attention": "linear"},
    ],
    ids=str,
)
def test_a_choice_is_taken_and_the_size_stays(choices: dict[str, Any]) -> None:
    plain, changed = config_with(), config_with(**choices)
    assert {name: getattr(changed, name) for name in choices} == choices
    assert (changed.d_model, changed.n_layers) == (plain.d_model, plain.n_layers)
    assert changed.n_active_params() == pytest.approx(plain.n_params()["total"], rel=0.01)


def test_without_choices_the_config_is_that_of_the_size() -> None:
    assert config_with() == config_for_size(SIZE, VOCAB, CONTEXT).config


def test_width_and_depth_are_choices_and_the_rest_of_the_shape_follows() -> None:
    deep = config_with(n_layers=8)
    narrow = config_with(d_model=64, n_layers=6)
    assert deep.n_layers == 8
    assert (narrow.d_model, narrow.n_layers) == (64, 6)
    for config in (deep, narrow, config_with(d_model=128)):
        assert config.n_params()["total"] == pytest.approx(500_000, rel=0.02)


def test_a_whole_shape_needs_no_size() -> None:
    choices = ModelChoices.of({"d_model": 48, "n_layers": 3, "d_ff": 100, "n_heads": 4})
    config = config_of_shape(choices, VOCAB, CONTEXT).config
    assert isinstance(config, TransformerConfig)
    assert (config.d_model, config.n_layers, config.d_ff, config.n_heads, config.head_dim) == (
        48,
        3,
        100,
        4,
        12,
    )
    assert choices.fix_size
    assert not ModelChoices.of({"d_model": 48}).fix_size


def test_both_stacks_of_an_encoder_decoder_have_the_choice() -> None:
    config = config_with("encoder-decoder", positions="rotary")
    assert isinstance(config, EncoderDecoderConfig)
    assert (config.encoder.positions, config.decoder.positions) == ("rotary", "rotary")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"postions": "learned"}, "unknown key `postions`\n  did you mean `positions`?"),
        ({"positions": "rotery"}, "'rotary', 'learned', 'sinusoidal'"),
        ({"n_heads": 7}, "`model.n_heads` = 7 does not divide the width 96"),
        ({"attention": "low_rank"}, "which a causal stack must not do"),
        ({"vocab_size": 300}, "set `tokenizer.vocab_size`"),
        ({"dropout": 0.1}, "set `pretrain.dropout`"),
        ({"norm_eps": -1.0}, "greater than 0"),
        ({"d_embedding": 16, "factorized_embedding": True}, "set model.head_transform to true"),
    ],
    ids=str,
)
def test_a_choice_that_is_none_is_refused_with_the_way_out(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        config_with(**choices)
    assert message in str(refusal.value)


def test_every_setting_of_a_stack_is_a_choice_or_is_set_elsewhere() -> None:
    assert ModelChoices.model_fields.keys() | ELSEWHERE.keys() == TransformerConfig.model_fields.keys()


def test_what_is_not_chosen_is_not_written() -> None:
    choices = ModelChoices.of({"positions": "none", "sliding_window": None})
    assert choices.model_dump(mode="json") == {"positions": "none"}
    assert ModelChoices.of(choices.model_dump()).chosen() == choices.chosen()
