"""Parameters by part and floating-point operations of a config. Imports no torch.

Parameter counts are exact: a test compares them with built models. Operations count 2 per
matrix parameter and 4 * heads * head_dim per attended position (Kaplan et al. 2020, section 2.1); norms, softmax
and element-wise operations are left out, as is customary. The backward pass costs twice the forward.
"""

from __future__ import annotations

from parakit.model.transformer_config import TransformerConfig


def stack_params(
    config: TransformerConfig, with_embedding: bool = True, cross: bool = False
) -> dict[str, int]:
    """Parameters of one stack and its language-model head, by part. `cross`: with attention to a source."""
    c, d = config, config.d_model
    n_attention = _n_attention_layers(c)
    per_norm = d * (c.norm_weight + c.norm_bias)
    n_norms = c.n_layers * norms_per_block(c, cross) + c.final_norm + c.embedding_norm - skips_first_norm(c)
    norms = n_norms * per_norm - c.embedding_norm * (d - c.d_positions) * (c.norm_weight + c.norm_bias)
    embedded = c.vocab_size * c.d_token if with_embedding else 0
    parts = {
        "token_embedding": embedded + c.n_token_types * c.d_positions,
        "embedding_projection": _projection_params(c),
        "position_embedding": _position_params(c),
        "attention": n_attention * _attention_params(c),
        "delta_rule": (c.n_layers - n_attention) * _delta_params(c),
        "cross_attention": c.n_layers * _attention_params(c, cross=True) if cross else 0,
        "feed_forward": sum(_layer_params(c, layer) for layer in range(c.n_layers)),
        "norms": norms,
        "convolution": _convolution_params(c),
        "lm_head": _head_params(c),
    }
    listed = {name: n for name, n in parts.items() if n or name in ("token_embedding", "lm_head")}
    return listed | {"total": sum(listed.values())}


def encoder_decoder_params(encoder: TransformerConfig, decoder: TransformerConfig) -> dict[str, int]:
    """Both stacks; the shared embedding and the head count once, the parts of a stack are prefixed with `encoder_` or
    `decoder_`.
    """
    headless = encoder.replace(tie_embeddings=True, head_transform=False, lm_head_bias=False)
    of_encoder = stack_params(headless)
    of_decoder = stack_params(decoder, with_embedding=False, cross=True)
    parts = {"token_embedding": of_encoder["token_embedding"] + of_decoder["token_embedding"]}
    for side, counts in (("encoder", of_encoder), ("decoder", of_decoder)):
        parts |= {
            f"{side}_{name}": n
            for name, n in counts.items()
            if name not in ("token_embedding", "lm_head", "total")
        }
    parts["lm_head"] = of_decoder["lm_head"]
    return parts | {"total": sum(parts.values())}


def active_params(config: TransformerConfig) -> int:
    """Parameters that process one token: all but the inactive experts."""
    return stack_params(config)["total"] - _idle_params(config)


def encoder_decoder_active_params(encoder: TransformerConfig, decoder: TransformerConfig) -> int:
    """Parameters that process one source and one target token."""
    return encoder_decoder_params(encoder, decoder)["total"] - _idle_params(encoder) - _idle_params(decoder)


def matmul_params(config: TransformerConfig) -> int:
    """Parameters that multiply every token: with the output matrix, without the embedding."""
    return _stack_matmul_params(config) + _head_matmul_params(config)


def encoder_decoder_matmul_params(encoder: TransformerConfig, decoder: TransformerConfig) -> int:
    """Parameters that multiply a source or a target token, summed."""
    cross = decoder.n_layers * _attention_matmul_params(decoder)
    stacks = _stack_matmul_params(encoder) + _stack_matmul_params(decoder)
    return stacks + cross + _head_matmul_params(decoder)


def flops_per_token(config: TransformerConfig, seq_len: int, training: bool = True) -> float:
    """Operations of one token in a sequence of `seq_len`; a causal token attends to half of it on average."""
    forward = 2 * matmul_params(config) + _attention_flops(config, seq_len)
    return float(forward * (3 if training else 1))


