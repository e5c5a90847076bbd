"""Mixture of experts: several feed-forward layers, of which a router selects a few for every token.

Top-k routing with softmax weights (Shazeer et al. 2017; Jiang et al. 2024, "Mixtral", eq. 1), and shared experts that
process every token (Dai et al. 2024, "DeepSeekMoE"). Tokens are sorted by expert, and all experts run as grouped
matrix products instead of a loop. `routing` holds the router's result of the last forward pass, from which the
load-balancing loss (Fedus et al. 2021, eq. 4) and the z-loss (Zoph et al. 2022, eq. 5) are computed. Left out: a
capacity beyond which tokens are dropped.

Shapes: B rows, T tokens of a row, N tokens, E experts, K active experts, D d_model, F d_expert.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from parakit.model.layers.feed_forward import ACTIVATIONS, FeedForward, GatedFeedForward
from parakit.model.layers.norms import dropout
from parakit.model.transformer_config import TransformerConfig


@dataclass(frozen=True)
class Routing:
    """One layer's routing of one forward pass."""

    logits: Tensor  # (N, E) float32 at least
    chosen: Tensor  # (N, K) int64


class MixtureOfExperts(nn.Module):
    """sum over the K best experts of weight * expert(x), plus the shared experts' output."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.d_expert or config.d_ff
        n, d = config.n_experts, config.d_model
        self.n_active, self.normalize = config.n_active_experts, config.normalize_expert_weights
        self.activation, self.dropout = ACTIVATIONS[config.activation], config.feed_forward_dropout
        self.router = nn.Linear(d, n, bias=config.expert_bias)
        self.gate = nn.Parameter(torch.empty(n, width, d)) if config.gated else None
        self.up = nn.Parameter(torch.empty(n, width, d))
        self.down = nn.Parameter(torch.empty(n, d, width))
        self.inner = (
            nn.Identity()
        )  # a place for hooks: the chosen experts' neurons pass it, (N * K, F) sorted by expert
        shared = config.n_shared_experts
        kind = GatedFeedForward if config.shared_expert_gate else FeedForward
        self.shared = kind(config, shared * width) if shared else None
        self.routing: Routing | None = None
        self.choices: Tensor | None = None  # (E,): how often each was chosen, since `pop_expert_load`

    def reset(self) -> None:
        """Initialize the routed experts (shared ones are plain layers), whose output starts at zero."""
        for weight in (self.gate, self.up):
            if weight is not None:
                nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
        nn.init.zeros_(self.down)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        tokens = x.reshape(-1, x.shape[-1])  # (N, D)
        weights, chosen = self._route(tokens)
        order = chosen.flatten().argsort(stable=True)  # the N * K choices, sorted by expert
        ends = chosen.flatten().bincount(minlength=len(self.up)).cumsum(0)
        outputs = self._experts(tokens.index_select(0, order // self.n_active), ends)
        outputs = torch.empty_like(outputs).index_copy(0, order, outputs).view(*chosen.shape, -1)  # (N, K, D)
        mixed = (outputs * weights[..., None]).sum(1).to(x.dtype).view(x.shape)
        return mixed if self.shared is None else mixed + self.shared(x)

    def _route(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (N, K), at least float32, and indices (N, K) of each token's experts."""
        with torch.autocast(tokens.device.type, enabled=False):  # rounded logits may select other experts
            logits = self.router(tokens.to(self.up.dtype))
        logits = logits.float() if logits.itemsize < 4 else logits
        weights, chosen = logits.softmax(-1).topk(self.n_active, dim=-1)
        if self.normalize:
            weights = weights / weights.sum(-1, keepdim=True)
        self.routing = Routing(logits, chosen)
        if logits.requires_grad:  # the graph of the step must not outlive it
            logits.register_hook(lambda _: self._forget_graph())
        return weights, chosen

    def _experts(self, x: Tensor, ends: Tensor) -> Tensor:
        """Apply each expert to its rows of `x` (N * K, D), which end at `ends` (E,)."""
        inner = self.activation(grouped_product(x, self.up if self.gate is None else self.gate, ends))
        if self.gate is not None:
            inner = inner * grouped_product(x, self.up, ends)
        return grouped_product(self.inner(dropout(inner, self.dropout, self.training)), self.down, ends)

    def _forget_graph(self) -> None:
        if self.routing is not None:
            self.routing = Routing(self.routing.logits.detach(), self.routing.chosen)

    def __getstate__(self) -> dict[str, Any]:
        """Copies are made without the last routing: a tensor with a graph cannot be copied."""
        return self.__dict__ | {"routing": None, "choices": None}


