"""Heads: what comes out, which gradients flow, and how weights begin."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from parakit.model import (
    Classifier,
    ClassifierConfig,
    Embedder,
    EmbedderConfig,
    LanguageModel,
    MaskedLanguageModel,
    RewardModel,
    SequenceToSequence,
    router_losses,
)
from parakit.model.layers.pooling import pool
from tests.model.formulas import config_of, encoder_of, joined_of, random_weights

MASK = torch.tensor([[True, True, True, False], [False, True, True, True]])
IDS = torch.tensor([[4, 9, 2, 0], [0, 7, 1, 3]])


def test_pooling_takes_real_tokens_only() -> None:
    hidden = torch.arange(8.0).reshape(2, 4, 1)
    assert pool(hidden, MASK, "mean").flatten().tolist() == [1, 6]
    assert pool(hidden, MASK, "last").flatten().tolist() == [2, 7]
    assert pool(hidden, MASK, "cls").flatten().tolist() == [0, 5]
    assert pool(hidden, None, "mean").flatten().tolist() == [1.5, 5.5]
    assert pool(hidden, None, "last").flatten().tolist() == [3, 7]
    assert pool(hidden, MASK & False, "mean").isfinite().all()


def label_config(**changes: Any) -> ClassifierConfig:
    return ClassifierConfig(**{"labels": ("bad", "good", "mixed")} | changes)


@pytest.mark.parametrize("head", ["linear", "tanh", "transform"])
@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
@pytest.mark.parametrize("config", [encoder_of(), config_of()], ids=lambda c: c.family)
def test_a_classifier_scores_every_label_of_a_text_or_of_its_tokens(
    config: Any, pooling: str, head: str
) -> None:
    model = random_weights(Classifier(config, label_config(pooling=pooling, head=head)))
    scores = model(IDS, MASK)
    assert scores.shape == (2, 3)
    hidden = pool(model.trunk(IDS, attention_mask=MASK), MASK, pooling)
    if head == "tanh":
        hidden = torch.tanh(hidden @ model.dense[0].weight.T + model.dense[0].bias)
    elif head == "transform":
        hidden = model.dense.norm(model.dense.activation(model.dense.dense(hidden)))
    wanted = hidden @ model.label_head.weight.T + model.label_head.bias
    torch.testing.assert_close(scores, wanted)
    of_tokens = random_weights(Classifier(config, label_config(level="token", head=head, bias=False)))
    assert of_tokens(IDS, MASK).shape == (2, 4, 3)
    assert of_tokens.label_head.bias is None


@pytest.mark.parametrize("config", [encoder_of(), config_of()], ids=lambda c: c.family)
def test_a_reward_is_one_number_read_at_the_last_real_token(config: Any) -> None:
    model = RewardModel(config)
    assert torch.equal(model(IDS, MASK), torch.zeros(2))
    model = random_weights(model)
    rewards, hidden = model(IDS, MASK), model.trunk(IDS, attention_mask=MASK)
    assert rewards.shape == (2,)
    wanted = torch.stack([hidden[0, 2], hidden[1, 3]]) @ model.reward_head.weight[0]
    torch.testing.assert_close(rewards, wanted)


@pytest.mark.parametrize("config", [encoder_of(), config_of()], ids=lambda c: c.family)
@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_an_embedding_is_a_pooled_vector_of_length_one(config: Any, pooling: str) -> None:
    model = random_weights(Embedder(config, EmbedderConfig(pooling=pooling)))
    vectors = model(IDS, MASK)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2))
    plain = random_weights(Embedder(config, EmbedderConfig(pooling=pooling, normalize=False)))
    wanted = pool(plain.trunk(IDS, attention_mask=MASK), MASK, pooling)
    assert torch.equal(plain(IDS, MASK), wanted)


def test_hidden_vectors_and_logits_join_to_the_forward_pass() -> None:
    for model in (
        random_weights(LanguageModel(config_of())),
        random_weights(MaskedLanguageModel(encoder_of())),
    ):
        assert torch.equal(
            model.logits(model.hidden(IDS, attention_mask=MASK)), model(IDS, attention_mask=MASK)
        )
        chosen = model.hidden(IDS, attention_mask=MASK)[MASK]  # heads take vectors of any leading shape
        torch.testing.assert_close(model.logits(chosen), model(IDS, attention_mask=MASK)[MASK])
    model = random_weights(SequenceToSequence(joined_of()))
    source = model.encode(IDS, attention_mask=MASK)
    hidden = model.hidden(IDS, source=source, source_mask=MASK)
    assert torch.equal(model.logits(hidden), model(IDS, IDS, source_mask=MASK))
    assert model(IDS, IDS).shape == (2, 4, 61)


TWO: dict[str, Any] = {"n_token_types": 2, "norm": "layer", "norm_bias": True, "gated": False}
BIASED: dict[str, Any] = {"attention_bias": True, "attention_output_bias": True, "feed_forward_bias": True}
MIXED: dict[str, Any] = {"n_experts": 3, "n_shared_experts": 1, "dense_layers": (0,)}
OLD = TWO | BIASED
SHAPES: dict[str, Any] = {  # one of everything that has parameters of its own
    "decoder": lambda: LanguageModel(config_of()),
    "decoder, old": lambda: LanguageModel(config_of(positions="learned", tie_embeddings=False, **OLD)),
    "decoder, experts": lambda: LanguageModel(config_of(**MIXED)),
    "decoder, experts without gates": lambda: LanguageModel(config_of(**MIXED, gated=False)),
    "decoder, linear": lambda: LanguageModel(
        config_of(attention="linear", head_transform=True, lm_head_bias=True)
    ),
    "encoder": lambda: MaskedLanguageModel(encoder_of()),
    "encoder, post-norm": lambda: MaskedLanguageModel(
        encoder_of(positions="sinusoidal", post_norm=True, **OLD)
    ),
    "encoder, low rank": lambda: MaskedLanguageModel(encoder_of(attention="low_rank")),
    "encoder, experts": lambda: MaskedLanguageModel(encoder_of(**MIXED)),
    "encoder-decoder": lambda: SequenceToSequence(joined_of(positions="relative", attention_scale=1.0)),
    "encoder-decoder, 2017": lambda: SequenceToSequence(
        joined_of(positions="sinusoidal", post_norm=True, **BIASED)
    ),
    "encoder-decoder, experts": lambda: SequenceToSequence(joined_of(**MIXED)),
    "classifier": lambda: Classifier(encoder_of(), label_config(head="tanh")),
    "reward": lambda: RewardModel(config_of()),
    "embedder": lambda: Embedder(encoder_of(), EmbedderConfig()),
}


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_gradients_reach_every_parameter(name: str) -> None:
    model = random_weights(SHAPES[name]()).train()
    ids = torch.randint(0, 61, (6, 20))
    given: tuple[Tensor, ...] = (ids, ids) if name.startswith("encoder-decoder") else (ids,)
    context = {"token_type_ids": ids % 2} if "old" in name or "post-norm" in name else {}
    (model(*given, **context).square().sum() + router_losses(model)[0]).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        if not parameter_name.endswith("key.bias"):  # softmax does not feel what all scores share
            used = parameter.grad.abs() > 0
            assert used.any(), parameter_name
            if parameter.ndim == 3:  # of every expert
                assert used.flatten(1).any(1).all(), parameter_name


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_reset_leaves_nothing_of_what_was_learned(name: str) -> None:
    states = []
    for seed in (1, 2):  # of the weights before, not of the reset
        model = random_weights(SHAPES[name](), seed)
        torch.manual_seed(0)
        model.reset()
        states.append(model.state_dict())
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key


def test_what_writes_into_the_residual_stream_begins_at_zero_and_norms_at_one() -> None:
    for name, model in ((name, build()) for name, build in SHAPES.items()):
        for key, value in model.state_dict().items():
            if key.endswith(("attention.output.weight", "down.weight", "feed_forward.down", ".bias")):
                assert not value.any(), (name, key)
            elif "norm" in key:
                assert (value == 1).all(), (name, key)


def test_embeddings_scaled_for_sinusoids_begin_with_deviation_one() -> None:
    model = SequenceToSequence(joined_of(positions="sinusoidal", embedding_scale=4.0, vocab_size=4000))
    entering = model.trunk.token_embedding.weight * 4.0
    assert float(entering.std().detach()) == pytest.approx(1, rel=0.05)
    plain = LanguageModel(config_of(vocab_size=4000))
    assert float(plain.trunk.token_embedding.weight.std().detach()) == pytest.approx(0.02, rel=0.05)


def test_without_a_scale_of_their_own_scores_begin_as_small_as_with_the_usual_one() -> None:
    """T5 divides by nothing: its query matrix begins smaller instead."""
    torch.manual_seed(0)
    usual = LanguageModel(config_of(query_key_norm=False))
    torch.manual_seed(0)
    unscaled = LanguageModel(config_of(query_key_norm=False, attention_scale=1.0))
    one, other = (m.trunk.blocks[0].attention.query.weight for m in (usual, unscaled))
    torch.testing.assert_close(other, one * 6**-0.5)
