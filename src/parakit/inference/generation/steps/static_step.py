"""Decoding steps of fixed shapes, recorded once as a CUDA graph and replayed: one launch a step instead of hundreds.

At batch 1 a GPU finishes an operation faster than Python can launch the next one. A graph (CUDA programming guide,
"CUDA graphs") replays all of them, but reads and writes the same addresses each time: token ids and positions are copied
into fixed tensors, and attention covers a fixed number of slots, a multiple of `SLOT_STEP`, of which a mask hides those
beyond each row's position. A step of another shape records a new graph.

Shapes: B rows, G key-value heads, S slots, D head_dim, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard

import torch
from torch import Tensor

from parakit.inference.cache_dtype import to_cache
from parakit.inference.generation.kv_cache import KVCache
from parakit.model.heads import LanguageModel

SLOT_STEP = 256
N_EAGER_STEPS = 8  # recording costs about as much as so many steps; short completions do without
Step = Callable[[KVCache, Tensor], Tensor]


class _FixedSlots:
    """The `Cache` of a step of fixed shapes: row b writes its token into slot `positions[b]` of the KV cache's tensors and
    attends to its first `n_slots` slots.
    """

    def __init__(self, cache: KVCache, n_slots: int, positions: Tensor) -> None:
        self.keys, self.values, self.n_slots, self.positions = cache.keys, cache.values, n_slots, positions
        self.compute_dtype = cache.compute_dtype
        self.rows = torch.arange(cache.n_rows, device=positions.device)
        self.seq_len = n_slots - 1  # with the new token all slots count

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = self.keys[layer], self.values[layer]  # (B, G, S, D)
        keys[self.rows, :, self.positions] = to_cache(key[:, :, 0], keys.dtype)
        values[self.rows, :, self.positions] = to_cache(value[:, :, 0], values.dtype)
        return (
            keys[:, :, : self.n_slots].to(self.compute_dtype),
            values[:, :, : self.n_slots].to(self.compute_dtype),
        )

    def new_tokens(self, n_new: int) -> None:
        return None

    def source(self, layer: int) -> None:
        return None


class StaticStep:
    """`decode_step` of one model. `eager` computes the first steps of each shape; on a CPU nothing is recorded, so that
    tests compare the same function.
    """

    def __init__(self, model: LanguageModel, eager: Step, n_eager_steps: int = N_EAGER_STEPS) -> None:
        self.model, self.eager, self.n_eager_steps = model, eager, n_eager_steps
        self._shape: tuple[int, ...] = ()
        self._n_steps = 0  # of this shape
        self._replay: Callable[[], object] | None = None

    @torch.inference_mode()
    def __call__(self, cache: KVCache, token_ids: Tensor) -> Tensor:
        """Run one new token per row, (B,), through the model; logits (B, V) of the token after it."""
        n_slots = min(-(-(cache.seq_len + 1) // SLOT_STEP) * SLOT_STEP, cache.max_seq_len)
        shape = (cache.keys[0].data_ptr(), cache.n_rows, n_slots)
        if shape != self._shape:
            self._shape, self._n_steps, self._replay = shape, 0, None
        self._n_steps += 1
        if self._n_steps <= self.n_eager_steps:
            return self.eager(cache, token_ids)
        if self._replay is None:
            self._replay = self._record(cache, token_ids, n_slots)
        self._token_ids.copy_(token_ids)
        self._positions.copy_(torch.tensor(cache.lengths))
        self._replay()
        cache.grow([1] * cache.n_rows)
        return self._logits.clone()

    def _record(self, cache: KVCache, token_ids: Tensor, n_slots: int) -> Callable[[], object]:
        """What computes a step from `_token_ids` and `_positions` into `_logits`."""
        device = token_ids.device
        self._token_ids = token_ids.clone()
        self._positions = torch.tensor(cache.lengths, device=device)
        view, slots = _FixedSlots(cache, n_slots, self._positions), torch.arange(n_slots, device=device)

        def compute() -> None:
            allowed = slots <= self._positions[:, None]  # (B, S)
            hidden = self.model.hidden(
                self._token_ids[:, None],
                position_ids=self._positions[:, None],
                attention_mask=allowed[:, None, None],
                cache=view,
            )
            self._logits = self.model.logits(hidden[:, 0])

        if device.type != "cuda":
            return compute
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries choose their kernels in the first runs
            for _ in range(3):
                compute()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            compute()
        return graph.replay


def has_static_step(model: object) -> TypeGuard[LanguageModel]:
    """Whether every step of the model is the same sequence of operations: no recurrent layers, experts or angles that
    depend on the length.
    """
    if not isinstance(model, LanguageModel):
        return False
    config = model.config
    scaling = config.rope_scaling
    return (
        config.attention == "softmax"
        and config.delta_rule is None
        and config.n_experts == 0
        and not (scaling is not None and scaling.kind == "longrope")
    )
