"""The router losses of a mixture of experts, which every objective adds while it trains.

They are means over the tokens of a micro-batch without padding, times the number of counted tokens. The load balance is
that of the micro-batch, so it depends on how a batch is split. In evaluation mode nothing is added.
"""

from __future__ import annotations

from torch import Tensor

from parakit.model.config import EncoderDecoderConfig, ModelConfig
from parakit.model.heads import TransformerModel
from parakit.model.layers.experts import count_choices, router_losses
from parakit.model.transformer_config import TransformerConfig


def with_router_loss(
    loss: Tensor,
    model: TransformerModel,
    token_mask: Tensor | None,
    n_counted: int,
    source_mask: Tensor | None = None,
) -> Tensor:
    """`loss` and, where `model` has experts and trains, the load-balancing loss and the z-loss of its last forward
    pass, by the config's coefficients; the pass is counted for `pop_expert_load`. token_mask (B, T) and
    source_mask (B, S), True = a real token; None: all.
    """
    config = _with_experts(model.config)
    if config is None or not model.training:
        return loss
    count_choices(model, token_mask, source_mask)
    balance, z = router_losses(model, token_mask, source_mask)
    return loss + n_counted * (config.balance_coef * balance + config.router_z_coef * z)


def _with_experts(config: ModelConfig) -> TransformerConfig | None:
    """The settings of the stack that has experts, the decoder's where both have."""
    stacks = (config.decoder, config.encoder) if isinstance(config, EncoderDecoderConfig) else (config,)
    return next((stack for stack in stacks if stack.n_experts), None)
