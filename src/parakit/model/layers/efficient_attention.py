"""Attention whose cost grows linearly with the length, because no query is compared with every key.

Local attention attends to a window: long sequences are split into blocks, and each attends to itself and its
neighbourhood (Beltagy et al. 2020, "Longformer", section 3.1). Linear attention replaces the softmax by a product of
features, so that keys and values can be summed independently of the query (Katharopoulos et al. 2020, eqs. 4 to 9);
causally it runs chunk by chunk with running sums. Low-rank attention first projects keys and values to a fixed length
(Wang et al. 2020, "Linformer", eq. 7). Left out: a cache of constant size; with a cache, a step of linear attention
attends to all cached keys, as softmax does.

Shapes: B batch, T new tokens, S attended tokens, H heads, D head_dim, C tokens of a chunk or block, N blocks,
K low_rank_len.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from parakit.common.errors import UserError
from parakit.model.layers.attention import Attention, SinkAttention
from parakit.model.transformer_config import TransformerConfig

CHUNK_LEN = 64
MIN_WEIGHT = 1e-6


class LocalAttention(Attention):
    """Softmax attention within a window: causal, the `sliding_window` newest tokens, the query included; else
    `sliding_window` // 2 to each side (Mistral; ModernBERT).

    Without a mask, or with one of keys (B, 1, 1, S), time and memory grow with T * window. A mask per pair (packed
    rows, new tokens behind a cache, relative positions) must be restricted to the window already.
    """

    def __init__(self, config: TransformerConfig, layer: int, causal: bool) -> None:
        super().__init__(config, layer, causal)
        assert config.sliding_window is not None
        self.window = config.sliding_window

    def attend(self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None) -> Tensor:
        """As `Attention.attend`; block by block where the mask is none or one of keys."""
        n_tokens = query.shape[2]
        of_keys = attention_mask is None or (
            attention_mask.dtype == torch.bool and attention_mask.shape[-2] == 1
        )
        if not of_keys or key.shape[2] != n_tokens:
            return super().attend(query, key, value, attention_mask)
        if attention_mask is None and n_tokens <= (self.window if self.causal else self.window // 2 + 1):
            return super().attend(query, key, value, None)
        block_len = min(max(self.window, CHUNK_LEN), n_tokens)
        left = self.window - 1 if self.causal else self.window // 2
        right = 0 if self.causal else left
        n_blocks = -(-n_tokens // block_len)
        span, missing = left + block_len + right, n_blocks * block_len - n_tokens
        mask = _window_mask(n_tokens, block_len, left, right, attention_mask, query.device)
        blocks = functional.pad(query, (0, 0, 0, missing)).unflatten(2, (n_blocks, block_len))
        around = (
            functional.pad(x, (0, 0, left, right + missing))
            .unfold(2, span, block_len)
            .mT  # (B, G, N, span, D)
            for x in (key, value)
        )
        query, key, value = (x.transpose(1, 2).flatten(0, 1) for x in (blocks, *around))  # blocks are rows
        mask = mask.expand(len(blocks), -1, -1, -1).reshape(-1, 1, block_len, span)
        mixed = super().attend(query, key, value, mask)  # (B * N, C, H * D)
        return mixed.view(len(blocks), -1, mixed.shape[-1])[:, :n_tokens]


class LocalSinkAttention(LocalAttention, SinkAttention):
    """Attention within a window, with a sink for each head (gpt-oss)."""


def _window_mask(
    n_tokens: int, block_len: int, left: int, right: int, key_mask: Tensor | None, device: torch.device
) -> Tensor:
    """Which keys around its block a query attends to: (B or 1, N, C, left + C + right). Always itself, so that no
    softmax of a padded row is empty; key_mask (B, 1, 1, T), True = a real token.
    """
    n_blocks, span = -(-n_tokens // block_len), left + block_len + right
    distance = torch.arange(block_len, device=device)[:, None] + left - torch.arange(span, device=device)
    near = (distance >= -right) & (distance <= left)  # (C, span)
    if key_mask is None:
        key_mask = torch.ones(1, 1, 1, n_tokens, dtype=torch.bool, device=device)
    around = functional.pad(key_mask[:, 0, 0], (left, right + n_blocks * block_len - n_tokens))
    return near & (around.unfold(1, span, block_len)[:, :, None] | (distance == 0))


class LinearAttention(Attention):
    """out_i = phi(q_i) sum_j phi(k_j) v_j^T / phi(q_i) sum_j phi(k_j), with phi(x) = elu(x) + 1.

    Rotary positions rotate queries and keys before phi. Dropout does not apply, as there are no attention weights. A
    mask of keys (B, 1, 1, S) is free; one per pair (packed rows, several tokens behind a cache) costs as much as softmax.
    """

    def attend(self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None) -> Tensor:
        """As `Attention.attend`, by features."""
        if self.n_groups > 1:
            key, value = key.repeat_interleave(self.n_groups, 1), value.repeat_interleave(self.n_groups, 1)
        with torch.autocast(query.device.type, enabled=False):  # long sums need float32
            mixed = self._mix(_features(query), _features(key), _at_least_float32(value), attention_mask)
        return mixed.to(value.dtype).transpose(1, 2).flatten(2)

    def _mix(self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Features (B, H, T or S, D) and values -> (B, H, T, D). A column of ones appended to the values gives the
        denominator by the same products.
        """
        value = functional.pad(value, (0, 1), value=1.0)
        if attention_mask is not None and attention_mask.shape[-2] == 1:  # the same keys for every query
            key, attention_mask = key * attention_mask.transpose(-2, -1), None
        if attention_mask is not None:
            mixed = ((query @ key.transpose(-2, -1)) * attention_mask) @ value
        elif query.shape[2] == 1:
            mixed = (query @ key.transpose(-2, -1)) @ value
        elif self.causal:
            mixed = _causal(query, key, value)
        else:
            mixed = query @ (key.transpose(-2, -1) @ value)
        return mixed[..., :-1] / mixed[..., -1:].clamp(min=MIN_WEIGHT)


