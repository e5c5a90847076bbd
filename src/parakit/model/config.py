"""The shapes of the three families, without building anything. Imports no torch.

One vocabulary of choices describes every stack of blocks (`TransformerConfig`); a family sets the defaults:
`DecoderConfig` is Qwen3's shape, `EncoderConfig` ModernBERT's, `EncoderDecoderConfig` joins one of each. Every
choice since 2017 stays selectable: positions, norms and where they stand, activations, biases, attention.
What follows from a shape (parameters, floating-point operations) is worked out in `counts.py`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from parakit.common.errors import UserError
from parakit.common.settings import Config
from parakit.model import counts

Family = Literal["decoder", "encoder", "encoder-decoder"]
Positions = Literal["rotary", "learned", "sinusoidal", "relative", "none"]
Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "squared_relu"]


class RopeScaling(Config):
    """How rotary angles are stretched for contexts longer than the model was first trained on."""

    kind: Literal["linear", "ntk", "yarn", "llama3"]
    factor: float = Field(ge=1, description="how many times longer the context became")
    original_max_seq_len: int | None = Field(default=None, ge=1, description="context before (yarn, llama3)")
    beta_fast: float = Field(default=32.0, gt=0, description="yarn: turns above which nothing is stretched")
    beta_slow: float = Field(default=1.0, gt=0, description="yarn: turns below which all is stretched")
    attention_factor: float | None = Field(default=None, gt=0, description="yarn: None is 0.1 ln(factor) + 1")
    low_freq_factor: float = Field(default=1.0, gt=0, description="llama3")
    high_freq_factor: float = Field(default=4.0, gt=0, description="llama3")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.kind in ("yarn", "llama3") and self.original_max_seq_len is None:
            raise ValueError(f"rope scaling {self.kind!r} needs original_max_seq_len")
        if self.kind == "llama3" and self.high_freq_factor <= self.low_freq_factor:
            raise ValueError(
                f"high_freq_factor = {self.high_freq_factor} must exceed low_freq_factor = {self.low_freq_factor}"
            )
        if self.kind == "yarn" and self.beta_fast <= self.beta_slow:
            raise ValueError(f"beta_fast = {self.beta_fast} must exceed beta_slow = {self.beta_slow}")
        return self


class TransformerConfig(Config):
    """One stack of blocks. Widths are in features, counts in pieces, lengths in tokens."""

    family: ClassVar[Family]

    vocab_size: int = Field(ge=1)
    d_model: int = Field(ge=1)
    n_layers: int = Field(ge=1)
    n_heads: int = Field(ge=1)
    n_kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    d_ff: int = Field(ge=1)
    max_seq_len: int = Field(default=1024, ge=1)

    positions: Positions = "rotary"
    rope_theta: float = Field(default=10_000.0, gt=0)
    local_rope_theta: float | None = Field(default=None, gt=0, description="of local layers; None: the same")
    rope_scaling: RopeScaling | None = None
    position_offset: int = Field(default=0, ge=0, description="rows of learned positions before position 0")
    n_relative_buckets: int = Field(default=32, ge=2)
    max_relative_distance: int = Field(default=128, ge=2)

    attention: Literal["softmax", "linear", "low_rank"] = "softmax"
    low_rank_len: int = Field(default=128, ge=1, description="length that low_rank squeezes keys to")
    sliding_window: int | None = Field(default=None, ge=1, description="tokens that a local layer sees")
    local_layers: tuple[int, ...] | None = Field(default=None, description="None: all, given a window")
    attention_bias: bool = Field(default=False, description="of query, key and value")
    attention_output_bias: bool = False
    attention_scale: float | None = Field(default=None, gt=0, description="None: head_dim ** -0.5")
    attention_soft_cap: float | None = Field(default=None, gt=0)
    query_key_norm: bool = False

    norm: Literal["rms", "layer"] = "rms"
    norm_bias: bool = False
    norm_eps: float = Field(default=1e-6, gt=0)
    post_norm: bool = Field(default=False, description="norms after the residual sum, as in 2017")
    embedding_norm: bool = False
    final_norm: bool = True

    activation: Activation = "silu"
    gated: bool = True
    feed_forward_bias: bool = False
    n_experts: int = Field(default=0, ge=0, description="0: one dense feed-forward layer")
    n_active_experts: int = Field(default=2, ge=1)
    n_shared_experts: int = Field(default=0, ge=0, description="experts that every token passes")
    d_expert: int | None = Field(default=None, ge=1, description="width of an expert; None: d_ff")
    normalize_expert_weights: bool = True
    dense_layers: tuple[int, ...] = Field(default=(), description="layers without experts")
    balance_coef: float = Field(default=0.01, ge=0, description="of the load-balancing loss")
    router_z_coef: float = Field(default=0.0, ge=0, description="of the router's z-loss")

    embedding_scale: float = Field(default=1.0, gt=0)
    n_token_types: int = Field(default=0, ge=0)
    tie_embeddings: bool = True
    head_transform: bool = Field(
        default=False, description="dense, activation, norm before the output matrix"
    )
    lm_head_bias: bool = False
    logit_scale: float = Field(default=1.0, gt=0)
    logit_soft_cap: float | None = Field(default=None, gt=0)

    dropout: float = Field(default=0.0, ge=0, lt=1)
    attention_dropout: float | None = Field(default=None, ge=0, lt=1, description="None: as dropout")
    feed_forward_dropout: float = Field(default=0.0, ge=0, lt=1, description="between its two matrices")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads = {self.n_heads} is not a multiple of n_kv_heads = {self.n_kv_heads}")
        if self.positions == "rotary" and self.head_dim % 2:
            raise ValueError(
                f"head_dim = {self.head_dim} is odd, and rotary positions turn pairs of features"
            )
        if self.norm == "rms" and self.norm_bias:
            raise ValueError("norm_bias = True, and norm = 'rms' has no bias")
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise ValueError(
                f"d_model = {self.d_model} is odd, and sinusoidal positions fill pairs of features"
            )
        if self.n_experts and self.n_active_experts > self.n_experts:
            raise ValueError(
                f"n_active_experts = {self.n_active_experts} exceeds n_experts = {self.n_experts}"
            )
        for name in ("local_layers", "dense_layers"):
            beyond = [layer for layer in getattr(self, name) or () if not 0 <= layer < self.n_layers]
            if beyond:
                raise ValueError(f"{name} names layer {beyond[0]}, and n_layers = {self.n_layers}")
        return self

    @model_validator(mode="after")
    def _attention_fits(self) -> Self:
        if self.attention == "low_rank" and self.family != "encoder":
            raise ValueError("attention = 'low_rank' mixes all positions, which a causal stack must not")
        if self.attention != "softmax":
            if self.positions == "relative":
                raise ValueError(f"attention = {self.attention!r} has no scores to add relative positions to")
            if self.sliding_window is not None:
                raise ValueError(
                    f"sliding_window = {self.sliding_window}, and attention = {self.attention!r} has no window"
                )
        for name in ("attention_scale", "attention_soft_cap", "attention_dropout"):
            if self.attention == "linear" and getattr(self, name):
                raise ValueError(f"{name} = {getattr(self, name)}, and attention = 'linear' has no scores")
        scaling = self.rope_scaling
        if scaling is not None and scaling.kind == "ntk" and self.head_dim <= 2:
            raise ValueError(f"rope_scaling 'ntk' needs more than one pair, and head_dim = {self.head_dim}")
        return self

    @model_validator(mode="after")
    def _buckets_fit(self) -> Self:
        halves = 2 if self.family == "decoder" else 4  # an encoder's buckets look both ways
        exact = self.n_relative_buckets // halves  # of one distance each
        if self.positions == "relative" and not 1 <= exact < self.max_relative_distance:
            raise ValueError(
                f"n_relative_buckets = {self.n_relative_buckets} with max_relative_distance ="
                f" {self.max_relative_distance}: there must be {halves} buckets at least, and the distance"
                f" must exceed {max(exact, 1)}"
            )
        return self

    @model_validator(mode="after")
    def _experts_fit(self) -> Self:
        if self.n_experts and self.feed_forward_bias:
            raise ValueError(
                f"feed_forward_bias = True, and n_experts = {self.n_experts}: experts have no biases"
            )
        if self.n_shared_experts and not self.n_experts:
            raise ValueError(f"n_shared_experts = {self.n_shared_experts}, and n_experts = 0")
        return self

    def is_local(self, layer: int) -> bool:
        """Whether `layer` sees only `sliding_window` tokens."""
        return self.sliding_window is not None and (self.local_layers is None or layer in self.local_layers)

    def has_experts(self, layer: int) -> bool:
        """Whether `layer` has a mixture of experts in the place of its feed-forward layer."""
        return self.n_experts > 0 and layer not in self.dense_layers

    def n_params(self) -> dict[str, int]:
        """Exact parameter counts by part; `total` counts tied embeddings once."""
        return counts.stack_params(self)

    def n_active_params(self) -> int:
        """Parameters that take part in one token: all but the experts that are not chosen."""
        return counts.active_params(self)

    def n_matmul_params(self) -> int:
        """Parameters that multiply every token: all matrices that are active, the output head included, the
        embedding look-up not.
        """
        return counts.matmul_params(self)

    def flops_per_token(self, seq_len: int, training: bool = True) -> float:
        """Floating-point operations for one token in a sequence of `seq_len`; see `counts`."""
        return counts.flops_per_token(self, seq_len, training)


class DecoderConfig(TransformerConfig):
    """A decoder: every token sees itself and those before it. The default is Qwen3's shape."""

    family: ClassVar[Family] = "decoder"

    query_key_norm: bool = True


