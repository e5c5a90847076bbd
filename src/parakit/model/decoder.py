"""The decoder trunk: token embedding, blocks, final norm. From token ids to one vector a token; heads live
in `heads.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from parakit.model.attention import Cache
from parakit.model.blocks import DecoderBlock
from parakit.model.config import DecoderConfig
from parakit.model.norms import RMSNorm
from parakit.model.positions import RotaryPositions


class Decoder(nn.Module):
    """A stack of causal blocks.

    Without `attention_mask` every row is one sequence under plain causal attention. Packed or padded
    rows bring a mask (True = may attend) and their own `position_ids`; with a cache, both are required
    as soon as earlier tokens are in it.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = RotaryPositions(config.head_dim, config.max_seq_len, config.rope_theta)
        self.blocks = nn.ModuleList(DecoderBlock(config, layer) for layer in range(config.n_layers))
        self.final_norm = RMSNorm(config.d_model, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        input_ids: Tensor,
        *,
        position_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """input_ids (B, T) -> hidden vectors (B, T, d_model); position_ids (B, T); attention_mask
        (B or 1, 1, T, S) bool.
        """
        x = self.dropout(self.token_embedding(input_ids))
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)
        rotation = self.positions(position_ids)
        for block in self.blocks:
            x = block(x, rotation, attention_mask, cache)
        return self.final_norm(x)
