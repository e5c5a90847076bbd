"""Parameters and operations from the settings alone, and the size dial."""

from __future__ import annotations

import contextlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.utils.flop_counter import FlopCounterMode

from parakit.common.errors import UserError
from parakit.model import DecoderConfig, LanguageModel, size_dial
from parakit.model.presets import parse_size

configs = st.builds(
    lambda vocab, width, layers, groups, per_group, half, d_ff, tied: DecoderConfig(
        vocab_size=vocab,
        d_model=width,
        n_layers=layers,
        n_heads=groups * per_group,
        n_kv_heads=groups,
        head_dim=2 * half,
        d_ff=d_ff,
        max_seq_len=16,
        tie_embeddings=tied,
    ),
    st.integers(1, 300),
    st.integers(1, 40),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(1, 50),
    st.booleans(),
)


def counted(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@given(configs)
@settings(max_examples=60)
def test_parameters_by_part_are_those_of_the_built_model(config: DecoderConfig) -> None:
    model, counts = LanguageModel(config), config.n_params()
    trunk = model.decoder
    assert counts["total"] == counted(model) == sum(n for part, n in counts.items() if part != "total")
    assert counts["token_embedding"] == counted(trunk.token_embedding)
    assert counts["attention"] == sum(counted(block.attention) for block in trunk.blocks)
    assert counts["feed_forward"] == sum(counted(block.feed_forward) for block in trunk.blocks)
    norms = [trunk.final_norm, *(n for b in trunk.blocks for n in (b.attention_norm, b.feed_forward_norm))]
    assert counts["norms"] == sum(map(counted, norms))
    assert counts["lm_head"] == (0 if config.tie_embeddings else counted(model.lm_head))


def test_published_sizes_come_out_right() -> None:
    qwen3 = DecoderConfig(
        vocab_size=151_936, d_model=1024, n_layers=28, n_heads=16, n_kv_heads=8, head_dim=128, d_ff=3072
    )
    assert qwen3.n_params()["total"] == 596_049_920  # Qwen3-0.6B
    large = DecoderConfig(
        vocab_size=151_936, d_model=4096, n_layers=36, n_heads=32, n_kv_heads=8, head_dim=128, d_ff=12_288,
        tie_embeddings=False,
    )  # fmt: skip
    assert large.n_params()["total"] == 8_190_735_360  # Qwen3-8B


@pytest.mark.parametrize(("n_heads", "n_kv_heads"), [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("seq_len", [1, 8, 33])
def test_operations_are_those_that_torch_counts(n_heads: int, n_kv_heads: int, seq_len: int) -> None:
    config = DecoderConfig(
        vocab_size=50, d_model=24, n_layers=3, n_heads=n_heads, n_kv_heads=n_kv_heads, head_dim=8, d_ff=40,
        max_seq_len=64,
    )  # fmt: skip
    model = LanguageModel(config)
    ids = torch.randint(0, 50, (2, seq_len))
    with (
        FlopCounterMode(display=False) as counter,
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ):
        model(ids)
    # torch counts the whole square of attended positions, we the causal half that is needed
    square = 4 * config.n_layers * n_heads * config.head_dim * seq_len
    ours = config.flops_per_token(seq_len, training=False)
    causal = 4 * config.n_layers * n_heads * config.head_dim * (seq_len + 1) / 2
    assert counter.get_total_flops() == (ours - causal + square) * ids.numel()
    assert config.flops_per_token(seq_len) == 3 * ours


def test_a_shape_that_does_not_fit_together_is_an_error() -> None:
    shape = {
        "vocab_size": 9,
        "d_model": 8,
        "n_layers": 1,
        "n_heads": 4,
        "n_kv_heads": 2,
        "head_dim": 4,
        "d_ff": 8,
    }
    DecoderConfig(**shape)
    for changes, word in (
        ({"n_kv_heads": 3}, "n_kv_heads"),
        ({"head_dim": 5}, "head_dim"),
        ({"dropout": 1.0}, "dropout"),
    ):
        with pytest.raises(ValidationError, match=word):
            DecoderConfig(**shape | changes)


# ---- the size dial

SIZES = [int(1.15**n) for n in range(66, 160)]  # 10 thousand to 4 billion


@pytest.mark.parametrize("vocab_size", [65, 4096, 16_384, 50_257, 151_936])
def test_a_larger_size_never_gives_a_smaller_model_and_all_are_near(vocab_size: int) -> None:
    totals = []
    for size in SIZES:
        if not totals and size < 16 * vocab_size + 4000:  # half of what the narrowest embedding takes
            with pytest.raises(UserError, match="cannot be met"):
                size_dial(size, vocab_size)
            continue
        with contextlib.suppress(UserError) if not totals else contextlib.nullcontext():
            totals.append(size_dial(size, vocab_size).config.n_params()["total"])
        if not totals:
            continue
        if size >= 128 * vocab_size + 1_000_000:  # where the embedding leaves room to choose
            assert abs(totals[-1] / size - 1) <= 0.1, (size, totals[-1])
        assert abs(math.log2(totals[-1] / size)) <= 1
    assert len(totals) > 40
    assert totals == sorted(totals)


@pytest.mark.parametrize("size", ["1m", "5m", "30m", "124m", "1b"])
def test_a_dialled_shape_can_be_built_and_read(size: str) -> None:
    plan = size_dial(size, 4096, max_seq_len=512)
    config = plan.config
    assert config.n_heads * config.head_dim == pytest.approx(config.d_model, rel=0.26)
    assert config.max_seq_len == 512
    assert plan.batch_tokens & (plan.batch_tokens - 1) == 0
    assert f"{config.n_params()['total']:,}" in plan.describe()


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