def encoder_decoder_flops(
    encoder: TransformerConfig, decoder: TransformerConfig, seq_len: int, training: bool = True
) -> float:
    """Operations of one source and one target token, in sequences of `seq_len` each."""
    cross = 4 * decoder.n_layers * decoder.n_heads * decoder.head_dim * seq_len
    attention = _attention_flops(encoder, seq_len) + _attention_flops(decoder, seq_len) + cross
    return float((2 * encoder_decoder_matmul_params(encoder, decoder) + attention) * (3 if training else 1))


def norms_per_block(config: TransformerConfig, cross: bool = False) -> int:
    """Norms of the residual stream in one block."""
    n_sublayers = 3 if cross else 1 if config.shared_norm else 2
    return n_sublayers * (2 if config.sublayer_norm == "both" else 1)


def skips_first_norm(config: TransformerConfig) -> bool:
    """Whether the first block has no attention norm: right behind the embedding's norm it would be redundant (ModernBERT);
    mBART has both.
    """
    if config.post_norm or config.sublayer_norm != "input":
        return False
    return config.embedding_norm if config.first_attention_norm is None else not config.first_attention_norm


def _attention_flops(config: TransformerConfig, seq_len: int) -> float:
    """Operations of one token in attention, without the matrices', averaged over a sequence."""
    total = 0.0
    for layer in range(config.n_layers):
        if config.delta_rule is not None and config.is_recurrent(
            layer
        ):  # a state is read, and corrected by two more
            rule = config.delta_rule
            total += 6 * rule.n_value_heads * rule.key_dim * rule.value_dim
        elif config.attention == "low_rank":  # every key and value is projected once
            projection = 4 * config.low_rank_len * config.n_kv_heads * config.head_dim
            total += 4 * config.n_heads * config.head_dim * config.low_rank_len + projection
        else:
            total += 4 * config.n_heads * config.head_dim * _mean_attended(config, layer, seq_len)
    return total


