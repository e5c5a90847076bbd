"""Attention of a training step by the kernels, against PyTorch's own in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from parakit.model.config import DecoderConfig
from parakit.model.kernels import load_training_kernels
from parakit.model.kernels.attention import attention
from parakit.model.layers.attention import Attention
from parakit.model.layers.masks import document_mask

pytestmark = pytest.mark.skipif(load_training_kernels() is None, reason="no C++ compiler")


def heads(x: Tensor, n_heads: int) -> Tensor:
    """(B, T, H * D) -> (B, H, T, D), a view whose tokens come first in memory."""
    return x.unflatten(2, (n_heads, -1)).transpose(1, 2)


def inputs(n_tokens: int, n_keys: int, n_heads: int, n_kv_heads: int, head_dim: int) -> list[Tensor]:
    """Queries, keys, values, and the gradient of the result, of two rows."""
    torch.manual_seed(0)
    shapes = ((n_tokens, n_heads), (n_keys, n_kv_heads), (n_keys, n_kv_heads), (n_tokens, n_heads))
    return [heads(torch.randn(2, n, h * head_dim), h) for n, h in shapes]


def assert_equal(
    tensors: list[Tensor], mask: Tensor | None, is_causal: bool, scale: float | None, score: float = 1.0
) -> None:
    """Results and gradients equal those of float64 to a few units in the last place of the largest, times the size of
    scores, whose rounding is relative.
    """
    slope = tensors[3]
    single = [one.detach().requires_grad_() for one in tensors[:3]]
    exact = [one.detach().double().requires_grad_() for one in tensors[:3]]
    result = attention(single[0], single[1], single[2], mask, is_causal, scale)
    assert result is not None
    n_shared = exact[0].shape[1] // exact[1].shape[1]
    key, value = (one.repeat_interleave(n_shared, 1) for one in exact[1:])
    expected = functional.scaled_dot_product_attention(
        exact[0], key, value, attn_mask=mask, is_causal=is_causal, scale=scale
    )
    torch.testing.assert_close(result.double(), expected, rtol=1e-5 * score, atol=2e-6 * score)
    result.backward(slope)
    expected.backward(slope.double())
    for one, other in zip(single, exact, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        largest = float(other.grad.abs().max())
        torch.testing.assert_close(
            one.grad.double(), other.grad, rtol=1e-5 * score, atol=3e-6 * largest * score
        )


@pytest.mark.parametrize(
    ("n_tokens", "n_heads", "n_kv_heads", "head_dim"),
    [(2, 1, 1, 8), (48, 2, 2, 16), (97, 3, 1, 32), (130, 4, 2, 64), (50, 2, 1, 20), (60, 1, 1, 136)],
)
def test_causal_attention(n_tokens: int, n_heads: int, n_kv_heads: int, head_dim: int) -> None:
    assert_equal(inputs(n_tokens, n_tokens, n_heads, n_kv_heads, head_dim), None, True, None)


@pytest.mark.parametrize(("n_tokens", "n_keys"), [(1, 100), (97, 33), (48, 96)])
def test_attention_to_a_source(n_tokens: int, n_keys: int) -> None:
    tensors = inputs(n_tokens, n_keys, 4, 2, 24)
    assert_equal(tensors, None, False, 0.3)
    lengths = torch.tensor([n_keys, n_keys // 2])
    real = (torch.arange(n_keys) < lengths[:, None])[:, None, None]  # (B, 1, 1, S)
    assert_equal(tensors, real, False, None)


def test_masks_of_pairs() -> None:
    tensors = inputs(150, 150, 4, 2, 32)
    documents = torch.tensor([[0] * 60 + [1] * 90, [0] * 10 + [1] * 100 + [2] * 40])
    assert_equal(tensors, document_mask(documents), False, None)
    assert_equal(tensors, document_mask(documents[:1]), False, None)  # one for all rows
    torch.manual_seed(1)
    assert_equal(tensors, (torch.rand(2, 1, 150, 150) < 0.3) | torch.eye(150, dtype=torch.bool), False, None)


def test_what_a_mask_hides_has_no_influence() -> None:
    """Values that are not finite included, wherever a whole tile is hidden; in part of one, zero times infinity is not zero."""
    query, key, value, slope = inputs(150, 150, 2, 1, 32)
    documents = torch.tensor([[0] * 96 + [1] * 54] * 2)
    value[:, :, 96:] = torch.inf
    single = [one.detach().requires_grad_() for one in (query, key, value)]
    result = attention(single[0], single[1], single[2], document_mask(documents), False, None)
    assert result is not None
    assert result[:, :, :96].isfinite().all()
    value[:, :, 96:] = torch.randn(2, 1, 54, 32)
    slope[:, :, 96:] = 0.0  # nothing depends on the second document
    single = [one.detach().requires_grad_() for one in (query, key, value)]
    again = attention(single[0], single[1], single[2], document_mask(documents), False, None)
    assert again is not None
    assert torch.equal(again[:, :, :96], result[:, :, :96])
    again.backward(slope)
    for one in single:
        assert one.grad is not None
        assert not one.grad[:, :, 96:].any()


def test_a_query_that_sees_nothing_gets_zeros() -> None:
    query, key, value, slope = inputs(60, 60, 2, 2, 16)
    mask = torch.ones(60, 60, dtype=torch.bool).tril()
    mask[50:] = False
    single = [one.detach().requires_grad_() for one in (query, key, value)]
    result = attention(single[0], single[1], single[2], mask[None, None], False, None)
    assert result is not None
    assert not result[:, :, 50:].any()
    result.backward(slope)
    for one in single:
        assert one.grad is not None
        assert one.grad.isfinite().all()
    assert single[0].grad is not None
    assert not single[0].grad[:, :, 50:].any()


def test_large_scores_and_scores_that_are_not_finite() -> None:
    query, key, value, slope = inputs(70, 70, 2, 2, 16)
    assert_equal([query * 30, key, value, slope], None, True, None, score=30.0)
    query[0, 0, 5, 3] = torch.nan
    single = [one.detach().requires_grad_() for one in (query, key, value)]
    result = attention(single[0], single[1], single[2], None, True, None)
    assert result is not None
    assert result[0, 0, 5].isnan().all()
    assert result[1].isfinite().all()
    result.backward(slope)  # and the next call is not affected by what this one left in memory
    assert_equal(inputs(70, 70, 2, 2, 16), None, True, None)


def test_the_same_for_any_number_of_threads() -> None:
    tensors, found = inputs(130, 130, 6, 2, 32), []
    n_threads = torch.get_num_threads()
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            single = [one.detach().requires_grad_() for one in tensors[:3]]
            result = attention(single[0], single[1], single[2], None, True, None)
            assert result is not None
            result.backward(tensors[3])
            found.append([result, *(one.grad for one in single)])
    finally:
        torch.set_num_threads(n_threads)
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            assert one is not None
            assert same is not None
            assert torch.equal(one, same)


def test_inputs_of_any_layout() -> None:
    """Contiguous, and parts of a larger tensor, as where queries, keys and values come from one product."""
    torch.manual_seed(0)
    joined = torch.randn(2, 50, 3 * 4 * 16)
    parts = [heads(part, 4) for part in joined.split(64, -1)]
    assert_equal([*parts, torch.randn(2, 4, 50, 16)], None, True, None)
    assert_equal([part.contiguous() for part in (*parts, torch.randn(2, 4, 50, 16))], None, True, None)


def test_a_layer_trains_as_by_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layer's gradients by the kernels, and by plain PyTorch."""
    torch.manual_seed(0)
    config = DecoderConfig(
        vocab_size=8, d_model=48, n_layers=1, n_heads=4, n_kv_heads=2, head_dim=12, d_ff=8, max_seq_len=64
    )
    layer, x = Attention(config, 0, causal=True), torch.randn(2, 64, 48, requires_grad=True)

    def gradients() -> list[Tensor]:
        result = layer(x, None, None, None)
        return [result, *torch.autograd.grad(result.square().sum(), [x, *layer.parameters()])]

    by_kernel = gradients()
    monkeypatch.setenv("PARAKIT_KERNELS", "off")
    for one, other in zip(by_kernel, gradients(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-6 * float(other.detach().abs().max()))


def test_what_is_left_to_pytorch() -> None:
    query, key, value, _ = inputs(20, 20, 4, 2, 16)
    assert attention(query, key, value, None, True, None) is None  # no gradient
    query.requires_grad_()
    with torch.no_grad():
        assert attention(query, key, value, None, True, None) is None
    by_head = torch.ones(1, 4, 20, 20, dtype=torch.bool)
    assert attention(query, key, value, by_head, False, None) is None
    assert attention(query, key, value, torch.zeros(1, 1, 20, 20), False, None) is None  # added to scores
    assert attention(query, key[:, :, :10], value[:, :, :10], None, True, None) is None  # causal from where?
    assert attention(query, key.double(), value.double(), None, True, None) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert attention(query, key, value, None, True, None) is None
    assert attention(query, key, value, None, True, None) is not None
