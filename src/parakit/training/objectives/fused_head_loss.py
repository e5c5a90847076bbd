"""The output matrix and its loss (cross-entropy, or another loss of logits) as one operation, in chunks of rows.

The logits of a batch are its largest tensors: forward and backward hold three of them and pass over each several times.
Here the gradients of a chunk are computed as soon as its logits are, while these are in the processor's cache, and the
logits are dropped; the sum is the same. With a vocabulary of 32,000 the head takes three quarters of the time and the
memory of one chunk. Only for a plain or quantized output matrix, or one of which some tokens' rows train, in full
precision and outside compiled code; other heads use the ordinary loss.

Shapes: N counted tokens, C of them in a chunk, D width, V vocabulary, K tokens whose rows train.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from parakit.model.adapters.trainable_tokens import TrainableTokensHead
from parakit.model.heads import TokenPredictor
from parakit.model.kernels.training import cross_entropy_gradient
from parakit.model.quantized.layers import (
    QuantizedLinear,
    quantized_product,
    transposed_product,
    weight_like,
)
from parakit.model.quantized.rounding import QuantizedTensor

CHUNK_ELEMENTS = 2**23  # logits at a time: fewer would add up the V x D gradient more often
# where the gradient of the matrix stays in the processor's cache, adding to it is cheap, and the logits can stay there too
SMALL_MATRIX, SMALL_CHUNK_ELEMENTS = 2**20, 2**20
MAX_KEPT = 2**27  # logits for a backward pass: half a gigabyte in float32
QUANTIZED_CHUNK_ELEMENTS = 2**21  # with a quantized matrix, which has no gradient

# Logits (C, V) of a chunk, and its rows -> the sum of their losses, and the gradient of the sum (C, V).
LogitsGrad = Callable[[Tensor, slice], tuple[Tensor, Tensor]]


def can_fuse_head(model: TokenPredictor, hidden: Tensor) -> bool:
    """Whether `fused_linear_loss` computes the same as the model's `logits` and their loss."""
    return torch.is_grad_enabled() and _is_plain_head(model, hidden)


def can_fuse_log_probs(model: TokenPredictor, hidden: Tensor) -> bool:
    """Whether `fused_log_probs` computes the same as the model's `logits`."""
    return type(model.lm_head) is nn.Linear and _is_plain_head(model, hidden)


def _is_plain_head(model: TokenPredictor, hidden: Tensor) -> bool:
    head: nn.Module = model.lm_head
    plain = head.base if type(head) is TrainableTokensHead else head
    return (
        (type(plain) is nn.Linear or is_weight_only(plain))
        and not any(module._forward_hooks or module._forward_pre_hooks for module in (head, plain))
        and model.logit_soft_cap is None
        and hidden.dtype == weight_like(plain).dtype
        and hidden.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled(hidden.device.type)
        and not torch.compiler.is_compiling()
    )


