"""Norms, feed-forward layers and residual blocks against their formulas; dropout where it belongs and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from parakit.model import (
    Classifier,
    ClassifierConfig,
    LanguageModel,
    MaskedLanguageModel,
    SequenceToSequence,
)
from parakit.model.layers.attention import Attention
from parakit.model.layers.blocks import Block
from parakit.model.layers.experts import MixtureOfExperts
from parakit.model.layers.feed_forward import ACTIVATIONS, FeedForward
from parakit.model.layers.norms import RMSNorm, make_norm
from parakit.model.layers.pooling import pool
from tests.model import formulas
from tests.model.formulas import arrays, config_of, encoder_of, joined_of, random_weights


def test_rms_norm_is_its_formula() -> None:
    norm = random_weights(RMSNorm(12, 1e-5)).double()
    x = torch.randn(3, 5, 12, dtype=torch.float64)
    wanted = formulas.rms_norm(x.numpy(), arrays(norm)["weight"], 1e-5)
    np.testing.assert_allclose(norm(x).detach().numpy(), wanted, rtol=1e-12)


def test_rms_norm_of_half_precision_is_computed_in_float32() -> None:
    norm = RMSNorm(64, 1e-6).bfloat16()
    x = (torch.randn(4, 64) * 300).bfloat16()
    wanted = functional.rms_norm(x.float(), (64,), None, 1e-6).bfloat16()
    assert torch.equal(norm(x), wanted)
    assert norm(torch.full((1, 64), 6e4).half()).isfinite().all()  # its square is no float16


@pytest.mark.parametrize("norm_bias", [True, False])
def test_layer_norm_is_its_formula(norm_bias: bool) -> None:
    config = encoder_of(norm="layer", norm_bias=norm_bias, norm_eps=1e-3)
    layer = random_weights(make_norm(config)).double()
    x = torch.randn(3, 5, 16, dtype=torch.float64)
    weights = {f"norm.{name}": weight for name, weight in arrays(layer).items()}
    assert ("norm.bias" in weights) == norm_bias
    wanted = formulas.norm(x.numpy(), weights, config, "norm")
    np.testing.assert_allclose(layer(x).detach().numpy(), wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations_are_their_formulas(name: str) -> None:
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    wanted = formulas.ACTIVATIONS[name](x.numpy())
    np.testing.assert_allclose(ACTIVATIONS[name](x).numpy(), wanted, atol=1e-12)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_the_feed_forward_layer_is_its_formula(activation: str, gated: bool, bias: bool) -> None:
    config = config_of(activation=activation, gated=gated, feed_forward_bias=bias)
    layer = random_weights(FeedForward(config)).double()
    x = torch.randn(5, 16, dtype=torch.float64)
    wanted = formulas.feed_forward(x.numpy(), arrays(layer), config)
    np.testing.assert_allclose(layer(x).detach().numpy(), wanted, rtol=1e-10, atol=1e-10)


class Plus(nn.Module):
    """A sublayer that can be recognised."""

    def __init__(self, much: float) -> None:
        super().__init__()
        self.much = much

    def forward(self, x: Tensor, *_: Any) -> Tensor:
        return x * self.much


@pytest.mark.parametrize("post_norm", [False, True])
def test_a_block_adds_before_or_after_its_norm(post_norm: bool) -> None:
    block = random_weights(Block(config_of(post_norm=post_norm), 1, causal=True))
    block.attention, block.feed_forward = Plus(2.0), Plus(3.0)
    first, second, x = block.attention_norm, block.feed_forward_norm, torch.randn(1, 4, 16)
    if post_norm:
        inner = first(x + 2 * x)
        wanted = second(inner + 3 * inner)
    else:
        inner = x + 2 * first(x)
        wanted = inner + 3 * second(inner)
    assert torch.equal(block(x, None, None, None), wanted)


def test_the_norm_behind_the_embedding_takes_the_place_of_the_first_blocks() -> None:
    trunk = MaskedLanguageModel(encoder_of(embedding_norm=True)).trunk
    assert isinstance(trunk.blocks[0].attention_norm, nn.Identity)
    assert isinstance(trunk.blocks[1].attention_norm, nn.LayerNorm)
    post = MaskedLanguageModel(encoder_of(embedding_norm=True, post_norm=True)).trunk
    assert isinstance(post.blocks[0].attention_norm, nn.LayerNorm)


def test_an_embedding_is_a_one_hot_vector_times_a_matrix() -> None:
    for model in (LanguageModel(config_of()), MaskedLanguageModel(encoder_of())):
        table, ids = model.trunk.token_embedding, torch.tensor([4, 0, 60])
        assert torch.equal(table(ids), functional.one_hot(ids, 61).float() @ table.weight)
    joined = SequenceToSequence(joined_of())
    assert joined.trunk.encoder.token_embedding is joined.trunk.decoder.token_embedding


def twice(model: nn.Module, *given: Tensor) -> tuple[Tensor, Tensor]:
    return model(*given), model(*given)


PLACES = {
    "embeddings and residual sums": (LanguageModel, config_of(dropout=0.5, attention_dropout=0.0)),
    "attention weights": (LanguageModel, config_of(attention_dropout=0.5)),
    "attention weights under a soft cap": (
        LanguageModel,
        config_of(attention_dropout=0.5, attention_soft_cap=2.0),
    ),
    "attention weights, low rank": (
        MaskedLanguageModel,
        encoder_of(attention_dropout=0.5, attention="low_rank"),
    ),
    "feed-forward": (MaskedLanguageModel, encoder_of(feed_forward_dropout=0.5)),
    "experts": (LanguageModel, config_of(feed_forward_dropout=0.5, n_experts=4)),
}


@pytest.mark.parametrize("place", PLACES)
def test_dropout_is_on_in_training_and_off_in_evaluation(place: str) -> None:
    kind, config = PLACES[place]
    model: Any = random_weights(kind(config))  # type: ignore[operator]
    ids = torch.randint(0, 61, (1, 9))
    assert torch.equal(*twice(model, ids))
    model.train()
    assert not torch.equal(*twice(model, ids))


def test_dropout_reaches_both_sides_of_an_encoder_decoder() -> None:
    quiet = {"dropout": 0.0, "attention_dropout": 0.0}
    for loud_side in ("encoder", "decoder"):
        config = joined_of()
        loud = getattr(config, loud_side).replace(dropout=0.5, **{"attention_dropout": 0.5})
        config = config.replace(**{loud_side: loud})
        model: Any = random_weights(SequenceToSequence(config))
        ids = torch.randint(0, 61, (1, 7))
        assert torch.equal(*twice(model, ids, ids))
        model.train()
        assert not torch.equal(*twice(model, ids, ids))
    model = random_weights(SequenceToSequence(joined_of(**quiet))).train()
    assert torch.equal(*twice(model, ids, ids))


@pytest.mark.parametrize(
    ("module", "changes"),
    [
        (lambda c: Attention(c, 0, causal=True), {"attention_dropout": 0.5}),
        (lambda c: MixtureOfExperts(c), {"feed_forward_dropout": 0.5, "n_experts": 3}),
        (lambda c: FeedForward(c), {"feed_forward_dropout": 0.5}),
    ],
    ids=["attention", "experts", "feed-forward"],
)
def test_each_layers_own_dropout_keeps_the_mean(module: Any, changes: dict[str, Any]) -> None:
    layer, x = random_weights(module(config_of(**changes))), torch.randn(1, 5, 16)
    given = (x, None, None, None) if isinstance(layer, Attention) else (x,)
    with torch.no_grad():
        wanted = layer(*given)
        layer.train()
        torch.manual_seed(0)
        several = torch.stack([layer(*given) for _ in range(1000)])
    error = (several.mean(0) - wanted).abs() / (several.std(0) / 1000**0.5 + 1e-6)
    assert error.max() < 5  # standard errors


def test_the_head_of_a_classifier_drops_only_in_training() -> None:
    config = encoder_of(dropout=0.5, attention_dropout=0.0)
    model: Any = random_weights(Classifier(config, ClassifierConfig(labels=("a", "b"))))
    hidden = model.trunk(torch.tensor([[1, 2, 3]]))
    wanted = model.label_head(model.dense(pool(hidden, None, "cls")))
    assert torch.equal(model(torch.tensor([[1, 2, 3]])), wanted)
