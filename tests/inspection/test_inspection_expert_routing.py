"""Tokens go to the experts that the router's softmax ranks first."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from parakit.common.errors import UserError
from parakit.inference.loaded_model import Model
from parakit.inspection.capture import capture
from parakit.inspection.expert_routing import ExpertLayer, expert_routing
from parakit.inspection.inputs import encode_input, run
from parakit.model import DecoderConfig, LanguageModel
from parakit.tokens import TokenizerConfig, train_tokenizer
from tests.sample_text import sentences

TEXT = "the small bird sees a red tree"


@pytest.fixture(scope="module", params=[True, False], ids=["normalized", "plain"])
def mixture(request) -> Model:
    """A random decoder whose second layer has four experts, of which two are active."""
    tokenizer = train_tokenizer(
        iter(sentences(i, 12) for i in range(8)), TokenizerConfig(kind="byte_bpe", vocab_size=300)
    )
    torch.manual_seed(0)
    config = DecoderConfig(
        vocab_size=tokenizer.vocab_size,
        d_model=16,
        n_layers=2,
        n_heads=2,
        n_kv_heads=2,
        head_dim=8,
        d_ff=24,
        d_expert=8,
        n_experts=4,
        n_active_experts=2,
        normalize_expert_weights=request.param,
    )
    network = LanguageModel(config)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
    return Model(network.eval(), tokenizer)


def test_the_chosen_experts_are_the_likeliest_of_the_router(mixture):
    given = encode_input(mixture, TEXT)
    with capture(mixture.network, ["blocks.*.input", "blocks.*.feed_forward.router"]) as found:
        run(mixture, given)
    layers = expert_routing(mixture, TEXT)
    assert [layer.name for layer in layers] == ["blocks.0", "blocks.1"]
    for layer in layers:
        logits = found[f"{layer.name}.feed_forward.router"].double().numpy().reshape(-1, 4)
        probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        np.testing.assert_allclose(layer.probabilities, probabilities, rtol=1e-5)
        order = np.argsort(-probabilities, axis=1)[:, :2]
        np.testing.assert_array_equal(layer.chosen, order)
        weights = np.take_along_axis(probabilities, order, 1)
        if mixture.network.config.normalize_expert_weights:
            weights = weights / weights.sum(1, keepdims=True)
        np.testing.assert_allclose(layer.weights, weights, rtol=1e-5)
        assert layer.tokens == given.tokens
        assert layer.load.sum() == pytest.approx(1)


def test_an_even_load_has_balance_one_and_a_single_expert_none():
    probabilities = np.full((4, 4), 0.25, np.float32)
    even = ExpertLayer("blocks.0", ("a",) * 4, np.arange(4)[:, None], np.ones((4, 1)), probabilities)
    assert even.balance == pytest.approx(1)
    one = ExpertLayer("blocks.0", ("a",) * 4, np.zeros((4, 1), int), np.ones((4, 1)), probabilities)
    assert one.balance == 0


def test_a_model_without_experts_is_refused(published_decoder):
    model = Model.load(published_decoder, device="cpu")
    with pytest.raises(UserError, match="has no experts"):
        expert_routing(model, TEXT)
