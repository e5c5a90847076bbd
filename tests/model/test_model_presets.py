"""Configs by size: close to the requested size, of the requested architecture."""

from __future__ import annotations

import contextlib
import math

import pytest
import torch

from parakit.common.errors import UserError
from parakit.model import DecoderConfig, EncoderConfig, EncoderDecoderConfig, config_for_size
from parakit.model.presets import ARCHITECTURES, parse_size
from tests.model.test_model_counts import MODELS, check_counts

SIZES = [int(1.3**n) for n in range(35, 85)]  # 10 thousand to 4 billion
FAMILIES = {name: family for name, (family, _) in ARCHITECTURES.items()}


def check_sizes(vocab_size: int, sizes: list[int], family: str, architecture: str | None) -> None:
    totals: list[int] = []
    for size in sizes:
        if not totals and size < 16 * vocab_size + 4000:  # half of what the narrowest embedding takes
            with pytest.raises(UserError, match="cannot be met"):
                config_for_size(size, vocab_size, family=family, architecture=architecture)
            continue
        with contextlib.suppress(UserError) if not totals else contextlib.nullcontext():
            plan = config_for_size(size, vocab_size, family=family, architecture=architecture)
            totals.append(plan.config.n_params()["total"])
        if not totals:
            continue
        if size >= 128 * vocab_size + 1_000_000:  # where the embedding leaves room to choose
            assert abs(totals[-1] / size - 1) <= 0.1, (size, totals[-1])
        assert abs(math.log2(totals[-1] / size)) <= 1
    assert len(totals) > len(sizes) / 2.4
    assert totals == sorted(totals)


@pytest.mark.parametrize("vocab_size", [65, 4096, 16_384, 50_257, 151_936])
def test_a_larger_size_never_gives_a_smaller_model_and_all_are_near(vocab_size: int) -> None:
    check_sizes(vocab_size, SIZES, "decoder", None)


@pytest.mark.parametrize("architecture", sorted(set(FAMILIES) - {"qwen3"}))
def test_that_holds_for_every_architecture(architecture: str) -> None:
    check_sizes(4096, SIZES[::3], FAMILIES[architecture], architecture)


@pytest.mark.parametrize("size", ["1m", "5m", "30m", "124m", "1b"])
def test_a_config_by_size_can_be_built_and_described(size: str) -> None:
    plan = config_for_size(size, 4096, max_seq_len=512)
    config = plan.config
    assert isinstance(config, DecoderConfig)
    assert config.n_heads * config.head_dim == pytest.approx(config.d_model, rel=0.26)
    assert config.max_seq_len == 512
    assert plan.batch_tokens & (plan.batch_tokens - 1) == 0
    assert f"{config.n_params()['total']:,}" in plan.describe()


@pytest.mark.parametrize(
    ("size", "vocab_size", "shape"),
    [
        ("500k", 65, (96, 4, 3, 3, 32, 256, True)),
        ("5m", 4096, (224, 6, 7, 7, 32, 608, True)),
        ("30m", 4096, (512, 9, 8, 4, 64, 1376, True)),
        ("124m", 16_384, (896, 13, 14, 7, 64, 2400, True)),
        ("1b", 50_257, (1984, 21, 16, 8, 128, 5280, True)),
    ],
)
def test_the_decoders_shapes_stay_as_they_were(
    size: str, vocab_size: int, shape: tuple[int | bool, ...]
) -> None:
    d_model, n_layers, n_heads, n_kv_heads, head_dim, d_ff, tied = shape
    wanted = DecoderConfig(
        vocab_size=vocab_size, d_model=d_model, n_layers=n_layers, n_heads=n_heads, n_kv_heads=n_kv_heads,
        head_dim=head_dim, d_ff=d_ff, max_seq_len=256, tie_embeddings=tied,
    )  # fmt: skip
    plan = config_for_size(size, vocab_size)
    assert plan.config == wanted
    assert (plan.learning_rate, plan.embedding_learning_rate) == (0.02, 0.004)


@pytest.mark.parametrize("architecture", sorted(FAMILIES))
@pytest.mark.parametrize("size", ["1m", "3m", "124m", "800m"])
def test_every_architecture_by_size_counts_right_and_divides_its_width(architecture: str, size: str) -> None:
    plan = config_for_size(size, 4096, 512, FAMILIES[architecture], architecture)
    check_counts(plan.config)
    assert f"{plan.config.n_params()['total']:,}" in plan.describe()
    side = plan.config.decoder if isinstance(plan.config, EncoderDecoderConfig) else plan.config
    if architecture != "qwen3":
        assert side.n_heads * side.head_dim == side.d_model
        assert side.n_kv_heads == side.n_heads


