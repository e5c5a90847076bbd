"""Every kind of position against its published formula, and the scalings of rotary ones against transformers'."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from parakit.model import LanguageModel, MaskedLanguageModel
from parakit.model.layers.positions import (
    LearnedPositions,
    RelativePositions,
    RotaryPositions,
    SinusoidalPositions,
    rotary_frequencies,
    rotate,
)
from parakit.model.transformer_config import RopeScaling
from tests.model.formulas import bucket, config_of, encoder_of, random_weights, rotated, sinusoids


def test_rotary_positions_turn_pairs_by_their_angle() -> None:
    table = RotaryPositions(8, 40, 500.0)
    x, at = torch.randn(1, 1, 6, 8, dtype=torch.float64), torch.tensor([[0, 1, 5, 17, 39, 2]])
    cos, sin = table(at)
    got = rotate(x, cos.double(), sin.double())[0, 0]
    np.testing.assert_allclose(got.numpy(), rotated(x[0, 0].numpy(), at[0].numpy(), 500.0), atol=1e-6)


def test_rotary_products_depend_on_the_distance_alone() -> None:
    table = RotaryPositions(8, 64, 10_000.0)
    query, key = torch.randn(2, 1, 1, 1, 8)

    def product(i: int, j: int) -> float:
        at_i, at_j = table(torch.tensor([[i]])), table(torch.tensor([[j]]))
        return float((rotate(query, *at_i) * rotate(key, *at_j)).sum())

    assert product(3, 1) == pytest.approx(product(60, 58), abs=1e-5)
    assert abs(product(3, 1) - product(3, 2)) > 1e-3


def test_rotary_tables_keep_positions_apart_in_half_precision() -> None:
    model = LanguageModel(config_of(max_seq_len=600)).to(torch.bfloat16)
    cos, _ = model.trunk.positions(torch.tensor([[300, 301]]))
    assert not torch.equal(cos[..., 0, :], cos[..., 1, :])


def test_sinusoidal_positions_keep_apart_in_half_precision() -> None:
    model = LanguageModel(config_of(max_seq_len=600, positions="sinusoidal")).to(torch.bfloat16)
    vectors = model.trunk.positions(torch.arange(600))
    assert len(vectors.unique(dim=0)) == 600


SCALINGS: dict[str, tuple[RopeScaling, dict[str, Any]]] = {
    "linear": (RopeScaling(kind="linear", factor=4.0), {"rope_type": "linear", "factor": 4.0}),
    "llama3": (
        RopeScaling(kind="llama3", factor=8.0, original_max_seq_len=128),
        {
            "rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 128,
            "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        },
    ),
    "yarn": (
        RopeScaling(kind="yarn", factor=4.0, original_max_seq_len=128),
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
    ),
    "yarn, all message": (
        RopeScaling(
            kind="yarn", factor=3.0, original_max_seq_len=256, beta_fast=20, beta_slow=2, attention_factor=1.3
        ),
        {
            "rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": 256, "beta_fast": 20,
            "beta_slow": 2, "attention_factor": 1.3,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize(("head_dim", "theta"), [(16, 10_000.0), (64, 500_000.0)])
def test_scaled_rotary_frequencies_are_those_of_transformers(name: str, head_dim: int, theta: float) -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaling, hf_config = SCALINGS[name]
    config = LlamaConfig(
        hidden_size=4 * head_dim, num_attention_heads=4, head_dim=head_dim, max_position_embeddings=1024,
        rope_parameters=hf_config | {"rope_theta": theta},
    )  # fmt: skip
    wanted, wanted_factor = ROPE_INIT_FUNCTIONS[hf_config["rope_type"]](config, torch.device("cpu"))
    got, factor = rotary_frequencies(head_dim, theta, scaling)
    torch.testing.assert_close(got.float(), wanted, rtol=1e-6, atol=0)
    assert factor == pytest.approx(wanted_factor, rel=1e-12)


def test_the_factor_of_yarn_multiplies_cos_and_sin() -> None:
    table = RotaryPositions(8, 16, 10_000.0, RopeScaling(kind="yarn", factor=4.0, original_max_seq_len=4))
    cos, sin = table(torch.tensor([0, 3]))
    assert cos[0].tolist() == pytest.approx([0.1 * math.log(4) + 1] * 8, rel=1e-6)
    torch.testing.assert_close(cos**2 + sin**2, torch.full_like(cos, (0.1 * math.log(4) + 1) ** 2))


@pytest.mark.parametrize("factor", [1.0, 2.0, 8.0])
def test_ntk_scales_the_slowest_pair_by_the_factor_and_leaves_the_fastest(factor: float) -> None:
    """The rule behind the base theta * factor^(D / (D - 2)): bloc97 2023, and Peng et al. 2023, eq. 16."""
    plain, _ = rotary_frequencies(16, 10_000.0, None)
    got, scale = rotary_frequencies(16, 10_000.0, RopeScaling(kind="ntk", factor=factor))
    assert scale == 1.0
    assert float(got[0]) == float(plain[0]) == 1.0
    assert float(plain[-1] / got[-1]) == pytest.approx(factor, rel=1e-12)
    base = 10_000.0 * factor ** (16 / 14)
    np.testing.assert_allclose(got.numpy(), base ** (-np.arange(0, 16, 2) / 16), rtol=1e-12)


def test_sinusoidal_positions_are_their_formula() -> None:
    got = SinusoidalPositions(300, 12)(torch.tensor([0, 1, 7, 299]))
    np.testing.assert_allclose(got.numpy(), sinusoids(np.array([0, 1, 7, 299]), 12), atol=1e-7)


def test_learned_positions_are_rows_behind_the_offset() -> None:
    table = random_weights(LearnedPositions(5, 4, offset=2))
    assert table.weight.shape == (7, 4)
    assert torch.equal(table(torch.tensor([[0, 4]])), table.weight[[2, 6]][None])


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("n_buckets", "max_distance"), [(32, 128), (8, 20), (6, 7)])
def test_relative_buckets_are_those_of_t5(causal: bool, n_buckets: int, max_distance: int) -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    config = config_of(positions="relative", n_relative_buckets=n_buckets, max_relative_distance=max_distance)
    offsets = torch.arange(-300, 301)
    got = RelativePositions(config, causal).buckets(offsets)
    wanted = T5Attention._relative_position_bucket(offsets, not causal, n_buckets, max_distance)
    assert torch.equal(got, wanted)
    assert got.min() >= 0
    assert got.max() < n_buckets
    assert got.tolist() == [bucket(o, n_buckets, max_distance, causal) for o in offsets.tolist()]


def test_relative_positions_add_one_number_a_head_and_bucket() -> None:
    layer = random_weights(RelativePositions(encoder_of(positions="relative"), causal=False))
    bias = layer(torch.arange(3), 5)
    assert bias.shape == (1, 4, 3, 5)
    assert torch.equal(bias[0, :, 2, 4], layer.bias.weight[bucket(2, 32, 128, causal=False)])
    ragged = layer(torch.tensor([[3], [1]]), 5)  # the next token of two rows, of unequal length
    assert ragged.shape == (2, 4, 1, 5)
    assert torch.equal(ragged[1, :, 0, 4], layer.bias.weight[bucket(3, 32, 128, causal=False)])


def test_local_layers_turn_by_their_own_base() -> None:
    config = config_of(sliding_window=4, local_layers=(1,), local_rope_theta=77.0)
    trunk = LanguageModel(config).trunk
    full, local, none = trunk._rotations(torch.arange(6))
    assert torch.equal(full[0], RotaryPositions(6, 32, 10_000.0)(torch.arange(6))[0])
    assert torch.equal(local[0], RotaryPositions(6, 32, 77.0)(torch.arange(6))[0])
    assert none is None


IDS = [5, 60, 0, 17, 42, 3]
TURNED = [3, 0, 4, 1, 5, 2]


def encoded(positions: str, ids: list[int], **changes: Any) -> torch.Tensor:
    with torch.no_grad():
        model = random_weights(MaskedLanguageModel(encoder_of(positions=positions, **changes))).double()
        return model(torch.tensor([ids]))[0]


@pytest.mark.parametrize("changes", [{}, {"attention": "linear"}, {"n_experts": 4}], ids=str)
def test_without_positions_a_permuted_text_gives_permuted_outputs(changes: dict[str, Any]) -> None:
    straight = encoded("none", IDS, **changes)
    permuted = encoded("none", [IDS[i] for i in TURNED], **changes)
    assert (straight[TURNED] - permuted).abs().max() < 1e-12


@pytest.mark.parametrize("positions", ["rotary", "learned", "sinusoidal", "relative"])
def test_with_positions_the_order_matters(positions: str) -> None:
    straight, permuted = encoded(positions, IDS), encoded(positions, [IDS[i] for i in TURNED])
    assert (straight[TURNED] - permuted).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"kind": "yarn", "factor": 2}, ["yarn", "original_max_seq_len"]),
        ({"kind": "llama3", "factor": 2}, ["llama3", "original_max_seq_len"]),
        ({"kind": "linear", "factor": 0.5}, ["factor"]),
        ({"kind": "dynamic", "factor": 2}, ["kind"]),
        (
            {"kind": "llama3", "factor": 2, "original_max_seq_len": 9, "low_freq_factor": 4.0},
            ["high_freq_factor = 4.0", "low_freq_factor = 4.0"],
        ),
        (
            {"kind": "yarn", "factor": 2, "original_max_seq_len": 9, "beta_fast": 1, "beta_slow": 2},
            ["beta_fast = 1.0", "beta_slow = 2.0"],
        ),
    ],
    ids=str,
)
def test_an_impossible_scaling_is_an_error(wrong: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValidationError) as error:
        RopeScaling(**wrong)
    assert all(word in str(error.value) for word in words)
