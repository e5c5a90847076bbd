"""The settings of one stack of Transformer blocks. Imports no torch.

One vocabulary of choices describes every stack: positions, norms and their place, activations, biases, attention. Every
choice since 2017 stays selectable.
"""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from parakit.common.settings import Config, Family
from parakit.model.delta_rule import DeltaRule

Positions = Literal["rotary", "learned", "sinusoidal", "relative", "disentangled", "none"]
Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "squared_relu"]


class RopeScaling(Config):
    """How rotary angles are scaled for contexts longer than those of pre-training."""

    kind: Literal["linear", "ntk", "yarn", "llama3", "longrope"]
    factor: float = Field(ge=1, description="how many times longer the context became")
    original_max_seq_len: int | None = Field(
        default=None, ge=1, description="context before (yarn, llama3, longrope)"
    )
    beta_fast: float = Field(default=32.0, gt=0, description="yarn: rotations above which nothing is scaled")
    beta_slow: float = Field(default=1.0, gt=0, description="yarn: rotations below which all is scaled")
    truncate: bool = Field(
        default=True, description="yarn: the pairs between which the scaling begins and ends are whole"
    )
    attention_factor: float | None = Field(
        default=None,
        gt=0,
        description="yarn: None is 0.1 ln(factor) + 1; longrope: sqrt(1 + ln(factor) / ln(original))",
    )
    low_freq_factor: float = Field(default=1.0, gt=0, description="llama3")
    high_freq_factor: float = Field(default=4.0, gt=0, description="llama3")
    short_factors: tuple[float, ...] = Field(default=(), description="longrope: of each pair, in short texts")
    long_factors: tuple[float, ...] = Field(
        default=(), description="longrope: of each pair, in texts longer than before"
    )

    @model_validator(mode="after")
    def _check_scaling(self) -> Self:
        if self.kind in ("yarn", "llama3", "longrope") and self.original_max_seq_len is None:
            raise ValueError(f"rope scaling {self.kind!r} needs original_max_seq_len")
        if self.kind == "llama3" and self.high_freq_factor <= self.low_freq_factor:
            raise ValueError(
                f"high_freq_factor = {self.high_freq_factor} must exceed low_freq_factor = {self.low_freq_factor}"
            )
        if self.kind == "yarn" and self.beta_fast <= self.beta_slow:
            raise ValueError(f"beta_fast = {self.beta_fast} must exceed beta_slow = {self.beta_slow}")
        return self


