"""The joined head and loss give the sum and the gradients of the ordinary way, whatever the chunks."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from parakit.model import DecoderConfig, EncoderConfig, LanguageModel, MaskedLanguageModel
from parakit.model.adapters.creation import make_trainable_tokens
from parakit.training.objectives import fused_head_loss as head_loss
from parakit.training.objectives.fused_head_loss import (
    can_fuse_head,
    can_fuse_log_probs,
    fused_cross_entropy,
    fused_log_probs,
    fused_log_probs_and_entropy,
)

SHAPE = {
    "vocab_size": 23,
    "d_model": 8,
    "n_layers": 1,
    "n_heads": 2,
    "n_kv_heads": 2,
    "head_dim": 4,
    "d_ff": 8,
}


def with_trained_rows(trains=("rows",), **changes):
    """A decoder of which the rows of two tokens stand apart."""
    model = LanguageModel(DecoderConfig(**SHAPE, **changes))
    for place, wrapper in make_trainable_tokens(model, (7, 2)).items():
        parent, _, name = place.rpartition(".")
        setattr(model.get_submodule(parent), name, wrapper)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.rpartition(".")[2] in trains)
    return model


MODELS = {
    "tied": lambda: LanguageModel(DecoderConfig(**SHAPE)),
    "scaled, untied": lambda: LanguageModel(DecoderConfig(**SHAPE, tie_embeddings=False, logit_scale=0.3)),
    "transform and bias": lambda: MaskedLanguageModel(EncoderConfig(**SHAPE)),
    "trained rows": with_trained_rows,
    "trained rows, untied": lambda: with_trained_rows(tie_embeddings=False, logit_scale=0.3),
    "rows and all else": lambda: with_trained_rows(("rows", "weight", "bias"), lm_head_bias=True),
}


def drawn(name, dtype=torch.float64):
    model = MODELS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    return model.to(dtype)


@pytest.mark.parametrize("rows_at_once", [1, 3, 100])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", MODELS)
def test_sum_and_gradients_are_those_of_the_ordinary_way(name, smoothing, rows_at_once, monkeypatch):
    monkeypatch.setattr(head_loss, "CHUNK_ELEMENTS", 23 * rows_at_once)
    model, targets = drawn(name), torch.randint(0, 23, (11,))
    hidden = torch.randn(11, 8, dtype=torch.float64, requires_grad=True)
    assert can_fuse_head(model, hidden)
    below = [*model.transform.parameters(), *model.lm_head.parameters()]
    leaves = [hidden, *(parameter for parameter in below if parameter.requires_grad)]
    plain = functional.cross_entropy(
        model.logits(hidden), targets, reduction="sum", label_smoothing=smoothing
    )
    joined = fused_cross_entropy(model, hidden, targets, smoothing)
    torch.testing.assert_close(joined, plain)
    for scale in (1.0, 0.25):
        actual = torch.autograd.grad(
            fused_cross_entropy(model, hidden, targets, smoothing) * scale, leaves, retain_graph=False
        )
        expected = torch.autograd.grad(plain * scale, leaves, retain_graph=True)
        for mine, reference in zip(actual, expected, strict=True):
            torch.testing.assert_close(mine, reference)


@pytest.mark.parametrize("max_kept", [0, 23 * 11])
@pytest.mark.parametrize("rows_at_once", [1, 3, 100])
@pytest.mark.parametrize("name", [name for name in MODELS if "rows" not in name])
def test_log_probabilities_and_gradients_are_those_of_the_ordinary_way(
    name, rows_at_once, max_kept, monkeypatch
):
    monkeypatch.setattr(head_loss, "CHUNK_ELEMENTS", 23 * rows_at_once)
    monkeypatch.setattr(head_loss, "MAX_KEPT", max_kept)
    model, targets, weights = drawn(name), torch.randint(0, 23, (11,)), torch.randn(11, dtype=torch.float64)
    hidden = torch.randn(11, 8, dtype=torch.float64, requires_grad=True)
    assert can_fuse_log_probs(model, hidden)
    leaves = [hidden, *model.transform.parameters(), *model.lm_head.parameters()]
    plain = -functional.cross_entropy(model.logits(hidden), targets, reduction="none")
    joined = fused_log_probs(model, hidden, targets)
    torch.testing.assert_close(joined, plain)
    with_entropy, entropy = fused_log_probs_and_entropy(model, hidden, targets)
    torch.testing.assert_close(with_entropy, plain)
    torch.testing.assert_close(
        entropy, torch.distributions.Categorical(logits=model.logits(hidden)).entropy()
    )
    assert not entropy.requires_grad
    expected = torch.autograd.grad((plain * weights).sum(), leaves)
    for found in (joined, with_entropy):
        for mine, reference in zip(
            torch.autograd.grad((found * weights).sum(), leaves), expected, strict=True
        ):
            torch.testing.assert_close(mine, reference)
    with torch.no_grad():
        torch.testing.assert_close(fused_log_probs(model, hidden, targets), plain.detach())
    assert not can_fuse_log_probs(drawn("trained rows"), hidden)


def test_only_what_trains_gets_a_gradient():
    model, hidden = drawn("transform and bias"), torch.randn(5, 8, dtype=torch.float64)
    model.lm_head.weight.requires_grad_(False)
    loss = fused_cross_entropy(model, hidden, torch.arange(5), 0.0)
    loss.backward()
    assert model.lm_head.weight.grad is None
    assert model.lm_head.bias.grad is not None
    assert fused_cross_entropy(model, hidden[:0], torch.arange(0), 0.0) == 0


def test_wrapped_capped_and_narrow_heads_take_the_ordinary_way():
    class Wrapped(torch.nn.Linear):
        """What an adapter or a quantized matrix looks like from outside."""

    hidden = torch.randn(3, 8)
    model = drawn("tied", torch.float32)
    assert can_fuse_head(model, hidden)
    assert not can_fuse_head(drawn("tied", torch.bfloat16), hidden.bfloat16())
    assert not can_fuse_head(LanguageModel(DecoderConfig(**SHAPE, logit_soft_cap=5.0)), hidden)
    with torch.no_grad():
        assert not can_fuse_head(model, hidden)
    with torch.autocast("cpu", torch.bfloat16):
        assert not can_fuse_head(model, hidden)
    hook = model.lm_head.register_forward_hook(lambda *_: None)
    assert not can_fuse_head(model, hidden)
    hook.remove()
    model.lm_head = Wrapped(8, 23, bias=False)
    assert not can_fuse_head(model, hidden)
