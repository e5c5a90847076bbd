"""Models: a backbone (`trunk`) and a head.

`LanguageModel` predicts the next token, `MaskedLanguageModel` the masked ones, `SequenceToSequence` a target given a
source; `Classifier` scores labels, `RewardModel` gives one number, `Embedder` one vector.

Initial weights: embeddings and matrices are normal with deviation 0.02 and 1 / sqrt(inputs); the matrices that
write into the residual stream start at zero, so every block starts as the identity and depth costs no stability
(Zhang et al. 2019, "Fixup"; Yang et al. 2022, "Tensor Programs V", appendix D).

Shapes: B batch, T tokens, S source tokens, V vocabulary, L labels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from parakit.model.backbones import Decoder, Encoder, EncoderDecoder, Stack
from parakit.model.config import (
    ClassifierConfig,
    DecoderConfig,
    EmbedderConfig,
    EncoderConfig,
    EncoderDecoderConfig,
)
from parakit.model.layers.attention import Attention, SinkAttention
from parakit.model.layers.blocks import Block
from parakit.model.layers.convolution import Convolution
from parakit.model.layers.disentangled import DisentangledPositions
from parakit.model.layers.efficient_attention import LowRankAttention
from parakit.model.layers.experts import MixtureOfExperts
from parakit.model.layers.feed_forward import ACTIVATIONS, FeedForward
from parakit.model.layers.gated_delta import GatedDeltaRule
from parakit.model.layers.norms import (
    Dropout,
    HeadwiseLayerNorm,
    RMSNorm,
    ZeroCenteredRMSNorm,
    make_norm,
)
from parakit.model.layers.pooling import dense_layers, pool, text_vectors
from parakit.model.layers.positions import LearnedPositions, RelativePositions
from parakit.model.quantized.layers import weight_like
from parakit.model.transformer_config import TransformerConfig


class Transform(nn.Module):
    """norm(act(dense(x))), between an encoder's trunk and its output matrix (BERT, ModernBERT)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.d_token
        self.dense = nn.Linear(config.d_model, width, bias=config.has_transform_bias)
        self.activation = ACTIVATIONS[config.activation]
        self.norm = make_norm(config, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.activation(self.dense(x)))


class TokenPredictor(nn.Module):
    """A trunk and an output matrix over the vocabulary; tied, the matrix is the token embedding itself."""

    trunk: Encoder | Decoder | EncoderDecoder

    def _add_head(self, config: TransformerConfig) -> None:
        self.transform = Transform(config) if config.head_transform else nn.Identity()
        self.lm_head = nn.Linear(config.d_token, config.vocab_size, bias=config.lm_head_bias)
        if config.tie_embeddings:
            self.lm_head.weight = self.trunk.token_embedding.weight
        self.logit_scale, self.logit_soft_cap = config.logit_scale, config.logit_soft_cap
        self.reset()

    def head_input(self, hidden: Tensor) -> Tensor:
        """Vectors (..., d_model) from `hidden` to the inputs of the output matrix."""
        return hidden if self.logit_scale == 1.0 else hidden * self.logit_scale

    def logits(self, hidden: Tensor) -> Tensor:
        """Vectors (..., d_model) from `hidden` to logits (..., vocab_size)."""
        logits = self.lm_head(self.head_input(hidden))
        if self.logit_soft_cap is not None:
            logits = self.logit_soft_cap * torch.tanh(logits / self.logit_soft_cap)
        return logits

    @torch.no_grad()
    def reset(self) -> None:
        """Initialize the weights from torch's global generator."""
        reset_weights(self)
        if self.lm_head.weight is not self.trunk.token_embedding.weight:
            nn.init.zeros_(self.lm_head.weight)


class LanguageModel(TokenPredictor):
    """A decoder that predicts the next token."""

    trunk: Decoder

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config, self.trunk = config, Decoder(config)
        self._add_head(config)

    def hidden(self, input_ids: Tensor, **context: Any) -> Tensor:
        """The vectors (B, T, d_model) for `logits`; `context` as for `Stack.forward`."""
        return self.transform(self.trunk(input_ids, **context))

    def forward(self, input_ids: Tensor, **context: Any) -> Tensor:
        """input_ids (B, T) -> logits (B, T, V); `context` as for `Stack.forward`."""
        return self.logits(self.hidden(input_ids, **context))


