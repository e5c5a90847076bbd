"""The feed-forward sublayer: two matrices with an activation between (Vaswani et al. 2017, eq. 2), or gated
by a third (Shazeer 2020, "GLU variants improve Transformer", eqs. 5 and 6).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from parakit.model.kernels.training import swiglu, swiglu_down
from parakit.model.layers.norms import dropout
from parakit.model.layers.projections import project
from parakit.model.transformer_config import TransformerConfig

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
    "squared_relu": lambda x: functional.relu(x).square(),  # So et al. 2021, "Primer"
}


class FeedForward(nn.Module):
    """down(act(gate(x)) * up(x)), or down(act(up(x))) without a gate."""

    def __init__(self, config: TransformerConfig, d_ff: int | None = None) -> None:
        super().__init__()
        width, bias = d_ff or config.d_ff, config.feed_forward_bias
        self.activation = ACTIVATIONS[config.activation]
        self.gate = nn.Linear(config.d_model, width, bias=bias) if config.gated else None
        self.up = nn.Linear(config.d_model, width, bias=bias)
        self.down = nn.Linear(width, config.d_model, bias=bias)
        self.dropout = config.feed_forward_dropout

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is None:
            return self._down(self.activation(self.up(x)))
        gate, up = project(x, self.gate, self.up)
        if self.activation is not functional.silu:
            return self._down(self.activation(gate) * up)
        if not (self.training and self.dropout) and (result := swiglu_down(gate, up, self.down)) is not None:
            return result
        inner = swiglu(gate, up)
        return self._down(functional.silu(gate) * up if inner is None else inner)

    def _down(self, inner: Tensor) -> Tensor:
        result: Tensor = self.down(dropout(inner, self.dropout, self.training))
        return result


class GatedFeedForward(FeedForward):
    """A feed-forward whose result is multiplied by a sigmoid of the token's vector (the shared expert of Qwen3.5)."""

    def __init__(self, config: TransformerConfig, d_ff: int | None = None) -> None:
        super().__init__(config, d_ff)
        self.output_gate = nn.Linear(config.d_model, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """As `FeedForward.forward`."""
        return super().forward(x) * self.output_gate(x).sigmoid()