def _features(x: Tensor) -> Tensor:
    return functional.elu(_at_least_float32(x)) + 1


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.itemsize < 4 else x


def _causal(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Each query with the keys up to its own: per pair within its chunk, by the sum of phi(k) v^T before it. Time and
    memory grow with T * (C + D).
    """
    n_tokens = query.shape[2]
    assert key.shape[2] == n_tokens, "several tokens behind a filled cache need a mask"
    padding = (0, 0, 0, -n_tokens % CHUNK_LEN)
    query, key, value = (
        functional.pad(x, padding).unflatten(2, (-1, CHUNK_LEN)) for x in (query, key, value)
    )  # (B, H, T / C, C, D)
    sums = (key.transpose(-2, -1) @ value).cumsum(2)  # (B, H, T / C, D, D + 1), each chunk included
    before = functional.pad(sums[:, :, :-1], (0, 0, 0, 0, 1, 0))
    within = (query @ key.transpose(-2, -1)).tril() @ value
    return (within + query @ before).flatten(2, 3)[:, :, :n_tokens]


class LowRankAttention(Attention):
    """Softmax attention to keys and values projected along the sequence by two trained matrices.

    Of the matrices (K, max_seq_len), a text uses as many columns as it has real tokens: padding uses none, on either
    side. Encoders only, and no packed rows: every projected key mixes all positions.
    """

    def __init__(self, config: TransformerConfig, layer: int, causal: bool) -> None:
        super().__init__(config, layer, causal)
        self.squeeze_key = nn.Parameter(torch.empty(config.low_rank_len, config.max_seq_len))
        self.squeeze_value = nn.Parameter(torch.empty(config.low_rank_len, config.max_seq_len))

    def reset(self) -> None:
        """Initialize the projection matrices."""
        for weight in (self.squeeze_key, self.squeeze_value):
            nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None) -> Tensor:
        """As `Attention.attend`, to the projected keys and values."""
        n_tokens, limit = key.shape[2], self.squeeze_key.shape[1]
        if n_tokens > limit:
            raise UserError(
                f"{n_tokens} tokens, and low-rank attention was made for {limit}",
                "truncate the text or raise max_seq_len",
            )
        if attention_mask is not None and attention_mask.shape[-2] != 1:
            raise UserError(
                "low-rank attention mixes all positions and cannot keep packed documents apart",
                "give each row one document and a mask (B, S), or choose attention: softmax or linear",
            )
        key = _project(key, self.squeeze_key, attention_mask)
        return super().attend(query, key, _project(value, self.squeeze_value, attention_mask), None)


def _project(x: Tensor, weight: Tensor, key_mask: Tensor | None) -> Tensor:
    """x (B, G, T, D) -> (B, G, K, D); key_mask (B, 1, 1, T), True = a real token."""
    if key_mask is None:
        return weight[:, : x.shape[2]] @ x
    positions = (key_mask.cumsum(-1) - 1).clamp(min=0)[:, 0, 0]  # (B, T): index among the real tokens
    columns = weight[:, positions].transpose(0, 1) * key_mask[:, 0]  # (B, K, T)
    return columns[:, None] @ x
