"""Linear layers and embeddings with quantized weights, which are frozen; see `rounding` for the layout of the buffers.

Weight-only: y = x @ W^T + bias with W = dequantize(...), computed in x's dtype, so that a result does not depend on the
number of tokens. Nothing of W's size outlives a call: W is dequantized by blocks of rows, in the backward pass (to x) again.
`activation_bits` = 8 also rounds x to int8 with one scale for each token (Dettmers et al. 2022, section 3).

Shapes: I inputs, O outputs, G groups, V vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from parakit.model.kernels import quantized_linear
from parakit.model.quantized.rounding import BLOCK_VALUES, QuantizedTensor, dequantize, scale_dtype
from parakit.model.quantized.scheme import QuantScheme

BUFFERS = ("qweight", "scales", "zeros")


class QuantizedWeight(nn.Module):
    """The canonical buffers `qweight`, `scales` and `zeros` of one matrix (O, I) or (V, D).

    `to(dtype)` changes the dtype of results (`dtype`), never the buffers'.
    """

    own_buffers = True
    qweight: Tensor
    scales: Tensor
    zeros: Tensor | None
    _like: Tensor

    def __init__(self, shape: tuple[int, int], scheme: QuantScheme, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        scheme.check("a layer", shape)
        self.scheme, self.shape = scheme, shape
        if self.own_buffers:
            for name in BUFFERS:
                self.register_buffer(name, None)
        self.register_buffer("_like", torch.empty(0, dtype=dtype), persistent=False)
        self.reset()

    def reset(self) -> None:
        """Allocate buffers of zeros, on torch's default device."""
        n_out, n_in = self.shape
        groups = (n_out, self.scheme.groups(n_in))
        self._like = torch.empty(0, dtype=self._like.dtype)
        code = torch.int8 if self.scheme.bits == 8 else torch.uint8
        self.qweight = torch.zeros(n_out, n_in * self.scheme.bits // 8, dtype=code)
        self.scales = torch.zeros(groups, dtype=scale_dtype(self.scheme))
        self.zeros = None if self.scheme.symmetric else torch.zeros(groups, dtype=torch.uint8)

    @property
    def quantized(self) -> QuantizedTensor:
        """The buffers, shared."""
        return QuantizedTensor(self.qweight, self.scales, self.zeros, self.scheme)

    @quantized.setter
    def quantized(self, tensor: QuantizedTensor) -> None:
        """Take over the buffers of `tensor`, without a copy."""
        assert tensor.shape == self.shape
        assert tensor.scheme.replace(activation_bits=None) == self.scheme.replace(activation_bits=None)
        device = self._like.device
        self.qweight, self.scales = tensor.qweight.to(device), tensor.scales.to(device)
        self.zeros = None if tensor.zeros is None else tensor.zeros.to(device)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the layer's results, and of `weight`."""
        return self._like.dtype

    @property
    def device(self) -> torch.device:
        """Where the buffers are."""
        return self._like.device

    @property
    def weight(self) -> Tensor:
        """The whole matrix, dequantized each time: for merging and checks, never for a forward pass."""
        return dequantize(self.quantized, self.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantizedWeight:
        before = {name: self._buffers.get(name) for name in BUFFERS}
        super()._apply(fn, recurse)
        for name, old in before.items():
            new = self._buffers.get(name)
            if old is not None and new is not None and new.dtype != old.dtype:
                self._buffers[name] = old.to(new.device)  # moved, not cast
        return self

    def extra_repr(self) -> str:
        scheme = self.scheme
        group = "row" if scheme.quant_group_size is None else f"{scheme.quant_group_size} inputs"
        return f"{self.shape[1]} -> {self.shape[0]}, {scheme.bits} bits, a scale for each {group}"


class QuantizedLinear(QuantizedWeight):
    """y = x @ W^T + bias; `bias` is a parameter in the model's dtype, or None."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        scheme: QuantScheme,
        bias: nn.Parameter | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__((out_features, in_features), scheme, dtype)
        self.in_features, self.out_features = in_features, out_features
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O)"""
        if self.scheme.activation_bits is not None:
            x = round_tokens(x)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        result: Tensor = _Product.apply(x, self.quantized)
        return result if self.bias is None else result + self.bias.to(result.dtype)


class QuantizedEmbedding(QuantizedWeight):
    """Looks up rows, which are dequantized then."""

    def __init__(
        self, num_embeddings: int, embedding_dim: int, scheme: QuantScheme, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__((num_embeddings, embedding_dim), scheme, dtype)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim

    def forward(self, token_ids: Tensor) -> Tensor:
        """(...) -> (..., D)"""
        return weight_rows(self, token_ids.flatten()).view(*token_ids.shape, self.embedding_dim)


class TiedQuantizedLinear(QuantizedLinear):
    """An output matrix that is the embedding's: its buffers are those of `embedding`, wherever that is moved."""

    own_buffers = False

    def __init__(self, embedding: QuantizedEmbedding, bias: nn.Parameter | None = None) -> None:
        self._embedding = (embedding,)  # in a tuple, so that its buffers are not registered twice
        n_out, n_in = embedding.shape
        super().__init__(n_in, n_out, embedding.scheme, bias, embedding.dtype)

    def reset(self) -> None:
        """There is nothing to allocate."""
        self._like = torch.empty(0, dtype=self._like.dtype)

    @property
    def embedding(self) -> QuantizedEmbedding:
        """The module whose matrix this is."""
        return self._embedding[0]

    @property
    def qweight(self) -> Tensor:  # type: ignore[override]
        """The embedding's."""
        return self.embedding.qweight

    @property
    def scales(self) -> Tensor:  # type: ignore[override]
        """The embedding's."""
        return self.embedding.scales

    @property
    def zeros(self) -> Tensor | None:  # type: ignore[override]
        """The embedding's."""
        return self.embedding.zeros


def weight_like(layer: Any) -> Any:
    """What has the device, dtype and shape of a layer's weight: itself where it is quantized, so that nothing is dequantized;
    for a wrapper that of its base.
    """
    while isinstance(base := getattr(layer, "base", None), nn.Module):
        layer = base
    return layer if isinstance(layer, QuantizedWeight) else layer.weight


def weight_rows(layer: nn.Module, rows: Tensor) -> Tensor:
    """The rows (K, I) of a layer's weight, plain or quantized, copied."""
    if isinstance(layer, QuantizedWeight):
        zeros = None if layer.zeros is None else layer.zeros[rows]
        return dequantize(
            QuantizedTensor(layer.qweight[rows], layer.scales[rows], zeros, layer.scheme), layer.dtype
        )
    weight: Tensor = layer.weight.detach()  # type: ignore[operator]
    return weight[rows].clone()


def share_weight(one: nn.Module, other: nn.Module) -> bool:
    """Whether two layers, plain or quantized, have one matrix, as a tied output matrix and its embedding do."""
    if isinstance(one, QuantizedWeight) or isinstance(other, QuantizedWeight):
        return getattr(one, "qweight", None) is getattr(other, "qweight", ...)
    return one.weight is other.weight


def quantized_product(x: Tensor, weight: QuantizedTensor) -> Tensor:
    """x (..., I) @ W^T -> (..., O), by a compiled kernel or one block of rows of W after the other; no gradient."""
    native: Tensor | None = quantized_linear(x, weight)
    if native is not None:
        return native
    n_out, n_in = weight.shape
    step = max(1, BLOCK_VALUES // n_in)
    if step >= n_out:
        return functional.linear(x, dequantize(weight, x.dtype))
    result = x.new_empty(*x.shape[:-1], n_out)
    for first in range(0, n_out, step):
        rows = weight.rows(first, min(first + step, n_out))
        result[..., first : first + step] = functional.linear(x, dequantize(rows, x.dtype))
    return result


def transposed_product(gradient: Tensor, weight: QuantizedTensor) -> Tensor:
    """gradient (..., O) @ W -> (..., I), one block of rows of W after the other; no gradient."""
    n_out, n_in = weight.shape
    step = max(1, BLOCK_VALUES // n_in)
    if step >= n_out:
        return gradient @ dequantize(weight, gradient.dtype)
    total = gradient.new_zeros(*gradient.shape[:-1], n_in)
    for first in range(0, n_out, step):
        rows = dequantize(weight.rows(first, min(first + step, n_out)), gradient.dtype)
        total += gradient[..., first : first + step] @ rows
    return total


def round_tokens(x: Tensor) -> Tensor:
    """x (..., I) rounded to int8 with the scale `largest / 127.5` of each token, as compressed-tensors does; gradients pass
    unchanged.
    """
    exact = x.detach().float()
    scale = (exact.abs().amax(-1, keepdim=True) / 127.5).clamp(min=torch.finfo(torch.float32).tiny)
    rounded = ((exact / scale).round().clamp(-128, 127) * scale).to(x.dtype)
    return rounded if not x.requires_grad else x + (rounded - x).detach()


class _Product(torch.autograd.Function):
    """`quantized_product` with a gradient for x. The graph keeps the quantized buffers, which live anyway."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: QuantizedTensor) -> Tensor:
        ctx.weight = weight
        return quantized_product(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return transposed_product(gradient, ctx.weight), None
