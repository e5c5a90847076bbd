"""A convolution of an encoder's embeddings over neighbouring tokens, added to the first block's (DeBERTa-v2-xlarge)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from parakit.common.errors import UserError
from parakit.model.layers.norms import Dropout, make_norm
from parakit.model.transformer_config import TransformerConfig

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "gelu": nn.functional.gelu}


class Convolution(nn.Module):
    """norm(x + act(conv(embedded))); padding is zero to it, as the places before and after a text are."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        d, size = config.d_model, config.conv_kernel_size
        self.conv = nn.Conv1d(d, d, size, padding=size // 2, groups=config.conv_groups)
        self.norm, self.dropout = make_norm(config), Dropout(config.dropout)
        self.activation = _ACTIVATIONS[config.conv_activation]

    def reset(self) -> None:
        """Initialize the weights: each feature is a sum of as many inputs as one of its filters has."""
        nn.init.normal_(self.conv.weight, std=self.conv.weight[0].numel() ** -0.5)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, embedded: Tensor, x: Tensor, attention_mask: Tensor | None) -> Tensor:
        """embedded and x (B, T, d_model), attention_mask (B, T), True = a real token -> (B, T, d_model)."""
        if attention_mask is not None:
            if attention_mask.ndim != 2:
                raise UserError(
                    "a convolution mixes neighbouring tokens and cannot keep packed documents apart",
                    "give each row one document and a mask (B, T)",
                )
            embedded = embedded * attention_mask[..., None]
        mixed = self.conv(embedded.mT).mT
        return self.norm(x + self.activation(self.dropout(mixed)))