def _mean_attended(config: TransformerConfig, layer: int, seq_len: int) -> float:
    """Positions that a token attends to, averaged over a sequence; for linear attention head_dim sums."""
    if config.attention == "linear":
        return config.head_dim
    causal = config.family == "decoder"
    if not config.is_local(layer):
        return (seq_len + 1) / 2 if causal else seq_len
    assert config.sliding_window is not None
    if causal:
        window = min(config.sliding_window, seq_len)
        return window - window * (window - 1) / (2 * seq_len)
    side = min(config.sliding_window // 2, seq_len - 1)
    return 1 + 2 * side - side * (side + 1) / seq_len


def _stack_matmul_params(config: TransformerConfig) -> int:
    matrices = 3 if config.gated else 2
    n_attention = _n_attention_layers(config)
    total = n_attention * _attention_matmul_params(config)
    total += (config.n_layers - n_attention) * _delta_matmul_params(config)
    for layer in range(config.n_layers):
        if config.has_experts(layer):
            n_active = config.n_active_experts + config.n_shared_experts
            total += n_active * matrices * config.d_model * (config.d_expert or config.d_ff)
            total += (config.n_experts + config.shared_expert_gate) * config.d_model
        else:
            total += matrices * config.d_model * config.d_ff
    return total


def _head_matmul_params(config: TransformerConfig) -> int:
    transform = config.d_model * config.d_token if config.head_transform else 0
    return config.d_token * config.vocab_size + transform + _projection_params(config)


def _projection_params(config: TransformerConfig) -> int:
    """Of an embedding that is narrower than the stack: into it, and back out unless it is factorized."""
    if config.d_embedding is None:
        return 0
    matrix = config.d_embedding * config.d_model
    return matrix + config.d_model if config.factorized_embedding else 2 * matrix


def _attention_matmul_params(config: TransformerConfig) -> int:
    n_query_heads = 3 if config.attention_gate else 2  # with the output's
    return config.d_model * config.head_dim * (n_query_heads * config.n_heads + 2 * config.n_kv_heads)


def _n_attention_layers(config: TransformerConfig) -> int:
    return sum(not config.is_recurrent(layer) for layer in range(config.n_layers))


def _delta_matmul_params(config: TransformerConfig) -> int:
    rule = config.delta_rule
    if rule is None:
        return 0
    values = rule.n_value_heads * rule.value_dim
    return config.d_model * (2 * rule.n_key_heads * rule.key_dim + 3 * values + 2 * rule.n_value_heads)


def _delta_params(config: TransformerConfig) -> int:
    """Matrices, filters, two numbers for each head's decay, and a norm."""
    rule = config.delta_rule
    if rule is None:
        return 0
    filtered = 2 * rule.n_key_heads * rule.key_dim + rule.n_value_heads * rule.value_dim
    vectors = filtered * rule.conv_kernel_size + 2 * rule.n_value_heads + rule.value_dim
    return _delta_matmul_params(config) + vectors


def _attention_params(config: TransformerConfig, cross: bool = False) -> int:
    c = config
    n = _attention_matmul_params(c)
    n += c.head_dim * ((1 + c.attention_gate) * c.n_heads + 2 * c.n_kv_heads) if c.attention_bias else 0
    n += c.d_model if c.attention_output_bias else 0
    if c.query_key_norm:
        n += c.head_dim * (2 if c.query_key_norm_shape == "head" else c.n_heads + c.n_kv_heads)
    n += 2 * c.low_rank_len * c.max_seq_len if c.attention == "low_rank" and not cross else 0
    n += c.n_heads if c.attention_sinks and not cross else 0
    return n


def _feed_forward_params(config: TransformerConfig, width: int) -> int:
    d, matrices = config.d_model, 3 if config.gated else 2
    return matrices * d * width + ((matrices - 1) * width + d if config.feed_forward_bias else 0)


def _expert_params(config: TransformerConfig) -> int:
    """Of one expert."""
    matrices, width = 3 if config.gated else 2, config.d_expert or config.d_ff
    biases = (matrices - 1) * width + config.d_model if config.expert_bias else 0
    return matrices * config.d_model * width + biases


def _idle_params(config: TransformerConfig) -> int:
    """Of the experts that do not process a token."""
    layers = sum(config.has_experts(layer) for layer in range(config.n_layers))
    return layers * (config.n_experts - config.n_active_experts) * _expert_params(config)


def _layer_params(config: TransformerConfig, layer: int) -> int:
    if not config.has_experts(layer):
        return _feed_forward_params(config, config.d_ff)
    experts = (config.n_experts + config.n_shared_experts) * _expert_params(config)
    gate = config.shared_expert_gate * config.d_model
    return experts + gate + config.n_experts * (config.d_model + config.expert_bias)  # the router


def _convolution_params(config: TransformerConfig) -> int:
    """With its norm."""
    d = config.d_model
    if not config.conv_kernel_size:
        return 0
    matrix = d * d // config.conv_groups * config.conv_kernel_size
    return matrix + d * (1 + config.norm_weight + config.norm_bias)


def _position_params(config: TransformerConfig) -> int:
    is_relative = config.positions == "relative" or config.relative_bias
    n = config.n_relative_buckets * config.n_heads if is_relative else 0
    n *= config.n_layers if config.bias_per_layer else 1
    if config.positions == "disentangled":
        n += config.d_model * (2 * config.n_relative_buckets + config.norm_weight + config.norm_bias)
    if config.positions == "learned":
        n += (config.max_seq_len + config.position_offset) * config.d_positions
    return n


def _head_params(config: TransformerConfig) -> int:
    width, vocab = config.d_token, config.vocab_size
    transform = 0
    if config.head_transform:
        vectors = config.has_transform_bias + config.norm_weight + config.norm_bias
        transform = width * (config.d_model + vectors)
    return transform + (vocab if config.lm_head_bias else 0) + (0 if config.tie_embeddings else vocab * width)