class TransformerConfig(Config):
    """One stack of blocks. Widths are in features, lengths in tokens."""

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
    rotary_dim: int | None = Field(
        default=None, ge=2, description="features of a head that are rotated; None: all"
    )
    no_rope_layers: tuple[int, ...] = Field(default=(), description="layers without rotary positions")
    position_offset: int = Field(
        default=0, ge=0, description="rows of the positions' table before position 0"
    )
    sinusoids: Literal["vaswani", "tensor2tensor"] = Field(
        default="vaswani",
        description="sinusoidal: the longest wavelength is less than, or exactly, 10,000 * 2 pi (M2M100)",
    )
    relative_bias: bool = Field(
        default=False,
        description="besides the positions, a trained bias for each bucket of distances (MPNet)",
    )
    bias_per_layer: bool = Field(
        default=False, description="relative: every layer has biases of its own (UMT5)"
    )
    n_relative_buckets: int = Field(default=32, ge=2)
    max_relative_distance: int = Field(default=128, ge=2)

    attention: Literal["softmax", "linear", "low_rank"] = "softmax"
    low_rank_len: int = Field(default=128, ge=1, description="length that low_rank projects keys to")
    sliding_window: int | None = Field(default=None, ge=1, description="tokens that a local layer attends to")
    local_layers: tuple[int, ...] | None = Field(
        default=None, description="None: all, where there is a window"
    )
    attention_bias: bool = Field(default=False, description="of query, key and value")
    attention_output_bias: bool = False
    attention_scale: float | None = Field(default=None, gt=0, description="None: head_dim ** -0.5")
    attention_soft_cap: float | None = Field(default=None, gt=0)
    attention_gate: bool = Field(
        default=False, description="a sigmoid of each token's vector multiplies what it attends to"
    )
    delta_rule: DeltaRule | None = None
    attention_sinks: bool = Field(
        default=False, description="a trained score for each head that takes probability and has no value"
    )
    query_key_norm: bool = False
    query_key_norm_shape: Literal["head", "heads", "width"] = Field(
        default="head",
        description="RMSNorm of each head, with the same weight for all; LayerNorm of each head, with weights of its own; "
        "RMSNorm over all heads together",
    )

    norm: Literal["rms", "layer"] = "rms"
    norm_weight: bool = Field(default=True, description="layer: False is a norm without parameters")
    norm_bias: bool = False
    norm_eps: float = Field(default=1e-6, gt=0)
    zero_centered_norm: bool = Field(default=False, description="rms: multiply by 1 + weight (Gemma)")
    sublayer_norm: Literal["input", "output", "both"] = Field(
        default="input", description="what is normed before the residual sum: output (OLMo 2), both (Gemma 2)"
    )
    parallel_residual: bool = Field(
        default=False, description="attention and feed-forward read the same vectors (GPT-NeoX)"
    )
    shared_norm: bool = Field(default=False, description="parallel_residual: one norm for both")
    residual_scale: float = Field(default=1.0, gt=0, description="of each sublayer's output (Granite)")
    post_norm: bool = Field(default=False, description="norms after the residual sum (Vaswani et al. 2017)")
    embedding_norm: bool = False
    first_attention_norm: bool | None = Field(
        default=None, description="of a pre-norm stack; None: unless the embedding is normed (ModernBERT)"
    )
    final_norm: bool = True

    activation: Activation = "silu"
    gated: bool = True
    feed_forward_bias: bool = False
    n_experts: int = Field(default=0, ge=0, description="0: one dense feed-forward layer")
    n_active_experts: int = Field(default=2, ge=1)
    n_shared_experts: int = Field(default=0, ge=0, description="experts that process every token")
    shared_expert_gate: bool = Field(
        default=False, description="a sigmoid of each token's vector multiplies what they give"
    )
    d_expert: int | None = Field(default=None, ge=1, description="width of an expert; None: d_ff")
    normalize_expert_weights: bool = True
    expert_bias: bool = Field(default=False, description="of the router and of the experts' matrices")
    glu_limit: float | None = Field(
        default=None,
        gt=0,
        description="bound of the experts' gates, above, and of what they multiply, which has 1 added (gpt-oss)",
    )
    glu_alpha: float = Field(
        default=1.702, gt=0, description="glu_limit: the activation is x * sigmoid(alpha * x)"
    )
    dense_layers: tuple[int, ...] = Field(default=(), description="layers without experts")
    balance_coef: float = Field(default=0.01, ge=0, description="of the load-balancing loss")
    router_z_coef: float = Field(default=0.0, ge=0, description="of the router's z-loss")

    conv_kernel_size: int = Field(
        default=0,
        ge=0,
        description="0: none; a convolution of the embeddings, added to the first block (DeBERTa-v2)",
    )
    conv_activation: Literal["tanh", "gelu"] = "tanh"
    conv_groups: int = Field(default=1, ge=1)
    d_embedding: int | None = Field(
        default=None,
        ge=1,
        description="width of the embedding, projected in and back out (OPT); None: d_model",
    )
    factorized_embedding: bool = Field(
        default=False,
        description="d_embedding is the width of positions, types and embedding norm too, and of the head's transform;"
        " the stack's output is not projected (ELECTRA)",
    )
    embedding_scale: float = Field(default=1.0, gt=0)
    n_token_types: int = Field(default=0, ge=0)
    tie_embeddings: bool = True
    head_transform: bool = Field(
        default=False, description="dense, activation, norm before the output matrix"
    )
    transform_bias: bool | None = Field(
        default=None, description="of the transform; None: as feed_forward_bias"
    )
    lm_head_bias: bool = False
    logit_scale: float = Field(default=1.0, gt=0)
    logit_soft_cap: float | None = Field(default=None, gt=0)

    dropout: float = Field(default=0.0, ge=0, lt=1)
    attention_dropout: float | None = Field(default=None, ge=0, lt=1, description="None: as dropout")
    feed_forward_dropout: float = Field(default=0.0, ge=0, lt=1, description="between its two matrices")

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads = {self.n_heads} is not a multiple of n_kv_heads = {self.n_kv_heads}")
        if self.positions == "rotary" and self.head_dim % 2:
            raise ValueError(
                f"head_dim = {self.head_dim} is odd, and rotary positions rotate pairs of features"
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
        named = {name: getattr(self, name) for name in ("local_layers", "dense_layers", "no_rope_layers")}
        named["delta_rule.layers"] = self.delta_rule and self.delta_rule.layers
        for name, layers in named.items():
            beyond = [layer for layer in layers or () if not 0 <= layer < self.n_layers]
            if beyond:
                raise ValueError(f"{name} names layer {beyond[0]}, and n_layers = {self.n_layers}")
        return self

    @model_validator(mode="after")
    def _check_blocks(self) -> Self:
        if self.rotary_dim is not None and (self.rotary_dim % 2 or self.rotary_dim > self.head_dim):
            raise ValueError(
                f"rotary_dim = {self.rotary_dim} must be even, and at most head_dim = {self.head_dim}"
            )
        if self.norm == "layer" and self.zero_centered_norm:
            raise ValueError("zero_centered_norm = True, and norm = 'layer' is not an RMSNorm")
        if not self.norm_weight and (self.norm == "rms" or self.norm_bias):
            raise ValueError(
                "norm_weight = False is a LayerNorm without parameters: norm = 'layer', no norm_bias"
            )
        if self.factorized_embedding and self.d_embedding is None:
            raise ValueError("factorized_embedding = True, and d_embedding = None")
        is_narrow = self.d_embedding is not None and not self.factorized_embedding
        if is_narrow and (self.head_transform or self.n_token_types):
            raise ValueError(
                f"d_embedding = {self.d_embedding} applies without head_transform and token types, or with"
                " factorized_embedding"
            )
        if self.shared_norm and not self.parallel_residual:
            raise ValueError("shared_norm = True, and parallel_residual = False")
        special = {
            "post_norm": self.post_norm,
            "parallel_residual": self.parallel_residual,
            "sublayer_norm": self.sublayer_norm != "input",
            "bias_per_layer": self.bias_per_layer,
        }
        chosen = [name for name, is_set in special.items() if is_set]
        if len(chosen) > 1:
            raise ValueError(f"{chosen[0]} and {chosen[1]} are different kinds of blocks: set one of them")
        if self.residual_scale != 1.0 and chosen:
            raise ValueError(f"residual_scale = {self.residual_scale} does not apply with {chosen[0]}")
        return self

    @model_validator(mode="after")
    def _check_attention(self) -> Self:
        if self.attention == "low_rank" and self.family != "encoder":
            raise ValueError("attention = 'low_rank' mixes all positions, which a causal stack must not do")
        usual = self.attention == "softmax" and self.sliding_window is None and not self.attention_sinks
        if self.attention_gate and (not usual or self.positions == "disentangled"):
            raise ValueError("attention_gate = True is for softmax attention without a window, without sinks")
        if self.delta_rule is not None and (self.family != "decoder" or not usual):
            raise ValueError(
                "delta_rule is for decoders whose other layers have softmax attention without a window, without sinks"
            )
        if self.attention_sinks and (self.attention != "softmax" or self.positions == "disentangled"):
            raise ValueError(
                "attention_sinks = True is for attention = 'softmax' without disentangled positions"
            )
        if self.attention != "softmax":
            if self.positions == "relative" or self.relative_bias:
                raise ValueError(f"attention = {self.attention!r} has no scores to add relative positions to")
            if self.sliding_window is not None:
                raise ValueError(
                    f"sliding_window = {self.sliding_window}, and attention = {self.attention!r} has no window"
                )
        for name in ("attention_scale", "attention_soft_cap", "attention_dropout"):
            if self.attention == "linear" and getattr(self, name):
                raise ValueError(f"{name} = {getattr(self, name)}, and attention = 'linear' has no scores")
        scaling = self.rope_scaling
        if scaling is not None and scaling.kind == "longrope":
            n_pairs = (self.rotary_dim or self.head_dim) // 2
            for name in ("short_factors", "long_factors"):
                factors = getattr(scaling, name)
                if len(factors) != n_pairs or any(not factor > 0 for factor in factors):
                    raise ValueError(f"{name} has {len(factors)} values; longrope needs {n_pairs} above 0")
        if scaling is not None and scaling.kind == "ntk" and self.head_dim <= 2:
            raise ValueError(f"rope_scaling 'ntk' needs more than one pair, and head_dim = {self.head_dim}")
        return self

    @model_validator(mode="after")
    def _check_disentangled(self) -> Self:
        if self.positions != "disentangled":
            return self
        usual = self.attention == "softmax" and self.sliding_window is None and not self.query_key_norm
        if self.family != "encoder" or not usual or self.n_kv_heads != self.n_heads:
            raise ValueError(
                "positions = 'disentangled' is for encoders with softmax attention, as many key-value heads as heads,"
                " no window and no query_key_norm"
            )
        if self.n_relative_buckets < 4 or self.max_relative_distance - 1 <= self.n_relative_buckets // 2:
            raise ValueError(
                f"n_relative_buckets = {self.n_relative_buckets} with max_relative_distance ="
                f" {self.max_relative_distance}: 4 buckets at least, and the distance must exceed half of them"
            )
        return self

    @model_validator(mode="after")
    def _check_convolution(self) -> Self:
        if self.conv_kernel_size and (self.family != "encoder" or self.conv_kernel_size % 2 == 0):
            raise ValueError(
                f"conv_kernel_size = {self.conv_kernel_size}: it is odd, and for encoders: a convolution sees both sides"
            )
        if self.conv_kernel_size and self.d_model % self.conv_groups:
            raise ValueError(
                f"d_model = {self.d_model} is not a multiple of conv_groups = {self.conv_groups}"
            )
        return self

    @model_validator(mode="after")
    def _check_buckets(self) -> Self:
        halves = 2 if self.family == "decoder" else 4  # an encoder's buckets cover both directions
        exact = self.n_relative_buckets // halves  # of one distance each
        if self.relative_bias and self.positions == "relative":
            raise ValueError("relative_bias = True, and positions = 'relative' has that bias already")
        if self.bias_per_layer and (self.positions != "relative" or self.sliding_window is not None):
            raise ValueError("bias_per_layer = True is for positions = 'relative' without a sliding_window")
        if (
            self.positions == "relative" or self.relative_bias
        ) and not 1 <= exact < self.max_relative_distance:
            raise ValueError(
                f"n_relative_buckets = {self.n_relative_buckets} with max_relative_distance ="
                f" {self.max_relative_distance}: there must be {halves} buckets at least, and the distance"
                f" must exceed {max(exact, 1)}"
            )
        return self

    @model_validator(mode="after")
    def _check_experts(self) -> Self:
        if self.n_experts and self.feed_forward_bias:
            raise ValueError(
                f"feed_forward_bias = True, and n_experts = {self.n_experts}: experts have no biases"
            )
        if self.expert_bias and (not self.n_experts or self.n_shared_experts):
            raise ValueError(
                f"expert_bias = True, with n_experts = {self.n_experts} and n_shared_experts ="
                f" {self.n_shared_experts}: it is of experts, and shared ones have none"
            )
        if self.shared_expert_gate and not self.n_shared_experts:
            raise ValueError("shared_expert_gate = True, and n_shared_experts = 0")
        if self.glu_limit is not None and not (self.expert_bias and self.gated):
            raise ValueError(
                f"glu_limit = {self.glu_limit} is for experts with gates and biases: gated, expert_bias"
            )
        if self.n_shared_experts and not self.n_experts:
            raise ValueError(f"n_shared_experts = {self.n_shared_experts}, and n_experts = 0")
        return self

    @property
    def d_output(self) -> int:
        """Width of the vectors that a stack returns."""
        return self.d_model if self.factorized_embedding else self.d_token

    @property
    def has_transform_bias(self) -> bool:
        """Whether the head's transform has a bias."""
        return self.feed_forward_bias if self.transform_bias is None else self.transform_bias

    @property
    def d_token(self) -> int:
        """Width of the token embedding, and of the output matrix."""
        return self.d_embedding or self.d_model

    @property
    def d_positions(self) -> int:
        """Width of learned positions, token types and the embedding's norm."""
        return self.d_token if self.factorized_embedding else self.d_model

    def is_local(self, layer: int) -> bool:
        """Whether `layer` attends to `sliding_window` tokens only."""
        return self.sliding_window is not None and (self.local_layers is None or layer in self.local_layers)

    def is_recurrent(self, layer: int) -> bool:
        """Whether `layer` has the gated delta rule instead of attention."""
        return self.delta_rule is not None and layer in self.delta_rule.layers

    def has_experts(self, layer: int) -> bool:
        """Whether `layer` has a mixture of experts instead of a feed-forward layer."""
        return self.n_experts > 0 and layer not in self.dense_layers