class MaskedLanguageModel(TokenPredictor):
    """An encoder that predicts the tokens at masked positions (Devlin et al. 2019)."""

    trunk: Encoder

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config, self.trunk = config, Encoder(config)
        self._add_head(config)

    def hidden(self, input_ids: Tensor, **context: Any) -> Tensor:
        """The trunk's vectors (B, T, d_model); select the masked positions before `logits`."""
        return self.trunk(input_ids, **context)

    def head_input(self, hidden: Tensor) -> Tensor:
        """The inputs of the output matrix: the transform runs here, on the selected positions only."""
        return super().head_input(self.transform(hidden))

    def forward(self, input_ids: Tensor, **context: Any) -> Tensor:
        """input_ids (B, T) -> logits (B, T, V); `context` as for `Stack.forward`."""
        return self.logits(self.hidden(input_ids, **context))


class SequenceToSequence(TokenPredictor):
    """An encoder-decoder that predicts a target given a source (Vaswani et al. 2017; T5)."""

    trunk: EncoderDecoder

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.config, self.trunk = config, EncoderDecoder(config)
        self._add_head(config.decoder)

    def encode(self, source_ids: Tensor, **context: Any) -> Tensor:
        """source_ids (B, S) -> the source's vectors (B, S, d_model); `context` as for `Stack.forward`."""
        return self.trunk.encoder(source_ids, **context)

    def hidden(self, input_ids: Tensor, **context: Any) -> Tensor:
        """Target inputs (B, T) -> vectors (B, T, d_model). `context` as for `Stack.forward`: `source` is the
        result of `encode`, `source_mask` (B, S) or (B, 1, T, S), True = may be attended to.
        """
        return self.transform(self.trunk.decoder(input_ids, **context))

    def forward(
        self, source_ids: Tensor, input_ids: Tensor, *, source_mask: Tensor | None = None, **context: Any
    ) -> Tensor:
        """source_ids (B, S), input_ids (B, T) -> logits (B, T, V); source_mask (B, S), True = a real token."""
        source = self.encode(source_ids, attention_mask=source_mask)
        return self.logits(self.hidden(input_ids, source=source, source_mask=source_mask, **context))


HEAD_ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU}


class Classifier(nn.Module):
    """A trunk, and a score for every label: of the sequence, or of each token."""

    def __init__(self, config: EncoderConfig | DecoderConfig, classes: ClassifierConfig) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        self.trunk: Encoder | Decoder = Decoder(config) if config.family == "decoder" else Encoder(config)
        self.dense: nn.Module = nn.Identity()
        if classes.head == "transform":
            self.dense = Transform(config)
        elif classes.head != "linear":
            self.dense = nn.Sequential(
                nn.Linear(config.d_output, config.d_output), HEAD_ACTIVATIONS[classes.head]()
            )
        self.dropout = Dropout(config.dropout)
        self.label_head = nn.Linear(config.d_output, len(classes.labels), bias=classes.bias)
        self.reset()

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **context: Any) -> Tensor:
        """input_ids (B, T), attention_mask (B, T), True = a real token -> (B, L), or (B, T, L) per token."""
        hidden = self.trunk(input_ids, attention_mask=attention_mask, **context)
        if self.classes.level == "sequence":
            hidden = pool(hidden, attention_mask, self.classes.pooling)
        return self.label_head(self.dropout(self.dense(hidden)))

    @torch.no_grad()
    def reset(self) -> None:
        """Initialize the weights from torch's global generator."""
        reset_weights(self)
        nn.init.normal_(self.label_head.weight, std=0.02)


