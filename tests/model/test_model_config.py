"""Shapes that cannot be: an error that names the fields and their values, before anything is built."""

from __future__ import annotations

from typing import Any

import pytest

from parakit.common.errors import UserError
from parakit.model import DecoderConfig, EncoderConfig, EncoderDecoderConfig
from parakit.model.config import ClassifierConfig, model_config
from parakit.model.transformer_config import TransformerConfig
from tests.model.formulas import PLAIN, SIZES, config_of, encoder_of, joined_of

D, E = DecoderConfig, EncoderConfig
CONTRADICTIONS: list[tuple[type[TransformerConfig], dict[str, Any], list[str]]] = [
    (D, {"n_heads": 4, "n_kv_heads": 3}, ["n_heads = 4", "n_kv_heads = 3"]),
    (D, {"head_dim": 5}, ["head_dim = 5", "rotary"]),
    (E, {"positions": "sinusoidal", "d_model": 15}, ["d_model = 15", "sinusoidal"]),
    (D, {"norm": "rms", "norm_bias": True}, ["norm_bias = True", "norm = 'rms'"]),
    (D, {"n_experts": 2, "n_active_experts": 3}, ["n_active_experts = 3", "n_experts = 2"]),
    (D, {"n_experts": 2, "feed_forward_bias": True}, ["feed_forward_bias = True", "n_experts = 2"]),
    (D, {"n_shared_experts": 1}, ["n_shared_experts = 1", "n_experts = 0"]),
    (D, {"sliding_window": 3, "local_layers": (0, 2)}, ["local_layers", "layer 2", "n_layers = 2"]),
    (D, {"sliding_window": 3, "local_layers": (-1,)}, ["local_layers", "layer -1"]),
    (D, {"n_experts": 2, "dense_layers": (9,)}, ["dense_layers", "layer 9", "n_layers = 2"]),
    (D, {"attention": "low_rank"}, ["attention = 'low_rank'", "causal"]),
    (E, {"attention": "linear", "positions": "relative"}, ["attention = 'linear'", "relative"]),
    (E, {"attention": "low_rank", "positions": "relative"}, ["attention = 'low_rank'", "relative"]),
    (D, {"attention": "linear", "sliding_window": 3}, ["sliding_window = 3", "attention = 'linear'"]),
    (E, {"attention": "low_rank", "sliding_window": 3}, ["sliding_window = 3", "attention = 'low_rank'"]),
    (D, {"attention": "linear", "attention_soft_cap": 2.0}, ["attention_soft_cap = 2.0", "linear"]),
    (D, {"attention": "linear", "attention_scale": 1.0}, ["attention_scale = 1.0", "linear"]),
    (D, {"attention": "linear", "attention_dropout": 0.1}, ["attention_dropout = 0.1", "linear"]),
    (D, {"positions": "relative", "n_relative_buckets": 8, "max_relative_distance": 4},
     ["n_relative_buckets = 8", "max_relative_distance = 4"]),
    (E, {"positions": "relative", "n_relative_buckets": 2}, ["n_relative_buckets = 2", "4"]),
    (D, {"rope_scaling": {"kind": "ntk", "factor": 2}, "head_dim": 2}, ["ntk", "head_dim = 2"]),
    (D, {"activation": "swish"}, ["activation", "swish", "silu"]),
    (D, {"positions": "alibi"}, ["positions", "alibi", "rotary"]),
    (D, {"attention": "sparse"}, ["attention", "sparse", "softmax"]),
    (D, {"norm": "batch"}, ["norm", "batch", "layer"]),
    (D, {"dropout": 1.0}, ["dropout", "1.0"]),
    (D, {"n_layers": 0}, ["n_layers", "0"]),
    (D, {"sliding_window": 0}, ["sliding_window", "0"]),
    (D, {"n_head": 4}, ["n_head", "did you mean `n_heads`"]),
]  # fmt: skip


@pytest.mark.parametrize(("family", "changes", "words"), CONTRADICTIONS, ids=lambda x: str(x)[:60])
def test_what_contradicts_itself_is_an_error_naming_fields_and_values(
    family: type[TransformerConfig], changes: dict[str, Any], words: list[str]
) -> None:
    family.parse(SIZES)
    with pytest.raises(UserError) as error:
        family.parse(SIZES | changes, "config.json")
    assert str(error.value).startswith("config.json")
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("missing", sorted(set(SIZES) - {"max_seq_len"}))
def test_a_missing_size_is_an_error_naming_it(missing: str) -> None:
    with pytest.raises(UserError, match=f"`{missing}`: Field required"):
        DecoderConfig.parse({name: n for name, n in SIZES.items() if name != missing})


def test_two_sides_that_do_not_meet_are_an_error_naming_both() -> None:
    encoder, decoder = encoder_of(**PLAIN), config_of()
    for side, changes, words in (
        ("encoder", {"vocab_size": 60}, ["vocab_size", "60", "61"]),
        ("encoder", {"d_model": 18}, ["d_model", "18", "16"]),
        ("decoder", {"embedding_scale": 2.0}, ["embedding_scale", "2.0", "1.0"]),
        ("decoder_start_id", 61, ["decoder_start_id = 61", "vocab_size = 61"]),
    ):
        sides: dict[str, Any] = {"encoder": encoder, "decoder": decoder}
        sides[side] = sides[side].replace(**changes) if isinstance(changes, dict) else changes
        with pytest.raises(UserError) as error:
            EncoderDecoderConfig.parse(sides)
        assert all(word in str(error.value) for word in words)


def test_the_encoder_and_decoder_of_one_model_may_differ_in_all_else() -> None:
    config = EncoderDecoderConfig(
        encoder=encoder_of(n_layers=3, d_ff=12, positions="sinusoidal", **PLAIN),
        decoder=config_of(n_heads=2, head_dim=8, max_seq_len=20),
    )
    assert config.n_layers == 5
    assert config.max_seq_len == 20
    assert config.vocab_size == 61


@pytest.mark.parametrize("config", [config_of(n_experts=2), encoder_of(sliding_window=4), joined_of()])
def test_a_config_comes_back_from_its_values(config: Any) -> None:
    assert model_config(config.family, config.model_dump()) == config


def test_a_family_that_does_not_exist_is_an_error_that_lists_them() -> None:
    with pytest.raises(UserError, match="'seq2seq'") as error:
        model_config("seq2seq", {})
    assert "encoder-decoder" in str(error.value)


def test_a_classifier_without_labels_is_an_error() -> None:
    with pytest.raises(UserError, match="labels"):
        ClassifierConfig.parse({"labels": ()})
    with pytest.raises(UserError, match="level"):
        ClassifierConfig.parse({"labels": ("a",), "level": "word"})