@pytest.mark.parametrize("architecture", sorted(FAMILIES))
def test_a_small_model_of_every_architecture_runs(architecture: str) -> None:
    config = config_for_size("300k", 300, 64, FAMILIES[architecture], architecture).config
    model, ids = MODELS[config.family](config), torch.randint(0, 300, (2, 64))
    logits = model(ids, ids) if config.family == "encoder-decoder" else model(ids)
    assert logits.shape == (2, 64, 300)
    logits.square().mean().backward()


def test_each_family_has_its_default() -> None:
    for family, architecture in (("decoder", "qwen3"), ("encoder", "modernbert"), ("encoder-decoder", "t5")):
        assert config_for_size("3m", 4096, 256, family) == config_for_size(
            "3m", 4096, 256, family, architecture
        )


def test_an_encoder_is_shaped_as_modernbert() -> None:
    long, short = (config_for_size("20m", 4096, n, "encoder").config for n in (1024, 128))
    assert isinstance(long, EncoderConfig)
    assert long.sliding_window == 128
    assert [long.is_local(layer) for layer in range(6)] == [False, True, True, False, True, True]
    assert (long.rope_theta, long.local_rope_theta) == (160_000, 10_000)
    assert isinstance(short, EncoderConfig)
    assert not any(short.is_local(layer) for layer in range(short.n_layers))
    assert (short.rope_theta, short.local_rope_theta) == (10_000, None)
    assert long.gated
    assert long.activation == "gelu"


def test_an_encoder_decoder_is_shaped_as_t5() -> None:
    for size in ("20m", "3b"):
        config = config_for_size(size, 4096, 256, "encoder-decoder").config
        assert isinstance(config, EncoderDecoderConfig)
        assert not config.decoder.tie_embeddings
        assert config.decoder.logit_scale == 1.0
        for side in (config.encoder, config.decoder):
            assert side.positions == "relative"
            assert side.attention_scale == 1.0
            assert (side.norm, side.norm_bias, side.activation, side.gated) == (
                "rms",
                False,
                "gelu_tanh",
                True,
            )
            assert not any((side.query_key_norm, side.embedding_norm, side.attention_bias))


def test_the_transformer_of_2017_is_as_it_was() -> None:
    config = config_for_size("20m", 4096, 256, "encoder-decoder", "2017").config
    assert isinstance(config, EncoderDecoderConfig)
    for side in (config.encoder, config.decoder):
        assert (side.positions, side.post_norm, side.final_norm) == ("sinusoidal", True, False)
        assert (side.norm, side.norm_bias, side.activation, side.gated) == ("layer", True, "relu", False)
        assert side.d_ff == 4 * side.d_model
        assert side.embedding_scale == side.d_model**0.5
    assert config.decoder.lm_head_bias
    assert config.decoder.tie_embeddings


@pytest.mark.parametrize(
    ("family", "architecture", "words"),
    [
        ("decoder", "t5", ["'t5'", "'encoder-decoder'", "'decoder'", "qwen3"]),
        ("encoder", "2017", ["'2017'", "'encoder-decoder'", "modernbert or bert"]),
        ("encodr", None, ["no family 'encodr'", "did you mean 'encoder'"]),
        ("encoder", "modernbertt", ["no architecture 'modernbertt'", "did you mean 'modernbert'"]),
        ("encoder", "x", ["no architecture 'x'", "qwen3, modernbert, bert, t5, 2017"]),
    ],
)
def test_a_family_and_an_architecture_that_do_not_meet_are_an_error(
    family: str, architecture: str | None, words: list[str]
) -> None:
    with pytest.raises(UserError) as error:
        config_for_size("5m", 4096, 256, family, architecture)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("text", "value"),
    [("5m", 5_000_000), ("1.5B", 1_500_000_000), (" 800k ", 800_000), (70_000, 70_000), ("12", 12)],
)
def test_sizes_as_people_write_them(text: str | int, value: int) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize("text", ["", "big", "-5m", "5mm", "0", "m", "1e6", "5 000"])
def test_what_is_no_size_is_an_error_that_shows_one(text: str) -> None:
    with pytest.raises(UserError, match="--size 5m"):
        parse_size(text)
