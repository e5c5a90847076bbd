"""The key-value cache: keys and values of earlier tokens, so that a new token costs one step instead of a whole pass.

Each row has its own length, and token i of a row is in slot i: a token's slot is its position. One rule therefore
serves prefill, decoding and any chunk: a token at position p may attend to slots 0..p. Later slots (padding of a
shorter prompt, truncated tokens) are masked and will be overwritten. Tensors are allocated once. For cross-attention
the cache also holds the source's keys and values, computed once, and the source's mask; they follow the rows. Recurrent
layers have a state instead of slots, which cannot be cut back to an earlier token: `expect` tells it before a pass how many
tokens of each row are real. Left out: pages shared between requests, and dropping what a sliding window no longer sees.

Shapes: B rows, G key-value heads, T new tokens, S slots or source tokens, D head_dim.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from parakit.inference.cache_dtype import to_cache
from parakit.model.config import DecoderConfig


class KVCache:
    """Keys and values of `n_rows` sequences of at most `max_seq_len` tokens each."""

    def __init__(
        self,
        config: DecoderConfig,
        n_rows: int,
        max_seq_len: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        compute_dtype: torch.dtype | None = None,
    ) -> None:
        """`compute_dtype`: of what attention reads from it; None: `dtype`."""
        self.compute_dtype = compute_dtype or dtype
        shape = (n_rows, config.n_kv_heads, max_seq_len, config.head_dim)
        # zeros: a masked slot still enters a product with 0, and 0 * NaN is NaN
        empty = (*shape[:2], 0, shape[3])  # recurrent layers have no slots
        shapes = [empty if config.is_recurrent(layer) else shape for layer in range(config.n_layers)]
        self.keys = [torch.zeros(each, device=device, dtype=dtype) for each in shapes]
        self.values = [torch.zeros(each, device=device, dtype=dtype) for each in shapes]
        self._states: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._state_lengths: list[int] | None = [0] * n_rows if config.delta_rule is not None else None
        self._expected: list[int] | None = None  # new tokens of each row in the next pass; None: all
        self.max_seq_len = max_seq_len
        self.seq_len = 0
        """Tokens of the longest row."""
        self.lengths = [0] * n_rows
        """Tokens of each row."""
        self._slots = torch.arange(max_seq_len, device=device)
        self._positions: torch.Tensor | None = None  # (B,) next slot of each row, where they differ
        self._targets: torch.Tensor | None = None  # (B * G * T,) where the current pass writes
        self.source_mask: torch.Tensor | None = None
        """(B, S) bool, True = a real token of the source; None where all are, or without a source."""
        scaling = config.rope_scaling
        longrope = scaling is not None and scaling.kind == "longrope"
        self.switch_len = scaling.original_max_seq_len if scaling is not None and longrope else None
        """The longest row whose angles are those of a short text (longrope); None: they do not depend on the length."""
        self._token_ids: list[list[int]] = [[] for _ in range(n_rows)]  # where `switches_angles`
        self._sources: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._source_of = list(range(n_rows))  # rows with equal numbers share a source

    @property
    def n_rows(self) -> int:
        return len(self.lengths)

    @property
    def switches_angles(self) -> bool:
        """Whether all of a row's keys get other angles once it is longer than the model's original context (longrope)."""
        return self.switch_len is not None

    def to_run(self, prompts: Sequence[Sequence[int]]) -> Sequence[Sequence[int]]:
        """What to run for each row's new tokens: these; or every row from its first token, where the angles of one
        switch, as `Phi3ForCausalLM` does. Records the tokens.
        """
        if self.switch_len is None:
            return prompts
        limit, before = self.switch_len, self.lengths
        rows = zip(self._token_ids, before, prompts, strict=True)
        self._token_ids = [[*ids[:length], *new] for ids, length, new in rows]
        switches = [
            0 < length <= limit < len(ids) for ids, length in zip(self._token_ids, before, strict=True)
        ]
        if not any(switches):
            return prompts
        self.truncate([0] * self.n_rows)
        return self._token_ids

    @property
    def is_ragged(self) -> bool:
        """Whether rows differ in length: steps then need a mask and scattered writes."""
        return self._positions is not None

    def position_ids(self, n_new: int) -> torch.Tensor:
        """Positions of the next `n_new` tokens: (T,) when all rows agree, else (B, T)."""
        if self._positions is None:
            return self._slots[self.seq_len : self.seq_len + n_new]
        return self._positions[:, None] + self._slots[:n_new]

    def attention_mask(self, n_new: int) -> torch.Tensor | None:
        """What the next `n_new` tokens may attend to: bool (B or 1, 1, T, S); None where plain causal attention does."""
        if self._positions is None and (n_new == 1 or self.seq_len == 0):
            return None
        slots = self._slots[: self.seq_len + n_new]
        mask = slots <= self.position_ids(n_new)[..., None]  # (B, T, S) or (T, S)
        return mask[:, None] if mask.ndim == 3 else mask[None, None]

    def update(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the new tokens' (B, G, T, D) to every row; return those (B, G, S, D) of all slots in use.

        The rows grow after the last layer's update, once per forward pass.
        """
        n_new = key.shape[2]
        end = self.seq_len + n_new
        assert end <= self.max_seq_len, f"{end} tokens in a cache made for {self.max_seq_len}"
        keys, values = self.keys[layer], self.values[layer]
        key, value = to_cache(key, keys.dtype), to_cache(value, values.dtype)
        if self._positions is None:
            keys[:, :, self.seq_len : end] = key
            values[:, :, self.seq_len : end] = value
        else:
            if self._targets is None:
                self._targets = self._target_slots(n_new, keys.shape[1])
            head_dim = keys.shape[3]
            keys.view(-1, head_dim).index_copy_(0, self._targets, key.reshape(-1, head_dim))
            values.view(-1, head_dim).index_copy_(0, self._targets, value.reshape(-1, head_dim))
        if layer == len(self.keys) - 1:
            self._grow(n_new)
        return keys[:, :, :end].to(self.compute_dtype), values[:, :, :end].to(self.compute_dtype)

    def expect(self, n_new: Sequence[int]) -> None:
        """In the next pass the first `n_new[b]` tokens of row b are real; the others are padding, to be truncated."""
        self._expected = list(n_new) if self._state_lengths is not None else None

    def new_tokens(self, n_new: int) -> torch.Tensor | None:
        """Which of the next `n_new` tokens are real, (B, T) bool; None: all. For recurrent layers."""
        if self._expected is None or all(n == n_new for n in self._expected):
            return None
        return self._slots[:n_new] < torch.tensor(self._expected, device=self._slots.device)[:, None]

    def state(self, layer: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """What a recurrent layer keeps of the tokens so far; None before the first."""
        return self._states.get(layer)

    def set_state(self, layer: int, tail: torch.Tensor, matrix: torch.Tensor, n_new: int) -> None:
        """Store what a recurrent layer keeps, after `n_new` more tokens (padding included) of every row."""
        self._states[layer] = tail.contiguous(), matrix
        if layer == len(self.keys) - 1:
            self._grow(n_new)

    def _grow(self, n_new: int) -> None:
        """Every row has `n_new` more tokens."""
        if self._state_lengths is not None:
            real = self._expected or [n_new] * self.n_rows
            self._state_lengths = [n + more for n, more in zip(self._state_lengths, real, strict=True)]
            self._expected = None
        self.seq_len += n_new
        self.lengths = [length + n_new for length in self.lengths]
        self._targets = None
        if self._positions is not None:
            self._positions = self._positions + n_new

    def grow(self, n_new: Sequence[int]) -> None:
        """Row b has `n_new[b]` more tokens, whose keys and values something else wrote into `keys` and `values`."""
        self._set_lengths([length + n for length, n in zip(self.lengths, n_new, strict=True)])

    def truncate(self, lengths: Sequence[int]) -> None:
        """Drop the newest tokens: row b keeps its first `lengths[b]`. Copies nothing. With recurrent layers only padding
        can be dropped.
        """
        assert self._state_lengths is None or self._state_lengths == list(lengths), (
            "a state cannot be cut back"
        )
        assert len(lengths) == self.n_rows
        assert all(0 <= new <= old for new, old in zip(lengths, self.lengths, strict=True))
        self._set_lengths(list(lengths))

    def source(self, layer: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Keys and values (B, G, S, D) of the rows' sources; None before `set_source`."""
        return self._sources.get(layer)

    def set_source(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Store the sources' keys and values, (B, G, S, D) each."""
        self._sources[layer] = key.contiguous(), value.contiguous()

    def select(self, rows: Sequence[int]) -> None:
        """Row i becomes the former row `rows[i]`; the others leave. Only rows that move are copied.

        A row may occur several times, as in beam search; more rows than before need a new allocation.
        """
        for tensors in (self.keys, self.values):
            tensors[:] = self._move(tensors, rows, range(self.n_rows), self.seq_len)
        if self._sources:
            for layer, pair in self._sources.items():
                key, value = self._move(pair, rows, self._source_of, pair[0].shape[2])
                self._sources[layer] = key, value
            if self.source_mask is not None:
                self.source_mask = self.source_mask[list(rows)]
        if self._state_lengths is not None:
            index = torch.tensor(list(rows), device=self._slots.device)
            for layer, (tail, matrix) in self._states.items():
                self._states[layer] = tail.index_select(0, index), matrix.index_select(0, index)
            self._state_lengths = [self._state_lengths[row] for row in rows]
        self._source_of = [self._source_of[row] for row in rows]
        self._token_ids = [self._token_ids[row] for row in rows]
        self._set_lengths([self.lengths[row] for row in rows])

    def _move(
        self, tensors: Sequence[torch.Tensor], rows: Sequence[int], contents: Sequence[int], used: int
    ) -> list[torch.Tensor]:
        """`tensors` (B, G, S, D) with the first `used` slots of row `rows[i]` in row i. Rows with equal numbers in
        `contents` have equal contents.
        """
        device = self._slots.device
        if len(rows) > self.n_rows:
            index = torch.tensor(rows, device=device)
            return [tensor.index_select(0, index) for tensor in tensors]
        moved = [i for i, row in enumerate(rows) if contents[i] != contents[row]]
        if moved:
            targets = torch.tensor(moved, device=device)
            sources = torch.tensor([rows[i] for i in moved], device=device)
            for tensor in tensors:
                tensor[:, :, :used].index_copy_(0, targets, tensor[:, :, :used].index_select(0, sources))
        return [tensor[: len(rows)] for tensor in tensors]

    def _set_lengths(self, lengths: list[int]) -> None:
        self.lengths = lengths
        self._targets = None
        self.seq_len = max(lengths, default=0)
        if all(length == self.seq_len for length in lengths):
            self._positions = None
        else:
            self._positions = torch.tensor(lengths, device=self._slots.device)

    def _target_slots(self, n_new: int, n_heads: int) -> torch.Tensor:
        """Indices of the new tokens in a (B * G * S, D) view, in the order of a flattened (B, G, T, D)."""
        heads = torch.arange(self.n_rows * n_heads, device=self._slots.device).view(self.n_rows, n_heads, 1)
        slots = self.position_ids(n_new)[:, None]  # (B, 1, T)
        return (heads * self.max_seq_len + slots).flatten()