class BiasedExperts(MixtureOfExperts):
    """Experts whose matrices have biases; with `glu_limit` their gate is clamped: (up + 1) * gate * sigmoid(alpha * gate),
    gate at most `glu_limit`, up within it on both sides (gpt-oss).
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.limit, self.alpha = config.glu_limit, config.glu_alpha
        n, width = self.up.shape[:2]
        self.gate_bias = nn.Parameter(torch.empty(n, width)) if config.gated else None
        self.up_bias = nn.Parameter(torch.empty(n, width))
        self.down_bias = nn.Parameter(torch.empty(n, config.d_model))

    def reset(self) -> None:
        """As `MixtureOfExperts.reset`, with biases of zero."""
        super().reset()
        for bias in (self.gate_bias, self.up_bias, self.down_bias):
            if bias is not None:
                nn.init.zeros_(bias)

    def _experts(self, x: Tensor, ends: Tensor) -> Tensor:
        counts = ends.diff(prepend=ends.new_zeros(1))
        expert = torch.arange(len(counts), device=x.device).repeat_interleave(counts)  # of each row
        inner = grouped_product(x, self.up, ends) + self.up_bias[expert]
        if self.gate is not None and self.gate_bias is not None:
            inner = self._gated(grouped_product(x, self.gate, ends) + self.gate_bias[expert], inner)
        else:
            inner = self.activation(inner)
        inner = self.inner(dropout(inner, self.dropout, self.training).to(x.dtype))
        return grouped_product(inner, self.down, ends) + self.down_bias[expert]

    def _gated(self, gate: Tensor, up: Tensor) -> Tensor:
        if self.limit is None:
            return self.activation(gate) * up
        gate, up = gate.clamp(max=self.limit), up.clamp(-self.limit, self.limit)
        return (up + 1) * gate * torch.sigmoid(gate * self.alpha)


def make_experts(config: TransformerConfig) -> MixtureOfExperts:
    """The experts of a layer."""
    return (BiasedExperts if config.expert_bias else MixtureOfExperts)(config)


def grouped_product(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """Rows of `x` (M, I) up to `ends[0]` times `weight[0]` (O, I) transposed, those up to `ends[1]` times
    `weight[1]`, and so on: (M, O).
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    n_aligned = 16 // x.element_size()  # PyTorch's grouped product requires rows of a multiple of 16 bytes
    aligned = x.shape[1] % n_aligned == 0 and weight.shape[1] % n_aligned == 0
    if aligned and x.dtype != torch.float64:
        return functional.grouped_mm(x, weight.transpose(1, 2), offs=ends.int())
    return _padded_product(x, weight, ends)