def fused_cross_entropy(
    model: TokenPredictor, hidden: Tensor, target_ids: Tensor, label_smoothing: float
) -> Tensor:
    """hidden (N, D) from `model.hidden` and target_ids (N,) -> the summed cross-entropy in nats."""

    def logits_grad(logits: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        if not label_smoothing and (losses := cross_entropy_gradient(logits, target_ids[part])) is not None:
            return losses.sum(dtype=torch.float64), logits
        targets, vocab_size = target_ids[part, None], logits.shape[1]
        logs = logits.log_softmax(-1)
        loss = -(1 - label_smoothing) * logs.gather(1, targets).sum(dtype=torch.float64)
        if label_smoothing:
            loss -= label_smoothing / vocab_size * logs.sum(dtype=torch.float64)
        slope = logs.exp_()  # p - target
        if label_smoothing:
            slope -= label_smoothing / vocab_size
        slope.scatter_add_(1, targets, slope.new_full(targets.shape, label_smoothing - 1))
        return loss, slope

    return fused_linear_loss(model, hidden, logits_grad)


def fused_linear_loss(model: TokenPredictor, hidden: Tensor, logits_grad: LogitsGrad) -> Tensor:
    """hidden (N, D) from `model.hidden` -> the sum of the loss that `logits_grad` computes for each chunk of logits."""
    head: Any = model.lm_head
    plain, rows, token_ids = head, None, None
    if type(head) is TrainableTokensHead:
        plain, rows, token_ids = head.base, head.rows, torch.tensor(head.token_ids, device=hidden.device)
    weight = plain.quantized if is_weight_only(plain) else plain.weight
    loss: Tensor = _FusedLinearLoss.apply(
        model.head_input(hidden), weight, head.bias, rows, token_ids, logits_grad
    )
    return loss


def is_weight_only(layer: nn.Module) -> bool:
    """Whether a layer is a product with a quantized matrix, and nothing else."""
    return isinstance(layer, QuantizedLinear) and layer.scheme.activation_bits is None


def fused_log_probs(model: TokenPredictor, hidden: Tensor, target_ids: Tensor) -> Tensor:
    """hidden (N, D) from `model.hidden` and target_ids (N,) -> the log-probability (N,) of each target. What their gradients
    are multiplied by is known only after the loss, so the backward pass computes the logits of a chunk again.
    """
    return _fused_log_probs(model, hidden, target_ids, False, False)[0]


def fused_log_probs_and_entropy(
    model: TokenPredictor, hidden: Tensor, target_ids: Tensor
) -> tuple[Tensor, Tensor]:
    """As `fused_log_probs`, and the entropy (N,) of each distribution in nats, without a gradient. Up to `MAX_KEPT` logits
    are kept for the backward pass, the only (N, V) tensor; more are computed again.
    """
    keeps = torch.is_grad_enabled() and len(hidden) * len(weight_like(model.lm_head)) <= MAX_KEPT
    return _fused_log_probs(model, hidden, target_ids, keeps, True)


def _fused_log_probs(
    model: TokenPredictor, hidden: Tensor, target_ids: Tensor, keeps: bool, with_entropy: bool
) -> tuple[Tensor, Tensor]:
    head: Any = model.lm_head
    inputs = (model.head_input(hidden), head.weight, head.bias, target_ids)
    found: tuple[Tensor, Tensor] = _FusedLogProbs.apply(*inputs, keeps, with_entropy)
    return found


def _allocators(n_rows: int) -> tuple[Callable[[Tensor], Tensor], ...]:
    """Of the gradients of rows, weight, bias and replaced rows: the chunks write the first two, if there are any."""
    written = torch.empty_like if n_rows else torch.zeros_like
    return written, written, torch.zeros_like, torch.zeros_like


def _chunks(n_rows: int, vocab_size: int, n_elements: int = CHUNK_ELEMENTS) -> Iterator[slice]:
    size = max(1, n_elements // vocab_size)
    return (slice(start, start + size) for start in range(0, n_rows, size))


class _FusedLogProbs(torch.autograd.Function):
    """Keeps the normaliser of each row, and with `keeps` the log distribution instead of computing it again."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target_ids: Tensor,
        keeps: bool,
        with_entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        found, normalizers, entropies = (hidden.new_empty(len(hidden)) for _ in range(3))
        kept = hidden.new_empty(len(hidden), len(weight)) if keeps else None
        for part in _chunks(len(hidden), len(weight)):
            logs = torch.mm(hidden[part], weight.T, out=None if kept is None else kept[part])  # (C, V)
            if bias is not None:
                logs += bias
            normalizers[part] = logs.logsumexp(-1)
            logs -= normalizers[part, None]
            found[part] = logs.gather(1, target_ids[part, None])[:, 0]
            if with_entropy:
                entropies[part] = -torch.bmm(logs.exp()[:, None], logs[:, :, None])[:, 0, 0]
        ctx.save_for_backward(hidden, weight, bias, target_ids, normalizers, kept)
        ctx.mark_non_differentiable(entropies)
        return found, entropies

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, target_ids, normalizers, kept = ctx.saved_tensors
        grad_hidden, grad_weight, grad_bias = (
            allocate(tensor) if tensor is not None and needed else None
            for tensor, needed, allocate in zip(
                (hidden, weight, bias), ctx.needs_input_grad, _allocators(len(hidden)), strict=False
            )
        )
        for part in _chunks(len(hidden), len(weight)):
            if kept is not None:
                probabilities = kept[part].exp()
            else:
                logits = nn.functional.linear(hidden[part], weight, bias)
                probabilities = logits.sub_(normalizers[part, None]).exp_()
            slope = probabilities.mul_(-grad[part, None])  # -p
            slope.scatter_add_(1, target_ids[part, None], grad[part, None])
            if grad_hidden is not None:
                torch.mm(slope, weight, out=grad_hidden[part])
            if grad_weight is not None:  # the first chunk writes, as in `_FusedLinearLoss`
                grad_weight.addmm_(slope.T, hidden[part], beta=0 if part.start == 0 else 1)
            if grad_bias is not None:
                grad_bias += slope.sum(0)
        return grad_hidden, grad_weight, grad_bias, None, None, None


class _FusedLinearLoss(torch.autograd.Function):
    """Computes the gradients in the forward pass and scales them in the backward pass. `rows` (K, D), if any, replace the
    weight's rows `token_ids` (K,). A quantized weight is frozen, and never dequantized as a whole.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor | QuantizedTensor,
        bias: Tensor | None,
        rows: Tensor | None,
        token_ids: Tensor | None,
        logits_grad: LogitsGrad,
    ) -> Tensor:
        if isinstance(weight, QuantizedTensor):
            return _quantized_loss(ctx, hidden, weight, bias, rows, token_ids, logits_grad)
        grad_hidden, grad_weight, grad_bias, grad_rows = (
            allocate(tensor) if tensor is not None and needed else None
            for tensor, needed, allocate in zip(
                (hidden, weight, bias, rows), ctx.needs_input_grad, _allocators(len(hidden)), strict=False
            )
        )
        full_weight = weight
        if rows is not None and token_ids is not None:
            full_weight = weight.index_copy(
                0, token_ids, rows.to(weight.dtype)
            )  # costs V x D, less than the logits
        total = hidden.new_zeros((), dtype=torch.float64)
        n_elements = (
            CHUNK_ELEMENTS if weight.numel() > SMALL_MATRIX else min(CHUNK_ELEMENTS, SMALL_CHUNK_ELEMENTS)
        )
        for part in _chunks(len(hidden), len(weight), n_elements):
            vectors = hidden[part]
            loss, slope = logits_grad(nn.functional.linear(vectors, full_weight, bias), part)  # (C, V)
            total += loss
            if grad_hidden is not None:
                torch.mm(slope, full_weight, out=grad_hidden[part])
            if grad_bias is not None:
                grad_bias += slope.sum(0)
            if grad_rows is not None:
                grad_rows.addmm_(slope[:, token_ids].T, vectors)
            if grad_weight is not None:
                if token_ids is not None:
                    slope[:, token_ids] = 0
                # the first chunk writes: adding to zeros would pass over V x D numbers twice more
                grad_weight.addmm_(slope.T, vectors, beta=0 if part.start == 0 else 1)
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias, grad_rows)
        return total.to(hidden.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        scaled = (None if saved is None else saved.mul_(grad) for saved in ctx.saved_tensors)
        return (*scaled, None, None)


def _quantized_loss(
    ctx: Any,
    hidden: Tensor,
    weight: QuantizedTensor,
    bias: Tensor | None,
    rows: Tensor | None,
    token_ids: Tensor | None,
    logits_grad: LogitsGrad,
) -> Tensor:
    """The forward pass of `_FusedLinearLoss` with a quantized weight."""
    needs_hidden, _, needs_bias, needs_rows, *_ = ctx.needs_input_grad
    grad_hidden = torch.empty_like(hidden) if needs_hidden else None
    grad_bias = torch.zeros_like(bias) if bias is not None and needs_bias else None
    grad_rows = torch.zeros_like(rows) if rows is not None and needs_rows else None
    total = hidden.new_zeros((), dtype=torch.float64)
    for part in _chunks(len(hidden), weight.shape[0], QUANTIZED_CHUNK_ELEMENTS):
        vectors = hidden[part]
        logits = quantized_product(vectors, weight)
        if rows is not None and token_ids is not None:
            logits.index_copy_(1, token_ids, vectors @ rows.T)
        loss, slope = logits_grad(logits if bias is None else logits + bias, part)  # (C, V)
        total += loss
        if grad_bias is not None:
            grad_bias += slope.sum(0)
        if rows is not None and token_ids is not None:
            of_rows = slope[:, token_ids]
            slope[:, token_ids] = 0
            if grad_rows is not None:
                grad_rows.addmm_(of_rows.T, vectors)
        if grad_hidden is not None:
            grad_hidden[part] = transposed_product(slope, weight)
            if rows is not None:
                grad_hidden[part] += of_rows @ rows
    ctx.save_for_backward(grad_hidden, None, grad_bias, grad_rows)
    return total.to(hidden.dtype)
