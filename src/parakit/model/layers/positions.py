"""Encodings of token positions.

Rotary (Su et al. 2021, eq. 34, in the layout of GPT-NeoX and Llama: feature i is rotated with feature i + head_dim / 2),
with the usual kinds of scaling; sinusoidal (Vaswani et al. 2017, section 3.5, sines in the
first half of the features, cosines in the second, as Marian lays them out); learned; relative in buckets (Raffel et
al. 2020, section 2.1). Tables are computed in float64 and kept in float32 whatever the model's dtype: in bfloat16
positions beyond 256 would coincide.

Shapes: B batch, T new tokens, S attended tokens, H heads, D head_dim.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from parakit.model.kernels.training import rotated
from parakit.model.transformer_config import RopeScaling, TransformerConfig


class RotaryPositions(nn.Module):
    """Tables of cos and sin for every position up to `max_seq_len`; not saved with the weights."""

    def __init__(
        self, head_dim: int, max_seq_len: int, theta: float, scaling: RopeScaling | None = None
    ) -> None:
        super().__init__()
        self.head_dim, self.max_seq_len, self.theta, self.scaling = head_dim, max_seq_len, theta, scaling
        self.register_buffer("cos", torch.empty(0), persistent=False)
        self.register_buffer("sin", torch.empty(0), persistent=False)
        self.reset()

    def reset(self) -> None:
        """Fill the tables, (max_seq_len, head_dim) each, on the device where the module was built."""
        frequencies, factor = rotary_frequencies(self.head_dim, self.theta, self.scaling)
        angles = torch.outer(torch.arange(self.max_seq_len, dtype=torch.float64), frequencies)  # (S, D/2)
        cos, sin = (angles.cos() * factor).float(), (angles.sin() * factor).float()
        self.cos, self.sin = torch.cat([cos, cos], dim=-1), torch.cat([sin, sin], dim=-1)

    def forward(self, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin for `position_ids` (B, T) or (T,), each (B, 1, T, D) or (T, D)."""
        cos, sin = self.cos[position_ids], self.sin[position_ids]
        return (cos.unsqueeze(1), sin.unsqueeze(1)) if position_ids.ndim == 2 else (cos, sin)