def _padded_product(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """The same for widths and types without a kernel in PyTorch: every group padded to the largest."""
    counts = ends.diff(prepend=ends.new_zeros(1))
    longest = int(counts.max())
    groups = torch.arange(len(weight), device=x.device).repeat_interleave(counts)
    rows = torch.arange(len(x), device=x.device) + groups * longest - (ends - counts)[groups]
    padded = x.new_zeros(len(weight) * longest, x.shape[1]).index_copy(0, rows, x)
    products = padded.view(len(weight), longest, x.shape[1]) @ weight.transpose(1, 2)
    return products.flatten(0, 1).index_select(0, rows)


def load_balancing_loss(routings: Sequence[Routing], token_mask: Tensor | None = None) -> Tensor:
    """E * sum over experts of the share of tokens that chose it times its mean probability, over the layers
    together; K where all is even. token_mask (B, T), True = counts.
    """
    chosen_sum = probability_sum = routings[0].logits.new_zeros(routings[0].logits.shape[1])
    weights = _token_weights(routings[0], token_mask)  # (N,)
    for routing in routings:
        chosen_sum = chosen_sum + _choices(routing, weights)
        probability_sum = probability_sum + (weights[:, None] * routing.logits.softmax(-1)).sum(0)
    n_tokens = len(routings) * weights.sum().clamp(min=1)
    return (chosen_sum * probability_sum).sum() / n_tokens.square() * len(chosen_sum)


def router_z_loss(routings: Sequence[Routing], token_mask: Tensor | None = None) -> Tensor:
    """Mean over tokens and layers of log(sum(exp(logits)))^2, which keeps the logits small."""
    weights = _token_weights(routings[0], token_mask)
    squares = torch.stack([routing.logits.logsumexp(-1).square() for routing in routings])  # (layers, N)
    return (squares.mean(0) * weights).sum() / weights.sum().clamp(min=1)


def router_losses(
    model: nn.Module, token_mask: Tensor | None = None, source_mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Load-balancing loss and z-loss of the last forward pass, zero without experts; call it before `backward`.

    token_mask (B, T), True = counts; source_mask (B, S) the same for an encoder-decoder's source. The mean over both
    stacks where both have experts.
    """
    stacks = [
        (routings, mask)
        for routings, mask in zip(_routings(model), (token_mask, source_mask), strict=False)
        if routings
    ]
    if not stacks:
        zero = next(model.parameters()).new_zeros((), dtype=torch.float32)
        return zero, zero
    balance = [load_balancing_loss(list(routings.values()), mask) for routings, mask in stacks]
    z = [router_z_loss(list(routings.values()), mask) for routings, mask in stacks]
    return torch.stack(balance).mean(), torch.stack(z).mean()


@torch.no_grad()
def expert_load(
    model: nn.Module, token_mask: Tensor | None = None, source_mask: Tensor | None = None
) -> dict[int, list[float]]:
    """For each layer with experts (numbered as `model.trunk.blocks`), the share of the last forward pass's
    choices that fell on each expert: they sum to 1. Masks as for `router_losses`.
    """
    load = {}
    for routings, mask in zip(_routings(model), (token_mask, source_mask), strict=False):
        for layer, routing in routings.items():
            load[layer] = _shares(_choices(routing, _token_weights(routing, mask)))
    return dict(sorted(load.items()))


@torch.no_grad()
def count_choices(
    model: nn.Module, token_mask: Tensor | None = None, source_mask: Tensor | None = None
) -> None:
    """Add the last forward pass's choices to those that `pop_expert_load` returns. Masks as for `router_losses`."""
    for experts_of_stack, mask in zip(_experts_of(model), (token_mask, source_mask), strict=False):
        for experts in experts_of_stack.values():
            if experts.routing is not None:
                choices = _choices(experts.routing, _token_weights(experts.routing, mask))
                experts.choices = choices if experts.choices is None else experts.choices + choices


@torch.no_grad()
def pop_expert_load(model: nn.Module) -> dict[int, list[float]]:
    """As `expert_load`, over all passes counted since the last call; resets the counts."""
    load = {}
    for experts_of_stack in _experts_of(model):
        for layer, experts in experts_of_stack.items():
            if experts.choices is not None:
                load[layer] = _shares(experts.choices)
                experts.choices = None
    return dict(sorted(load.items()))


def _routings(model: nn.Module) -> tuple[dict[int, Routing], ...]:
    """By layer: of the stack that processes `input_ids`, and of an encoder-decoder's encoder."""
    return tuple(
        {layer: experts.routing for layer, experts in of_stack.items() if experts.routing is not None}
        for of_stack in _experts_of(model)
    )


def _experts_of(model: nn.Module) -> tuple[dict[int, MixtureOfExperts], ...]:
    """The layers with experts, stack by stack as in `_routings`."""
    trunk: Any = model.trunk
    if not hasattr(trunk, "encoder"):
        return (_of_blocks(trunk.blocks, 0),)
    n_first = len(trunk.encoder.blocks)
    return _of_blocks(trunk.decoder.blocks, n_first), _of_blocks(trunk.encoder.blocks, 0)


def _of_blocks(blocks: Iterable[nn.Module], first_layer: int) -> dict[int, MixtureOfExperts]:
    layers = ((layer, block.feed_forward) for layer, block in enumerate(blocks, start=first_layer))
    return {layer: experts for layer, experts in layers if isinstance(experts, MixtureOfExperts)}


def _token_weights(routing: Routing, token_mask: Tensor | None) -> Tensor:
    """1 for tokens that count and 0 for others, (N,) float32."""
    if token_mask is None:
        return routing.logits.new_ones(len(routing.logits))
    return token_mask.flatten().to(routing.logits)


def _choices(routing: Routing, token_weights: Tensor) -> Tensor:
    """How often each expert was chosen, (E,) float32."""
    each = token_weights[:, None].expand_as(routing.chosen).flatten()
    return each.new_zeros(routing.logits.shape[1]).index_add(0, routing.chosen.flatten(), each)


def _shares(choices: Tensor) -> list[float]:
    """Each expert's share of all choices (E,); zeros where there were none."""
    shares: list[float] = (choices / choices.sum().clamp(min=1)).tolist()
    return shares
