"""Token vectors to one vector of a text: pooling, dense layers, length 1 (Reimers & Gurevych 2019, section 3).

Several poolings are computed side by side and concatenated. Padding may be on either side, and the tokens of a prompt may
be left out of the pooling.

Shapes: B texts, T tokens, D width of a token, P width of a pooled vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from parakit.model.config import DenseConfig, EmbedderConfig

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    **{"identity": nn.Identity, "tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU},
    **{"silu": nn.SiLU, "sigmoid": nn.Sigmoid},
}


def pool(
    hidden: Tensor, attention_mask: Tensor | None, pooling: str | Sequence[str], n_prompt: int = 0
) -> Tensor:
    """Token vectors (B, T, D) -> one vector per row, (B, D), or (B, n * D) of n poolings.

    attention_mask (B, T), True = a real token. The first `n_prompt` real tokens of each row are left out.
    """
    modes = (pooling,) if isinstance(pooling, str) else pooling
    if attention_mask is None and not n_prompt and modes in (("mean",), ("cls",), ("last",)):
        return {"mean": lambda: hidden.mean(1), "cls": lambda: hidden[:, 0], "last": lambda: hidden[:, -1]}[
            modes[0]
        ]()
    mask = hidden.new_ones(hidden.shape[:2]) if attention_mask is None else attention_mask
    places = torch.arange(hidden.shape[1], device=hidden.device) - mask.int().argmax(1)[:, None]  # (B, T)
    mask = mask.bool() & (places >= n_prompt)
    return torch.cat([_pooled(hidden, mask, places, mode) for mode in modes], -1)


def _pooled(hidden: Tensor, mask: Tensor, places: Tensor, mode: str) -> Tensor:
    """One pooling over the tokens of `mask`; `places` counts a row's real tokens from 0."""
    if mode in ("cls", "last"):
        index = mask.int().argmax(1) if mode == "cls" else ((places + 1) * mask).argmax(1)
        return hidden[torch.arange(len(hidden), device=hidden.device), index]
    if mode == "max":
        return hidden.masked_fill(~mask[..., None], -torch.inf).amax(1)
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    weights = (mask * (places + 1) if mode == "weighted_mean" else mask).to(dtype)[..., None]
    total = weights.sum(1).clamp(min=1)
    total = total.sqrt() if mode == "mean_sqrt_len" else total
    return ((hidden * weights).sum(1, dtype=dtype) / total).to(hidden.dtype)


class Dense(nn.Module):
    """activation(linear(x)), with `residual` plus x, or plus a matrix of x where the widths differ."""

    def __init__(self, d_input: int, config: DenseConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(d_input, config.d_output, bias=config.bias)
        self.activation = _ACTIVATIONS[config.activation]()
        self.has_residual = config.residual
        if config.residual and d_input != config.d_output:
            self.residual: nn.Module = nn.Linear(d_input, config.d_output, bias=False)
        else:
            self.residual = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.activation(self.linear(x))
        return projected + self.residual(x) if self.has_residual else projected


def dense_layers(config: EmbedderConfig, d_output: int) -> nn.ModuleList:
    """The dense layers of `config` on a trunk whose vectors have `d_output` features."""
    widths = config.widths(d_output)
    return nn.ModuleList(map(Dense, widths, config.dense))


def text_vectors(
    hidden: Tensor,
    attention_mask: Tensor | None,
    config: EmbedderConfig,
    layers: Iterable[nn.Module] = (),
    n_prompt: int = 0,
) -> Tensor:
    """Token vectors (B, T, D) -> vectors of texts (B, P). `n_prompt`: tokens of a prompt, special tokens before it
    included; they are left out where the config says so.
    """
    vectors = pool(hidden, attention_mask, config.pooling, 0 if config.include_prompt else n_prompt)
    for layer in layers:
        vectors = layer(vectors)
    if config.normalize:
        vectors = nn.functional.normalize(vectors, dim=-1)
    return vectors if config.truncate_dim is None else vectors[..., : config.truncate_dim]
