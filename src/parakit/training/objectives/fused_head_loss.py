"""The output matrix and the loss behind it (cross-entropy, or another of logits) as one operation, some rows at a time.

The logits of a batch are the widest tensors there are: forward and backward hold three of them and pass over each
several times. Here the gradients of a few rows are taken as soon as their logits are known, while these are still in
the processor's cache, and the logits are forgotten; the sum that comes out is the same. With a vocabulary of 32,000 the
head takes three quarters of the time and the memory of one chunk. Only for a plain output matrix, or one of which some
tokens' rows train, in full precision and outside compiled code; everything else takes the ordinary way.

Shapes: N counted tokens, C of them in a chunk, D width, V vocabulary, K tokens whose rows train.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from parakit.model.adapters.trainable_tokens import TrainableTokensHead
from parakit.model.heads import TokenPredictor

CHUNK_ELEMENTS = 2**22  # logits at a time

# Logits (C, V) of some rows, and which rows these are -> the sum of their losses, and what it changes by with each
# logit (C, V).
LogitsGrad = Callable[[Tensor, slice], tuple[Tensor, Tensor]]


def can_fuse_head(model: TokenPredictor, hidden: Tensor) -> bool:
    """Whether `joined_loss` computes what the model's `logits` and the loss behind them do."""
    head: nn.Module = model.lm_head
    plain = head.base if type(head) is TrainableTokensHead else head
    return (
        type(plain) is nn.Linear
        and not any(one._forward_hooks or one._forward_pre_hooks for one in (head, plain))
        and model.logit_soft_cap is None
        and hidden.dtype == plain.weight.dtype
        and hidden.dtype in (torch.float32, torch.float64)
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled(hidden.device.type)
        and not torch.compiler.is_compiling()
    )


def fused_cross_entropy(
    model: TokenPredictor, hidden: Tensor, target_ids: Tensor, label_smoothing: float
) -> Tensor:
    """hidden (N, D), as `model.hidden` gives it, and target_ids (N,) -> the summed cross-entropy in nats."""

    def logits_grad(logits: Tensor, part: slice) -> tuple[Tensor, Tensor]:
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
    """hidden (N, D), as `model.hidden` gives it -> the sum of a loss of its logits, which `slope_of` takes some rows
    at a time.
    """
    head: Any = model.lm_head
    rows, token_ids = None, None
    if type(head) is TrainableTokensHead:
        rows, token_ids = head.rows, torch.tensor(head.token_ids, device=hidden.device)
    loss: Tensor = _FusedLinearLoss.apply(
        model.head_input(hidden), head.weight, head.bias, rows, token_ids, logits_grad
    )
    return loss


class _FusedLinearLoss(torch.autograd.Function):
    """Gradients for a loss of weight 1 are made on the way forward, and scaled on the way back. `rows` (K, D)
    replace the weight's rows `token_ids` (K,), if there are any.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        rows: Tensor | None,
        token_ids: Tensor | None,
        logits_grad: LogitsGrad,
    ) -> Tensor:
        of_hidden, of_weight, of_bias, of_rows = (
            torch.zeros_like(given) if given is not None and wanted else None
            for given, wanted in zip((hidden, weight, bias, rows), ctx.needs_input_grad, strict=False)
        )
        whole = weight
        if rows is not None and token_ids is not None:
            whole = weight.index_copy(
                0, token_ids, rows.to(weight.dtype)
            )  # costs V x D, less than the logits
        total = hidden.new_zeros((), dtype=torch.float64)
        n_rows = max(1, CHUNK_ELEMENTS // len(weight))
        for start in range(0, len(hidden), n_rows):
            part = slice(start, start + n_rows)
            vectors = hidden[part]
            loss, slope = logits_grad(nn.functional.linear(vectors, whole, bias), part)  # (C, V)
            total += loss
            if of_hidden is not None:
                torch.mm(slope, whole, out=of_hidden[part])
            if of_bias is not None:
                of_bias += slope.sum(0)
            if of_rows is not None:
                of_rows.addmm_(slope[:, token_ids].T, vectors)
            if of_weight is not None:
                if token_ids is not None:
                    slope[:, token_ids] = 0
                of_weight.addmm_(slope.T, vectors)
        ctx.save_for_backward(of_hidden, of_weight, of_bias, of_rows)
        return total.to(hidden.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        scaled = (None if saved is None else saved * grad for saved in ctx.saved_tensors)
        return (*scaled, None, None)
