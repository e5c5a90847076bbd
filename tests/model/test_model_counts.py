"""Parameters and operations from the settings alone, against the built model and against what torch counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from parakit.model import DecoderConfig, LanguageModel, MaskedLanguageModel, SequenceToSequence
from parakit.model.config import EncoderDecoderConfig, ModelConfig
from parakit.model.counts import _mean_attended
from parakit.model.layers.masks import causal_mask, narrow_mask
from tests.model.formulas import config_of, encoder_of, joined_of
from tests.model.test_model_references import choices_of
from tests.short_suite import examples

pytestmark = pytest.mark.usefixtures("without_kernels")  # the counter sees PyTorch's own operations only

MODELS: dict[str, Any] = {
    "decoder": LanguageModel,
    "encoder": MaskedLanguageModel,
    "encoder-decoder": SequenceToSequence,
}


def counted(*modules: torch.nn.Module | None) -> int:
    return sum(p.numel() for module in modules if module is not None for p in module.parameters())


def parts_of(stack: Any) -> dict[str, int]:
    """What stands in a built stack, but for its token embedding."""
    blocks = list(stack.blocks)
    norms = [stack.embedding_norm, stack.final_norm]
    norms += [m for b in blocks for name, m in b.named_children() if name.endswith("_norm")]
    parts = {
        "position_embedding": counted(stack.positions),
        "attention": counted(*(b.attention for b in blocks)),
        "cross_attention": counted(*(b.cross_attention for b in blocks)),
        "feed_forward": counted(*(b.feed_forward for b in blocks)),
        "norms": counted(*norms),
    }
    return {name: n for name, n in parts.items() if n}


def check_counts(config: ModelConfig, device: str = "meta") -> None:
    """By part and in total; on "meta" without touching memory."""
    with torch.device(device):
        model = MODELS[config.family](config)
    found, trunk = config.n_params(), model.trunk
    head = counted(model.transform) + sum(
        p.numel()
        for name, p in model.lm_head.named_parameters()
        if name == "bias" or not config.tie_embeddings
    )
    if isinstance(config, EncoderDecoderConfig):
        types = counted(trunk.encoder.type_embedding, trunk.decoder.type_embedding)
        wanted = {
            f"{side}_{name}": n
            for side in ("encoder", "decoder")
            for name, n in parts_of(getattr(trunk, side)).items()
        }
    else:
        types, wanted = counted(trunk.type_embedding), parts_of(trunk)
    wanted |= {"token_embedding": counted(trunk.token_embedding) + types, "lm_head": head}
    assert found == wanted | {"total": counted(model)}
    assert sum(n for part, n in found.items() if part != "total") == found["total"]
    assert config.n_active_params() == found["total"] - idle_params(model, config)


def idle_params(model: Any, config: ModelConfig) -> int:
    """In the experts that a token does not pass."""
    sides = (config.encoder, config.decoder) if isinstance(config, EncoderDecoderConfig) else (config,)
    idle, n_experts = sides[0].n_experts - sides[0].n_active_experts, sides[0].n_experts
    mixtures = [b.feed_forward for b in model.trunk.blocks if hasattr(b.feed_forward, "router")]
    return sum(
        idle * w.numel() // n_experts for m in mixtures for w in (m.gate, m.up, m.down) if w is not None
    )


@given(st.sampled_from([config_of, encoder_of, joined_of]), st.data())
@examples(80)
def test_parameters_by_part_are_those_of_the_built_model(build: Any, data: st.DataObject) -> None:
    sizes = {
        "vocab_size": data.draw(st.integers(2, 300)),
        "d_model": 2 * data.draw(st.integers(1, 20)),
        "n_layers": data.draw(st.integers(2, 4)),
        "head_dim": 2 * data.draw(st.integers(1, 9)),
        "d_ff": data.draw(st.integers(1, 50)),
        "d_expert": data.draw(st.sampled_from([None, 7])),
    }
    check_counts(build(**choices_of(data.draw, **sizes)), "cpu")


@pytest.mark.parametrize("attention", ["linear", "low_rank"])
def test_parameters_of_efficient_attention_are_those_of_the_built_model(attention: str) -> None:
    check_counts(encoder_of(attention=attention, low_rank_len=5))
    if attention == "linear":
        check_counts(config_of(attention=attention))


def torchs_operations(model: Any, *ids: torch.Tensor) -> float:
    with (
        FlopCounterMode(display=False) as counter,
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ):
        model(*ids)
    return counter.get_total_flops()


@pytest.mark.parametrize(("n_heads", "n_kv_heads"), [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("seq_len", [1, 8, 33])
def test_operations_are_those_that_torch_counts(n_heads: int, n_kv_heads: int, seq_len: int) -> None:
    config = DecoderConfig(
        vocab_size=50, d_model=24, n_layers=3, n_heads=n_heads, n_kv_heads=n_kv_heads, head_dim=8, d_ff=40,
        max_seq_len=64,
    )  # fmt: skip
    ids = torch.randint(0, 50, (2, seq_len))
    # torch counts the whole square of attended positions, we the causal half that is needed
    square = 4 * config.n_layers * n_heads * config.head_dim * seq_len
    actual = config.flops_per_token(seq_len, training=False)
    causal = 4 * config.n_layers * n_heads * config.head_dim * (seq_len + 1) / 2
    assert torchs_operations(LanguageModel(config), ids) == (actual - causal + square) * ids.numel()
    assert config.flops_per_token(seq_len) == 3 * actual


@pytest.mark.parametrize(
    "changes",
    [{}, {"gated": False}, {"head_transform": False}, {"attention": "low_rank", "low_rank_len": 5}],
    ids=str,
)
def test_operations_of_an_encoder_are_those_that_torch_counts(changes: dict[str, Any]) -> None:
    config, ids = encoder_of(**changes), torch.randint(0, 61, (2, 11))
    actual = config.flops_per_token(11, training=False) * ids.numel()
    assert torchs_operations(MaskedLanguageModel(config), ids) == actual


def test_operations_of_an_encoder_decoder_are_those_that_torch_counts() -> None:
    config, ids = joined_of(n_layers=3), torch.randint(0, 61, (2, 11))
    unseen = 4 * 3 * 4 * 6 * (11 - (11 + 1) / 2)  # of the decoder's square
    actual = (config.flops_per_token(11, training=False) + unseen) * ids.numel()
    assert torchs_operations(SequenceToSequence(config), ids, ids) == actual


@given(st.integers(1, 20), st.integers(1, 25), st.booleans())
@examples(60)
def test_attended_positions_are_those_of_the_mask(window: int, seq_len: int, causal: bool) -> None:
    config = (config_of if causal else encoder_of)(sliding_window=window)
    index = torch.arange(seq_len)
    mask = causal_mask(index, seq_len) if causal else torch.ones(1, 1, seq_len, seq_len, dtype=torch.bool)
    near = narrow_mask(mask, index, seq_len, window, causal)
    assert near is not None
    assert _mean_attended(config, 0, seq_len) == pytest.approx(float(near.sum()) / seq_len)
    whole = config.replace(sliding_window=None)
    assert _mean_attended(whole, 0, seq_len) == pytest.approx(float(mask.sum()) / seq_len)


def test_experts_that_are_not_chosen_cost_nothing() -> None:
    dense = config_of(d_ff=16)
    mixed = config_of(d_ff=16, n_experts=8, n_active_experts=2)
    one_expert, router = 3 * 16 * 16, 8 * 16
    assert mixed.n_matmul_params() - dense.n_matmul_params() == 2 * (one_expert + router)
    shared = mixed.replace(n_shared_experts=1)
    assert shared.n_matmul_params() - mixed.n_matmul_params() == 2 * one_expert
