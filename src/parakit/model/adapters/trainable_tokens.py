"""Train the rows of a few tokens, such as control tokens that the base never saw, and freeze the rest of the embedding.

Low-rank factors cannot give a new token a vector of its own, and without one a chat model does not learn to end its
turn. Where the output matrix is tied to the embedding, both share the trained rows.

Shapes: K trained tokens, V vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from parakit.model.adapters.lora import Wrapper
from parakit.model.quantized.layers import weight_like, weight_rows


class _TrainableRows(Wrapper):
    base: nn.Embedding | nn.Linear

    def __init__(
        self, base: nn.Embedding | nn.Linear, token_ids: Sequence[int], rows: nn.Parameter | None
    ) -> None:
        super().__init__()
        self.base, self.token_ids = base, tuple(token_ids)
        chosen = torch.tensor(self.token_ids, device=weight_like(base).device)
        self.rows = rows if rows is not None else nn.Parameter(weight_rows(base, chosen))  # (K, D)

    @property
    def weight(self) -> Tensor:
        """The base's; of a quantized one dequantized each time: for its dtype and device see `weight_like`."""
        return self.base.weight

    @torch.no_grad()
    def merged_weight(self) -> Tensor:
        """(V, D) float64: the base's weight with the trained rows."""
        merged = self.base.weight.detach().double().clone()
        merged[list(self.token_ids)] = self.rows.double()
        return merged


class TrainableTokens(_TrainableRows):
    """An embedding whose rows of some tokens train."""

    base: nn.Embedding

    def forward(self, token_ids: Tensor) -> Tensor:
        vectors: Tensor = self.base(token_ids)
        for row, token_id in zip(self.rows, self.token_ids, strict=True):
            vectors = torch.where((token_ids == token_id)[..., None], row, vectors)
        return vectors


class TrainableTokensHead(_TrainableRows):
    """An output matrix whose rows of some tokens train; `bias` stays the base's."""

    base: nn.Linear

    @property
    def bias(self) -> Tensor | None:
        """The base's."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., V)"""
        chosen = torch.tensor(self.token_ids, device=x.device)
        bias = None if self.base.bias is None else self.base.bias[chosen]
        logits: Tensor = self.base(x)  # in place: the logits are the largest tensor of a step
        return logits.index_copy_(-1, chosen, nn.functional.linear(x, self.rows, bias).to(logits.dtype))
