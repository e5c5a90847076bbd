"""Dropout on a CPU: the rate and the mean are kept, what is dropped sends no gradient back, and attention with all
scores in memory is the attention of torch's kernels.
"""

from __future__ import annotations

import pytest
import torch

from parakit.model.config import DecoderConfig
from parakit.model.layers.attention import Attention
from parakit.model.layers.norms import Dropout, dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9, 1e-4])
def test_the_share_of_zeros_is_the_rate_and_the_mean_stays(rate):
    n = 400_000
    x = torch.ones(n, requires_grad=True)
    y = dropout(x, rate, training=True)
    dropped = (y == 0).sum().item()
    assert abs(dropped - n * rate) < 5 * (n * rate * (1 - rate)) ** 0.5 + n / 2**17
    assert y.detach().unique().tolist() == pytest.approx([0.0, 1 / (1 - rate)], rel=1e-3)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    for part in y.detach().view(4, -1):  # no place is favoured
        assert abs((part == 0).float().mean().item() - rate) < 5 * (4 * rate / n) ** 0.5 + 1e-5


def test_neighbours_are_dropped_independently():
    y = dropout(torch.ones(100_000, 4), 0.5, training=True) == 0
    patterns = (y.long() * torch.tensor([1, 2, 4, 8])).sum(1).bincount(minlength=16)
    assert (patterns - 6250).abs().max() < 5 * 6250**0.5


def test_a_seed_repeats_itself_in_every_shape_and_type():
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = torch.randn(3, 5, 7).to(dtype)
        torch.manual_seed(3)
        first = dropout(x, 0.3, training=True)
        torch.manual_seed(3)
        assert torch.equal(first, dropout(x, 0.3, training=True))
        assert first.dtype == dtype
        kept = first != 0
        torch.testing.assert_close(first[kept], (x.double() / 0.7).to(dtype)[kept], rtol=1e-2, atol=0)
        assert not torch.equal(first, dropout(x, 0.3, training=True))


def test_nothing_is_dropped_in_evaluation_or_at_rate_zero():
    x = torch.randn(4, 4)
    assert dropout(x, 0.5, training=False) is x
    assert dropout(x, 0.0, training=True) is x
    assert Dropout(0.5).eval()(x) is x
    assert (Dropout(1.0)(x) == 0).all()
    assert isinstance(Dropout(0.5), torch.nn.Dropout)


@pytest.mark.parametrize("kind", ["causal", "bool", "added"])
def test_scores_in_memory_give_what_the_fused_kernels_give(kind):
    config = DecoderConfig(vocab_size=5, d_model=16, n_layers=1, n_heads=4, n_kv_heads=2, head_dim=4, d_ff=8)
    attention = Attention(config, 0, causal=True).double().train()
    x = torch.randn(2, 7, 16, dtype=torch.float64)
    mask = None
    if kind != "causal":
        mask = torch.randn(2, 1, 7, 7) > -0.5
        mask |= torch.eye(7, dtype=torch.bool)
    if kind == "added":
        mask = torch.randn(1, 4, 7, 7, dtype=torch.float64).masked_fill(~mask, -torch.inf).requires_grad_()
    sums = []
    for by_scores in (True, False):
        attention._needs_scores = lambda *_, by_scores=by_scores: by_scores
        out = attention(x, None, mask, None)
        leaves = [*attention.parameters(), *([mask] if kind == "added" else [])]
        gradients = torch.autograd.grad((out * torch.arange(16)).sum(), leaves)
        sums.append((out, *gradients))
    for actual, reference in zip(*sums, strict=True):
        torch.testing.assert_close(actual, reference)


def test_attention_on_a_cpu_takes_the_shorter_way():
    config = DecoderConfig(
        vocab_size=5, d_model=16, n_layers=1, n_heads=4, n_kv_heads=4, head_dim=4, d_ff=8, dropout=0.1
    )
    attention, query = Attention(config, 0, causal=True), torch.randn(1, 4, 3, 4)
    assert attention.train()._needs_scores(query, None)
    assert not attention.eval()._needs_scores(query, None)
    assert attention._needs_scores(query, torch.zeros(1, 1, 3, 3, requires_grad=True))
    assert not attention._needs_scores(query, torch.zeros(1, 1, 3, 3))
