"""A small GPT in the shape of nanoGPT, and its training, in plain PyTorch.

LayerNorm before each part, GELU, learned positions, tied embeddings, no biases, no dropout; AdamW with weight decay 0.1
on matrices, gradients cut to a norm of 1, a linear warm-up and a cosine down to a tenth of the rate.

It is written to be no slower than it need be: fused AdamW, scaled_dot_product_attention, gradients set to None, and no
value read back inside the loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

Pace = Callable[[int], float]
"""Which part of the training is over after so many steps: from 0 at its begin to 1, where it ends."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a model; `seq_len` in tokens."""

    vocab_size: int
    n_layers: int = 4
    n_heads: int = 4
    d_model: int = 128
    seq_len: int = 64


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; `n_rows` sequences a step."""

    n_rows: int = 12
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    betas: tuple[float, float] = (0.9, 0.99)

    def rate(self, step: int, share: float) -> float:
        """The learning rate of a step, when `share` of what follows the warm-up is over."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / (self.warmup_steps + 1)
        return self.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * share)))


class Block(nn.Module):
    """Pre-norm attention and feed-forward. Legend: B sequences, T positions, D width, H heads."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.d_model
        self.n_heads = shape.n_heads
        self.attention_norm = nn.LayerNorm(width, bias=False)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.feed_forward_norm = nn.LayerNorm(width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, D) to (B, T, D)."""
        B, T, D = x.shape
        heads = self.query_key_value(self.attention_norm(x)).view(B, T, 3, self.n_heads, D // self.n_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # (B, H, T, D/H) each
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).reshape(B, T, D))
        return x + self.down(F.gelu(self.up(self.feed_forward_norm(x))))


class GPT(nn.Module):
    """The whole model; returns the summed cross-entropy in nats."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embedding = nn.Embedding(shape.vocab_size, shape.d_model)
        self.position_embedding = nn.Embedding(shape.seq_len, shape.d_model)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.n_layers))
        self.final_norm = nn.LayerNorm(shape.d_model, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                deep = name.endswith(("output.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * shape.n_layers) if deep else 0.02)

    def forward(self, input_ids: torch.Tensor, target_ids: torch.Tensor) -> torch.Tensor:
        """(B, T) and (B, T) to a sum over B*T positions."""
        x = self.token_embedding(input_ids) + self.position_embedding.weight[: input_ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.final_norm(x), self.token_embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1), target_ids.flatten(), reduction="sum")


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """Fused AdamW; only matrices decay."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, fused=True)


def train(
    model: GPT, ids: torch.Tensor, recipe: Recipe, pace: Pace, seed: int, compiled: bool = False
) -> int:
    """Train in place on random windows of `ids` (tokens of the whole text) until `pace` is 1; the number of steps."""
    optimizer = make_optimizer(model, recipe)
    generator = torch.Generator().manual_seed(seed)
    seq_len = model.shape.seq_len
    window = torch.arange(seq_len + 1)
    loss_of = torch.compile(model) if compiled else model
    step = 0
    while (share := pace(step)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step, share)
        starts = torch.randint(len(ids) - seq_len, (recipe.n_rows, 1), generator=generator)
        rows = ids[starts + window].long()  # (B, T + 1)
        loss = loss_of(rows[:, :-1], rows[:, 1:]) / (recipe.n_rows * seq_len)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
    return step


@torch.no_grad()
def mean_loss(model: GPT, ids: torch.Tensor, rows_at_once: int = 256) -> float:
    """Nats per token over every token but the first, in windows that do not overlap."""
    seq_len, n_predicted = model.shape.seq_len, len(ids) - 1
    whole = n_predicted // seq_len * seq_len
    total = 0.0
    rows = zip(
        ids[:whole].view(-1, seq_len).split(rows_at_once),
        ids[1 : whole + 1].view(-1, seq_len).split(rows_at_once),
        strict=True,
    )
    for input_ids, target_ids in rows:
        total += model(input_ids.long(), target_ids.long()).item()
    if whole < n_predicted:
        total += model(ids[None, whole:-1].long(), ids[None, whole + 1 :].long()).item()
    return total / n_predicted