class RewardModel(nn.Module):
    """A trunk and one number for the whole sequence, read at its last token (Stiennon et al. 2020)."""

    def __init__(self, config: EncoderConfig | DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk: Encoder | Decoder = Decoder(config) if config.family == "decoder" else Encoder(config)
        self.reward_head = nn.Linear(config.d_output, 1, bias=False)
        self.reset()

    def hidden(self, input_ids: Tensor, **context: Any) -> Tensor:
        """The vectors (B, T, d_model) for `rewards`; `context` as for `Stack.forward`."""
        return self.trunk(input_ids, **context)

    def rewards(self, hidden: Tensor) -> Tensor:
        """Vectors (..., d_model) of last tokens to rewards (...)."""
        return self.reward_head(hidden).squeeze(-1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **context: Any) -> Tensor:
        """input_ids (B, T), attention_mask (B, T), True = a real token -> rewards (B,)."""
        hidden = self.hidden(input_ids, attention_mask=attention_mask, **context)
        return self.rewards(pool(hidden, attention_mask, "last"))

    @torch.no_grad()
    def reset(self) -> None:
        """Initialize the weights from torch's global generator; the reward starts at zero."""
        reset_weights(self)
        nn.init.zeros_(self.reward_head.weight)


class ActorCritic(nn.Module):
    """A language model with a value head that predicts the return at every token (Schulman et al. 2017). The head starts
    at zero, so at first it has no effect on the trunk's gradient.
    """

    def __init__(self, policy: LanguageModel) -> None:
        super().__init__()
        self.config, self.policy = policy.config, policy
        like = weight_like(policy.lm_head)
        self.value_head = nn.Linear(policy.config.d_output, 1, device=like.device, dtype=like.dtype)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    @property
    def trunk(self) -> Decoder:
        """The policy's own."""
        return self.policy.trunk

    def hidden(self, input_ids: Tensor, **context: Any) -> Tensor:
        """The policy's vectors (B, T, d_model)."""
        return self.policy.hidden(input_ids, **context)

    def logits(self, hidden: Tensor) -> Tensor:
        """Vectors (..., d_model) to logits (..., V)."""
        return self.policy.logits(hidden)

    def values(self, hidden: Tensor) -> Tensor:
        """Vectors (..., d_model) to values (...): the expected return before the next token."""
        return self.value_head(hidden).squeeze(-1)


class Embedder(nn.Module):
    """A trunk whose vectors are pooled into one vector per text, through dense layers where the config has any."""

    def __init__(self, config: EncoderConfig | DecoderConfig, pooling: EmbedderConfig) -> None:
        super().__init__()
        self.config, self.pooling = config, pooling
        self.trunk: Encoder | Decoder = Decoder(config) if config.family == "decoder" else Encoder(config)
        self.dense_layers = dense_layers(pooling, config.d_output)
        self.reset()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, n_prompt: int = 0, **context: Any
    ) -> Tensor:
        """input_ids (B, T), attention_mask (B, T), True = a real token -> (B, P), `pooling.d_vector` wide; `n_prompt` as
        for `text_vectors`.
        """
        hidden = self.trunk(input_ids, attention_mask=attention_mask, **context)
        return text_vectors(hidden, attention_mask, self.pooling, self.dense_layers, n_prompt)

    @torch.no_grad()
    def reset(self) -> None:
        """Initialize the weights from torch's global generator."""
        reset_weights(self)


TransformerModel = (
    LanguageModel
    | ActorCritic
    | MaskedLanguageModel
    | SequenceToSequence
    | Classifier
    | RewardModel
    | Embedder
)


_WITH_RESET = (
    MixtureOfExperts,
    LowRankAttention,
    SinkAttention,
    GatedDeltaRule,
    LearnedPositions,
    RelativePositions,
    DisentangledPositions,
    Convolution,
)


@torch.no_grad()
def reset_weights(model: nn.Module) -> None:
    """Initialize everything in `model` but a `lm_head`; see the top of this file."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name != "lm_head":
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
        elif isinstance(module, _WITH_RESET):
            module.reset()
        elif isinstance(module, ZeroCenteredRMSNorm):
            nn.init.zeros_(module.weight)
        elif isinstance(module, RMSNorm | nn.LayerNorm | HeadwiseLayerNorm) and module.weight is not None:
            nn.init.ones_(module.weight)
        if isinstance(module, nn.Linear | nn.LayerNorm) and module.bias is not None:
            nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, Stack):
            _reset_embeddings(module)
        elif isinstance(module, Block):
            _reset_attention(module)
        elif isinstance(module, FeedForward):
            nn.init.zeros_(module.down.weight)


def _reset_embeddings(stack: Stack) -> None:
    """The input of the first block has a deviation of 0.02, or of 1 where the embedding is scaled up to the magnitude of
    sines and cosines (Vaswani et al. 2017, section 3.4).
    """
    scale = stack.config.embedding_scale
    nn.init.normal_(stack.token_embedding.weight, std=0.02 if scale == 1.0 else 1 / scale)
    if stack.type_embedding is not None:
        nn.init.normal_(stack.type_embedding.weight, std=0.02)


def _reset_attention(block: Block) -> None:
    """Each block starts as the identity, and scores start as small as with the usual scale."""
    for attention in (block.attention, block.cross_attention):
        if attention is not None:
            nn.init.zeros_(attention.output.weight)
            if isinstance(attention, Attention) and attention.scale is not None:
                attention.query.weight *= attention.head_dim**-0.5 / attention.scale
