"""Prefix tuning (Li and Liang 2021) and prompt tuning (Lester et al. 2021) as one wrapper around a decoder's trunk.

Virtual tokens act on the tokens behind them only through their keys and values. So both methods put keys and values
before those of the tokens in every layer: prefix tuning trains them, prompt tuning trains vectors from which the trunk
computes them, once a forward pass for all rows. They are not in the key-value cache, whose slots hold the tokens as
usual; tokens begin at position N. Every document of a packed row attends to the whole prefix.

Shapes: B rows, T new tokens, S tokens in all, N prefix tokens, G key-value heads, D head_dim, L layers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from parakit.model.adapters.lora import Wrapper
from parakit.model.backbones import Decoder
from parakit.model.config import DecoderConfig
from parakit.model.layers.attention import Cache
from parakit.model.layers.masks import causal_mask, expand_mask
from parakit.model.quantized.layers import weight_like

KeysValues = list[tuple[Tensor, Tensor]]


class PrefixedTrunk(Wrapper, ABC):
    """A decoder with keys and values before those of its tokens; subclasses provide them."""

    base: Decoder
    n_prompt_tokens: int

    def __init__(self, base: Decoder) -> None:
        super().__init__()
        self.base = base

    @property
    def config(self) -> DecoderConfig:
        """The base's: its context window includes the prefix."""
        config: DecoderConfig = self.base.config  # type: ignore[assignment]
        return config

    @property
    def blocks(self) -> nn.ModuleList:
        """The base's."""
        return self.base.blocks

    @property
    def token_embedding(self) -> nn.Embedding:
        """The base's."""
        return self.base.token_embedding

    @abstractmethod
    def keys_and_values(self) -> KeysValues:
        """Of every layer, (1, G, N, D) each."""

    def forward(
        self,
        input_ids: Tensor,
        *,
        position_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,
        **context: Any,
    ) -> Tensor:
        """As `Stack.forward`, with positions and masks of the tokens alone."""
        n, n_new = self.n_prompt_tokens, input_ids.shape[1]
        columns = torch.arange(n_new, device=input_ids.device)
        if position_ids is None:
            position_ids = columns
        inner = cache or _NullCache()
        slots, n_keys = columns if cache is None else position_ids, inner.seq_len + n_new
        if attention_mask is not None:
            attention_mask = expand_mask(attention_mask, slots, n_keys, causal=True)
        elif n_new > 1:  # a single token without a mask attends to every slot
            attention_mask = causal_mask(slots, n_keys)
        if attention_mask is not None:
            attention_mask = functional.pad(attention_mask, (n, 0), value=True)
        return self.base(
            input_ids,
            position_ids=position_ids + n,
            attention_mask=attention_mask,
            cache=_PrefixCache(self.keys_and_values(), inner),
            **context,
        )


class PrefixTrunk(PrefixedTrunk):
    """Trained keys and values: `prefix_embedding` (N, 2 L G D), as peft lays them out, keys before values."""

    def __init__(self, base: Decoder, n_prompt_tokens: int) -> None:
        super().__init__(base)
        self.n_prompt_tokens = n_prompt_tokens
        config = self.config
        width = 2 * config.n_layers * config.n_kv_heads * config.head_dim
        like = weight_like(base.token_embedding)
        self.prefix_embedding = nn.Parameter(
            torch.empty(n_prompt_tokens, width, dtype=like.dtype, device=like.device)
        )

    def keys_and_values(self) -> KeysValues:
        """Straight from the parameter."""
        config = self.config
        shape = (self.n_prompt_tokens, 2 * config.n_layers, config.n_kv_heads, config.head_dim)
        layers = self.prefix_embedding.view(shape).permute(1, 2, 0, 3)[:, None]  # (2 L, 1, G, N, D)
        return [(layers[2 * layer], layers[2 * layer + 1]) for layer in range(config.n_layers)]

    @torch.no_grad()
    def set_keys_and_values(self, layers: KeysValues) -> None:
        """Initialize with these keys and values, (1, G, N, D) each."""
        flat = [side[0].transpose(0, 1) for pair in layers for side in pair]  # 2 L of (N, G, D)
        self.prefix_embedding.copy_(torch.stack(flat, dim=1).flatten(1))


class PromptTrunk(PrefixedTrunk):
    """Trained vectors: `prompt_embedding` (N, d_model), which the trunk reads like embedded tokens."""

    def __init__(self, base: Decoder, n_prompt_tokens: int) -> None:
        super().__init__(base)
        self.n_prompt_tokens = n_prompt_tokens
        like = weight_like(base.token_embedding)
        self.prompt_embedding = nn.Parameter(
            torch.empty(n_prompt_tokens, like.shape[1], dtype=like.dtype, device=like.device)
        )
        self._cached: tuple[Any, KeysValues] | None = None

    def keys_and_values(self) -> KeysValues:
        """Computed by the trunk from the vectors; cached between decoding steps, as long as no weight changes."""
        if torch.is_grad_enabled() or self.training:
            self._cached = None
            return compute_keys_and_values(self.base, self.prompt_embedding[None])
        state = [(p.data_ptr(), p._version) for p in self.parameters()]
        if self._cached is None or self._cached[0] != state:
            self._cached = state, compute_keys_and_values(self.base, self.prompt_embedding[None])
        return self._cached[1]


def compute_keys_and_values(trunk: Decoder, vectors: Tensor) -> KeysValues:
    """Keys and values (1, G, N, D) of every layer for vectors (1, N, d_model) at the start of a text."""
    recording = _RecordingCache()
    trunk.from_vectors(vectors, cache=recording)
    return recording.layers


class _NullCache:
    """A cache without earlier tokens that stores nothing."""

    seq_len = 0

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        return key, value

    def new_tokens(self, n_new: int) -> Tensor | None:
        return None

    def state(self, layer: int) -> tuple[Tensor, Tensor] | None:
        return None

    def set_state(self, layer: int, tail: Tensor, matrix: Tensor, n_new: int) -> None:
        return None

    def source(self, layer: int) -> tuple[Tensor, Tensor] | None:
        return None

    def set_source(self, layer: int, key: Tensor, value: Tensor) -> None:
        return None


class _RecordingCache(_NullCache):
    """Records the keys and values of a single pass."""

    def __init__(self) -> None:
        self.layers: KeysValues = []

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        self.layers.append((key, value))
        return key, value


class _PrefixCache(_NullCache):
    """A cache that puts a prefix before the keys and values of another cache."""

    def __init__(self, prefix: KeysValues, inner: Cache) -> None:
        self.prefix, self.inner = prefix, inner
        self.seq_len = prefix[0][0].shape[2] + inner.seq_len

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.inner.update(layer, key, value)
        n_rows = key.shape[0]
        first, second = (
            torch.cat([prefix.expand(n_rows, -1, -1, -1).to(own.dtype), own], dim=2)
            for prefix, own in zip(self.prefix[layer], tokens, strict=True)
        )
        return first, second