class LongRopePositions(RotaryPositions):
    """Rotary positions with two tables (Ding et al. 2024, "LongRoPE"): that of the long factors for rows whose last
    position is beyond the original context, that of the short ones for the others.
    """

    def reset(self) -> None:
        """Fill the tables, (2, max_seq_len, head_dim) each."""
        assert self.scaling is not None
        plain = self.theta ** -(torch.arange(0, self.head_dim, 2, dtype=torch.float64) / self.head_dim)
        factors = torch.tensor([self.scaling.short_factors, self.scaling.long_factors], dtype=torch.float64)
        positions = torch.arange(self.max_seq_len, dtype=torch.float64)
        angles = positions[:, None] * (plain / factors)[:, None]  # (2, S, D/2)
        factor = _longrope_factor(self.scaling)
        cos, sin = (angles.cos() * factor).float(), (angles.sin() * factor).float()
        self.cos, self.sin = torch.cat([cos, cos], dim=-1), torch.cat([sin, sin], dim=-1)

    def forward(self, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """As `RotaryPositions.forward`."""
        assert self.scaling is not None
        assert self.scaling.original_max_seq_len is not None
        is_long = position_ids.amax(-1, keepdim=True) >= self.scaling.original_max_seq_len
        cos, sin = self.cos[is_long.long(), position_ids], self.sin[is_long.long(), position_ids]
        return (cos.unsqueeze(1), sin.unsqueeze(1)) if position_ids.ndim == 2 else (cos, sin)


def _longrope_factor(scaling: RopeScaling) -> float:
    """Of cos and sin."""
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    assert scaling.original_max_seq_len is not None
    if scaling.factor <= 1:
        return 1.0
    return math.sqrt(1 + math.log(scaling.factor) / math.log(scaling.original_max_seq_len))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate queries or keys `x` (B, H, T, D) by their positions' angles."""
    if (turned := rotated(x, cos, sin)) is not None:
        return turned
    left, right = x.chunk(2, dim=-1)
    quarter_turn = torch.cat([-right, left], dim=-1)
    return (x * cos + quarter_turn * sin).to(x.dtype)


def rotate_first(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """As `rotate`, of the first features only, as many as the tables have (GPT-NeoX)."""
    n_rotated = cos.shape[-1]
    return torch.cat([rotate(x[..., :n_rotated], cos, sin), x[..., n_rotated:]], dim=-1)


def rotary_frequencies(head_dim: int, theta: float, scaling: RopeScaling | None) -> tuple[Tensor, float]:
    """Radians per position of each pair of features, (D / 2,) float64, and the factor of cos and sin."""
    pairs = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
    if scaling is None:
        return theta**-pairs, 1.0
    if (
        scaling.kind == "linear"
    ):  # Chen et al. 2023, "Extending context window ... via positional interpolation"
        return theta**-pairs / scaling.factor, 1.0
    if scaling.kind == "ntk":  # a larger base, so that the slowest pair is slowed down by the factor
        return (theta * scaling.factor ** (head_dim / (head_dim - 2))) ** -pairs, 1.0
    if scaling.kind == "llama3":
        return _llama3(theta**-pairs, scaling), 1.0
    return _yarn(theta**-pairs, head_dim, theta, scaling)


def _llama3(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Slow pairs are slowed down, fast ones unchanged, those between interpolated (Llama 3.1)."""
    assert scaling.original_max_seq_len is not None
    rotations = scaling.original_max_seq_len * frequencies / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    keep = ((rotations - low) / (high - low)).clamp(0, 1)  # 1: unchanged
    return keep * frequencies + (1 - keep) * frequencies / scaling.factor


def _yarn(frequencies: Tensor, head_dim: int, theta: float, scaling: RopeScaling) -> tuple[Tensor, float]:
    """NTK by parts with a temperature on the scores (Peng et al. 2023, "YaRN", eqs. 17 to 22)."""
    assert scaling.original_max_seq_len is not None

    def pair_with(n_rotations: float) -> float:
        """Index of the pair that makes so many rotations within the original context."""
        length = scaling.original_max_seq_len or 0
        return head_dim * math.log(length / (n_rotations * 2 * math.pi)) / (2 * math.log(theta))

    first, last = pair_with(scaling.beta_fast), pair_with(scaling.beta_slow)
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    ramp = (torch.arange(head_dim // 2, dtype=torch.float64) - first) / max(last - first, 0.001)
    weight = ramp.clamp(0, 1)  # 1: scaled by the whole factor
    mixed = weight * frequencies / scaling.factor + (1 - weight) * frequencies
    factor = scaling.attention_factor
    if factor is None:
        factor = 0.1 * math.log(scaling.factor) + 1.0
    return mixed, factor


class LearnedPositions(nn.Module):
    """One trained vector per position; `offset` rows before position 0 are unused (BART has two)."""

    def __init__(self, max_seq_len: int, d_model: int, offset: int) -> None:
        super().__init__()
        self.offset = offset
        self.weight = nn.Parameter(torch.empty(max_seq_len + offset, d_model))
        self.reset()

    def reset(self) -> None:
        """Initialize the vectors, as small as the token embedding's."""
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, position_ids: Tensor) -> Tensor:
        """position_ids (B, T) or (T,) -> vectors (..., d_model)."""
        return nn.functional.embedding(position_ids + self.offset, self.weight)


class SinusoidalPositions(nn.Module):
    """A table of sines and cosines whose wavelengths grow from 2 pi to 10,000 * 2 pi; not saved. Position 0 is its row
    `offset`.
    """

    def __init__(self, max_seq_len: int, d_model: int, offset: int = 0, sinusoids: str = "vaswani") -> None:
        super().__init__()
        self.max_seq_len, self.d_model, self.offset, self.sinusoids = max_seq_len, d_model, offset, sinusoids
        self.register_buffer("table", torch.empty(0), persistent=False)
        self.reset()

    def reset(self) -> None:
        """Fill the table, (offset + max_seq_len, d_model)."""
        n_pairs, n_rows = self.d_model // 2, self.offset + self.max_seq_len
        if self.sinusoids == "tensor2tensor":  # in float32, as the published models were trained
            step = math.log(10_000) / max(n_pairs - 1, 1)
            frequencies = torch.exp(torch.arange(n_pairs).float() * -step)
        else:
            frequencies = 10_000.0 ** (-torch.arange(n_pairs, dtype=torch.float64) / n_pairs)
        angles = torch.outer(torch.arange(n_rows).to(frequencies.dtype), frequencies)
        self.table = torch.cat([angles.sin(), angles.cos()], dim=-1).float()

    def forward(self, position_ids: Tensor) -> Tensor:
        """position_ids (B, T) or (T,) -> vectors (..., d_model)."""
        return self.table[position_ids + self.offset]


class RelativePositions(nn.Module):
    """A trained bias per head and bucket of distances, added to the attention scores of every layer."""

    def __init__(self, config: TransformerConfig, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.n_buckets, self.max_distance = config.n_relative_buckets, config.max_relative_distance
        self.bias = nn.Embedding(config.n_relative_buckets, config.n_heads)

    def reset(self) -> None:
        """Initialize with zeros."""
        nn.init.zeros_(self.bias.weight)

    def forward(self, query_index: Tensor, n_keys: int) -> Tensor:
        """query_index (T,) or (B, T) -> (B or 1, H, T, S) to add to the scores."""
        return self.of_buckets(self.buckets_of(query_index, n_keys))

    def buckets_of(self, query_index: Tensor, n_keys: int) -> Tensor:
        """query_index (T,) or (B, T) -> the bucket of each query and key, (T, S) or (B, T, S)."""
        keys = torch.arange(n_keys, device=query_index.device)
        return self.buckets(keys - query_index[..., None])

    def of_buckets(self, buckets: Tensor) -> Tensor:
        """(T, S) or (B, T, S) -> the biases (B or 1, H, T, S)."""
        bias = self.bias(buckets).movedim(-1, -3)
        return bias if bias.ndim == 4 else bias[None]

    def buckets(self, offset: Tensor) -> Tensor:
        """Offsets (key minus query) to bucket indices: half of the buckets have one distance each, the other half grow
        logarithmically up to `max_distance` (T5, section 2.1).
        """
        n_buckets, first = self.n_buckets, torch.zeros_like(offset)
        if self.causal:
            distance = (-offset).clamp(min=0)
        else:
            n_buckets //= 2
            first, distance = (offset > 0).long() * n_buckets, offset.abs()
        exact = n_buckets // 2
        far = torch.log(distance.float().clamp(min=1) / exact) / math.log(self.max_distance / exact)
        far = (exact + (far * (n_buckets - exact)).long()).clamp(max=n_buckets - 1)
        return first + torch.where(distance < exact, distance, far)


def make_positions(config: TransformerConfig, causal: bool) -> nn.Module | None:
    """The positions of a stack: rotary, learned, sinusoidal, relative and shared by its layers, or none."""
    if config.positions == "rotary":
        width = config.rotary_dim or config.head_dim
        scaling = config.rope_scaling
        longrope = scaling is not None and scaling.kind == "longrope"
        kind = LongRopePositions if longrope else RotaryPositions
        return kind(width, config.max_seq_len, config.rope_theta, scaling)
    if config.positions == "learned":
        return LearnedPositions(config.max_seq_len, config.d_positions, config.position_offset)
    if config.positions == "sinusoidal":
        return SinusoidalPositions(
            config.max_seq_len, config.d_model, config.position_offset, config.sinusoids
        )
    shared = config.positions == "relative" and not config.bias_per_layer
    return RelativePositions(config, causal) if shared else None
