"""The three backbones: from token ids to one vector per token. Heads are in `heads.py`.

`Encoder` and `Decoder` are the same stack of blocks with bidirectional and with causal attention; `EncoderDecoder` joins
an encoder of a source with a decoder whose blocks also attend to it.

Shapes: B batch, T new tokens, S source or attended tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from parakit.model.config import EncoderDecoderConfig
from parakit.model.layers.attention import Cache, Rotation
from parakit.model.layers.blocks import BiasedBlock, Block, make_block
from parakit.model.layers.convolution import Convolution
from parakit.model.layers.disentangled import DisentangledPositions
from parakit.model.layers.masks import causal_mask, documents_of, expand_mask, narrow_mask
from parakit.model.layers.norms import Dropout, make_norm
from parakit.model.layers.positions import RelativePositions, RotaryPositions, make_positions
from parakit.model.recomputation import recompute_in_backward
from parakit.model.transformer_config import TransformerConfig


class Stack(nn.Module):
    """Token embedding, positions, blocks, final norm."""

    causal = False
    checkpointing = 0
    """Of how many blocks one is computed again in the backward pass instead of kept (Chen et al. 2016); 0: none."""

    def __init__(
        self, config: TransformerConfig, token_embedding: nn.Embedding | None = None, cross: bool = False
    ) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = token_embedding or nn.Embedding(config.vocab_size, config.d_token)
        self.type_embedding = (
            nn.Embedding(config.n_token_types, config.d_positions) if config.n_token_types else None
        )
        self.positions = (
            DisentangledPositions(config)
            if config.positions == "disentangled"
            else make_positions(config, self.causal)
        )
        self.relative_bias = RelativePositions(config, self.causal) if config.relative_bias else None
        self.local_positions = None
        if config.positions == "rotary" and config.local_rope_theta is not None:
            self.local_positions = RotaryPositions(
                config.rotary_dim or config.head_dim, config.max_seq_len, config.local_rope_theta
            )
        self.input_projection = self.output_projection = None
        if config.d_embedding is not None:
            bias = config.factorized_embedding
            self.input_projection = nn.Linear(config.d_embedding, config.d_model, bias=bias)
            if not config.factorized_embedding:
                self.output_projection = nn.Linear(config.d_model, config.d_embedding, bias=False)
        self.embedding_norm = (
            make_norm(config, config.d_positions) if config.embedding_norm else nn.Identity()
        )
        self.blocks = nn.ModuleList(
            make_block(config, layer, self.causal, cross) for layer in range(config.n_layers)
        )
        self.convolution = Convolution(config) if config.conv_kernel_size else None
        self.final_norm = make_norm(config) if config.final_norm else nn.Identity()
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        input_ids: Tensor,
        *,
        position_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        cache: Cache | None = None,
        source: Tensor | None = None,
        source_mask: Tensor | None = None,
    ) -> Tensor:
        """input_ids (B, T) -> hidden vectors (B, T, d_output).

        attention_mask bool, True = may attend: (B, S), the real keys, or (B or 1, 1, T, S), per pair; None: every row
        is one sequence without padding. Packed rows need the full mask and `position_ids` (B, T); so does a cache
        that holds earlier tokens.
        """
        return self.from_vectors(
            self.token_embedding(input_ids),
            position_ids=position_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            cache=cache,
            source=source,
            source_mask=source_mask,
        )

    def from_vectors(
        self,
        vectors: Tensor,
        *,
        position_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        cache: Cache | None = None,
        source: Tensor | None = None,
        source_mask: Tensor | None = None,
    ) -> Tensor:
        """As `forward`, from vectors (B, T, d_token) instead of token ids."""
        n_new = vectors.shape[1]
        index = torch.arange(n_new, device=vectors.device)
        if position_ids is None:
            position_ids = index
        n_keys = n_new
        if cache is not None:  # a token's slot is its position
            index, n_keys = position_ids, cache.seq_len + n_new
        if source_mask is not None and source_mask.ndim == 2:
            source_mask = source_mask[:, None, None, :]
        masks = *self._masks(attention_mask, index, n_keys), self._documents(attention_mask, cache, n_new)
        rotations = self._rotations(position_ids)
        if self.config.bias_per_layer:
            rotations = (self._buckets(index, n_keys),)
        x = embedded = self._embed(vectors, position_ids, token_type_ids)
        for number, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            inputs = (x, rotations[block.rotation], masks[block.mask], cache, source, source_mask)
            recomputed = self._recomputes(number) and torch.is_grad_enabled()
            x = recompute_in_backward(block, *inputs) if recomputed else block(*inputs)
            if number == 0 and self.convolution is not None:
                x = self.convolution(embedded, x, attention_mask)
        x = self.final_norm(x)
        return x if self.output_projection is None else self.output_projection(x)

    def _recomputes(self, number: int) -> bool:
        return self.checkpointing > 0 and number % self.checkpointing == 0

    def _embed(self, x: Tensor, position_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        if self.config.embedding_scale != 1.0:
            x = x * self.config.embedding_scale
        projected_last = self.config.factorized_embedding
        if self.input_projection is not None and not projected_last:
            x = self.input_projection(x)
        if self.type_embedding is not None:
            types = (
                token_type_ids if self.config.n_token_types > 1 else None
            )  # RoBERTa's one type is everybody's
            if types is None:
                types = torch.zeros(x.shape[:2], dtype=torch.int64, device=x.device)
            x = x + self.type_embedding(types)
        if self.positions is not None and self.config.positions in ("learned", "sinusoidal"):
            x = x + self.positions(position_ids).to(x.dtype)
        x = self.dropout(self.embedding_norm(x))
        return self.input_projection(x) if self.input_projection is not None and projected_last else x

    def _buckets(self, index: Tensor, n_keys: int) -> tuple[Tensor]:
        """The buckets of distances, for layers that have biases of their own."""
        first = self.blocks[0]
        assert isinstance(first, BiasedBlock)
        return (first.relative_bias.buckets_of(index, n_keys),)

    def _rotations(self, position_ids: Tensor) -> tuple[Rotation | None, ...]:
        """cos and sin of full layers and of local layers; None for layers without rotation. Of disentangled attention, the
        vectors of distances and their indices.
        """
        if isinstance(self.positions, DisentangledPositions):
            slots = torch.arange(position_ids.shape[-1], device=position_ids.device)
            return self.positions(slots), None, None
        if self.positions is None or self.config.positions != "rotary":
            return None, None, None
        full = self.positions(position_ids)
        return full, full if self.local_positions is None else self.local_positions(position_ids), None

    def _documents(self, attention_mask: Tensor | None, cache: Cache | None, n_new: int) -> Tensor | None:
        """The mask of recurrent layers; see `GatedDeltaRule.forward`."""
        if self.config.delta_rule is None:
            return None
        if cache is not None:
            return cache.new_tokens(n_new)
        if attention_mask is None or attention_mask.ndim == 2:
            return attention_mask
        return documents_of(attention_mask)

    def _masks(
        self, attention_mask: Tensor | None, index: Tensor, n_keys: int
    ) -> tuple[Tensor | None, Tensor | None]:
        """Of full layers and of local layers. With relative positions a mask is a bias that is added to the scores.
        Attention that never computes all pairs (local layers included) gets the mask of keys, (B, 1, 1, S).
        """
        of_keys, pairwise = None, n_keys != index.shape[-1]  # new tokens behind a filled cache
        if attention_mask is not None:
            pairwise = pairwise or attention_mask.ndim == 4
            of_keys = None if pairwise else attention_mask[:, None, None, :]
        if self.config.attention != "softmax" and of_keys is not None:
            return of_keys, of_keys
        full = expand_mask(attention_mask, index, n_keys, self.causal)
        if full is None and self.causal and self.config.bias_per_layer:
            full = causal_mask(index, n_keys)
        window = self.config.sliding_window
        relative = self.positions if self.relative_bias is None else self.relative_bias
        if isinstance(relative, RelativePositions):
            bias = relative(index, n_keys)
            if full is None and self.causal:
                full = causal_mask(index, n_keys)
            full = bias if full is None else bias.masked_fill(~full, -torch.inf)
        elif window is not None and not pairwise:
            return full, of_keys
        return full, full if window is None else narrow_mask(full, index, n_keys, window, self.causal)


class Encoder(Stack):
    """A stack in which every token attends to all others."""


class Decoder(Stack):
    """A stack in which every token attends to itself and those before it."""

    causal = True


class EncoderDecoder(nn.Module):
    """An encoder, and a decoder that attends to its output. They share the token embedding."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)
        self.decoder = Decoder(config.decoder, self.encoder.token_embedding, cross=True)

    @property
    def token_embedding(self) -> nn.Embedding:
        """The embedding that both sides share."""
        return self.encoder.token_embedding

    @property
    def blocks(self) -> list[nn.Module]:
        """The blocks of the encoder, then those of the decoder."""
        return [*self.encoder.blocks, *self.decoder.blocks]


def set_checkpointing(model: nn.Module, every: int) -> None:
    """Compute one block in `every` of each stack in `model` again in the backward pass; 0: none."""
    for module in model.modules():
        if isinstance(module, Stack):
            module.checkpointing = every