class EncoderConfig(TransformerConfig):
    """An encoder: every token sees all others. The default is ModernBERT's shape (Warner et al. 2024)."""

    family: ClassVar[Family] = "encoder"

    norm: Literal["rms", "layer"] = "layer"
    norm_eps: float = Field(default=1e-5, gt=0)
    embedding_norm: bool = True
    activation: Activation = "gelu"
    head_transform: bool = True
    lm_head_bias: bool = True


class EncoderDecoderConfig(Config):
    """An encoder that reads a source and a decoder that writes while looking at it. They share the token
    embedding.
    """

    family: ClassVar[Family] = "encoder-decoder"

    encoder: EncoderConfig
    decoder: DecoderConfig
    decoder_start_id: int = Field(default=0, ge=0, description="the decoder's first input, before any token")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for name in ("vocab_size", "d_model", "embedding_scale"):
            ours, theirs = getattr(self.encoder, name), getattr(self.decoder, name)
            if ours != theirs:
                raise ValueError(
                    f"{name} is {ours} in the encoder and {theirs} in the decoder: they share it"
                )
        if self.decoder_start_id >= self.vocab_size:
            raise ValueError(
                f"decoder_start_id = {self.decoder_start_id}, and vocab_size = {self.vocab_size}"
            )
        return self

    @property
    def vocab_size(self) -> int:
        return self.decoder.vocab_size

    @property
    def d_model(self) -> int:
        return self.decoder.d_model

    @property
    def n_layers(self) -> int:
        """Of both stacks together."""
        return self.encoder.n_layers + self.decoder.n_layers

    @property
    def max_seq_len(self) -> int:
        """Tokens that either side can hold."""
        return min(self.encoder.max_seq_len, self.decoder.max_seq_len)

    @property
    def tie_embeddings(self) -> bool:
        return self.decoder.tie_embeddings

    def n_params(self) -> dict[str, int]:
        """Exact parameter counts by part; the shared embedding counts once."""
        return counts.encoder_decoder_params(self)

    def n_active_params(self) -> int:
        """Parameters that take part in one source and one target token: all but experts that are not chosen."""
        return counts.encoder_decoder_active_params(self)

    def n_matmul_params(self) -> int:
        """Parameters that multiply a token, both sides together."""
        return counts.encoder_decoder_matmul_params(self)

    def flops_per_token(self, seq_len: int, training: bool = True) -> float:
        """Operations for one source token and one target token, at lengths of `seq_len` each."""
        return counts.encoder_decoder_flops(self, seq_len, training)


