"""Heads: what a trunk's vectors are turned into. `LanguageModel` predicts the next token.

Initial weights: embeddings and matrices are normal with deviation 0.02 and 1 / sqrt(inputs); the two
matrices that write into the residual stream start at zero, so every block begins as the identity and depth
costs no stability (Zhang et al. 2019, "Fixup"; Yang et al. 2022, "Tensor Programs V", appendix D).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from parakit.model.attention import Cache
from parakit.model.blocks import DecoderBlock
from parakit.model.config import DecoderConfig
from parakit.model.decoder import Decoder


class LanguageModel(nn.Module):
    """A decoder and an output matrix; tied, the matrix is the token embedding itself."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder = Decoder(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.decoder.token_embedding.weight
        self.reset()

    def hidden(
        self,
        input_ids: Tensor,
        *,
        position_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """The trunk's vectors (B, T, d_model), from which `lm_head` makes logits."""
        return self.decoder(input_ids, position_ids=position_ids, attention_mask=attention_mask, cache=cache)

    def forward(
        self,
        input_ids: Tensor,
        *,
        position_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """input_ids (B, T) -> logits (B, T, vocab_size); see `Decoder.forward` for the other arguments."""
        hidden = self.hidden(input_ids, position_ids=position_ids, attention_mask=attention_mask, cache=cache)
        return self.lm_head(hidden)

    @torch.no_grad()
    def reset(self) -> None:
        """Draw fresh initial weights from torch's global generator."""
        for module in self.modules():
            if isinstance(module, nn.Linear) and module is not self.lm_head:
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
        nn.init.normal_(self.decoder.token_embedding.weight, std=0.02)
        if not self.config.tie_embeddings:
            nn.init.zeros_(self.lm_head.weight)
        for block in self.decoder.blocks:
            assert isinstance(block, DecoderBlock)
            nn.init.zeros_(block.attention.output.weight)
            nn.init.zeros_(block.feed_forward.down.weight)