ModelConfig = DecoderConfig | EncoderConfig | EncoderDecoderConfig

FAMILIES: dict[str, type[DecoderConfig] | type[EncoderConfig] | type[EncoderDecoderConfig]] = {
    "decoder": DecoderConfig,
    "encoder": EncoderConfig,
    "encoder-decoder": EncoderDecoderConfig,
}


class ClassifierConfig(Config):
    """What a `Classifier` says about a sequence, or about each of its tokens."""

    labels: tuple[str, ...] = Field(min_length=1, description="names of the classes; for regression one name")
    level: Literal["sequence", "token"] = "sequence"
    regression: bool = Field(default=False, description="one number a label, not a choice among them")
    pooling: Literal["cls", "mean", "last"] = "cls"
    head: Literal["linear", "tanh", "transform"] = Field(
        default="transform",
        description="before the last matrix: nothing; BERT's dense and tanh; dense, activation and norm",
    )
    bias: bool = True


class EmbedderConfig(Config):
    """How token vectors become one vector."""

    pooling: Literal["mean", "cls", "last"] = "mean"
    normalize: bool = True


def model_config(family: str, values: Mapping[str, Any], where: str = "model config") -> ModelConfig:
    """`values`, as `model_dump` gave them, as a config of `family`."""
    if family not in FAMILIES:
        raise UserError(f"{where}: no family {family!r}", f"one of: {', '.join(FAMILIES)}")
    return FAMILIES[family].parse(values, where)
