"""Which settings of two model configs lead to different computations at inference.

Settings without effect are left out of the comparison: dropout and the router's losses act in training only, the base
of rotary positions does nothing where positions are learned, and so on.
"""

from __future__ import annotations

from typing import Any

from parakit.checkpoints.rope_config import fold_ntk
from parakit.common.files import JsonObject
from parakit.model.config import EncoderDecoderConfig, ModelConfig
from parakit.model.counts import skips_first_norm
from parakit.model.transformer_config import RopeScaling, TransformerConfig

_TRAINING_ONLY = {"dropout", "attention_dropout", "feed_forward_dropout", "balance_coef", "router_z_coef"}
_POSITION_SETTINGS = {
    "rotary": {"rope_theta", "local_rope_theta", "rope_scaling", "rotary_dim", "no_rope_layers"},
    "sinusoidal": {"sinusoids"},
    "relative": {"bias_per_layer"},
}
_BUCKET_SETTINGS = {"n_relative_buckets", "max_relative_distance"}
_EXPERT_SETTINGS = {
    *("n_active_experts", "n_shared_experts", "d_expert", "normalize_expert_weights", "dense_layers"),
    *("expert_bias", "glu_limit", "shared_expert_gate"),
}
# an encoder-decoder has one output, the decoder's
_OUTPUT_SETTINGS = {"tie_embeddings", "head_transform", "lm_head_bias", "logit_scale", "logit_soft_cap"}
_SCALING_SETTINGS = {
    "linear": {"kind", "factor"},
    "yarn": {
        "kind",
        "factor",
        "original_max_seq_len",
        "beta_fast",
        "beta_slow",
        "attention_factor",
        "truncate",
    },
    "longrope": {
        *("kind", "factor", "original_max_seq_len", "attention_factor", "short_factors", "long_factors"),
    },
    "llama3": {"kind", "factor", "original_max_seq_len", "low_freq_factor", "high_freq_factor"},
}


def config_diff(first: ModelConfig, second: ModelConfig) -> dict[str, tuple[Any, Any]]:
    """Settings in which two configs compute something different -> both values."""
    if isinstance(first, EncoderDecoderConfig) and isinstance(second, EncoderDecoderConfig):
        encoder = _stack_diff(first.encoder, second.encoder)
        diff = {f"encoder.{name}": pair for name, pair in encoder.items() if name not in _OUTPUT_SETTINGS}
        decoder = _stack_diff(first.decoder, second.decoder)
        diff |= {f"decoder.{name}": pair for name, pair in decoder.items()}
        if first.decoder_start_id != second.decoder_start_id:
            diff["decoder_start_id"] = (first.decoder_start_id, second.decoder_start_id)
        return diff
    if isinstance(first, EncoderDecoderConfig) or isinstance(second, EncoderDecoderConfig):
        return {"family": (first.family, second.family)}
    return _stack_diff(first, second)


def _stack_diff(first: TransformerConfig, second: TransformerConfig) -> dict[str, tuple[Any, Any]]:
    if first.family != second.family:
        return {"family": (first.family, second.family)}
    one, other = _effective(first), _effective(second)
    return {
        name: (one.get(name), other.get(name)) for name in one | other if one.get(name) != other.get(name)
    }


def _effective(config: TransformerConfig) -> JsonObject:
    """The settings that such a model's outputs depend on, in a canonical form."""
    values = {name: value for name, value in config.model_dump().items() if name not in _TRAINING_ONLY}
    local = [layer for layer in range(config.n_layers) if config.is_local(layer)]
    values |= {"local_layers": local, "sliding_window": config.sliding_window if local else None}
    if config.positions == "rotary":
        values["rope_theta"], scaling = fold_ntk(config)
        values["rope_scaling"] = _effective_scaling(scaling) if scaling else None
        # without a base of their own, local layers share the scaling too
        shared = None if scaling else config.rope_theta
        values["local_rope_theta"] = (config.local_rope_theta or shared) if local else None
        values["rotary_dim"] = config.rotary_dim or config.head_dim
        values["no_rope_layers"] = sorted(config.no_rope_layers)
    if config.attention_scale is None:
        values["attention_scale"] = config.head_dim**-0.5
    values["first_attention_norm"] = not skips_first_norm(config)
    unused = set() if config.positions in ("learned", "sinusoidal") else {"position_offset"}
    unused |= set() if config.attention == "low_rank" else {"low_rank_len"}
    unused |= set() if config.query_key_norm else {"query_key_norm_shape"}
    for kind, names in _POSITION_SETTINGS.items():
        unused |= names if config.positions != kind else set()
    unused |= {"glu_alpha"} if config.glu_limit is None else {"activation"}
    unused |= set() if config.conv_kernel_size else {"conv_activation", "conv_groups"}
    has_buckets = config.positions in ("relative", "disentangled") or config.relative_bias
    unused |= set() if has_buckets else _BUCKET_SETTINGS
    values["transform_bias"] = config.has_transform_bias if config.head_transform else None
    if config.n_experts:
        values["d_expert"] = config.d_expert or config.d_ff
        values["dense_layers"] = sorted(config.dense_layers)
        unused |= set() if config.dense_layers else {"d_ff"}
    else:
        unused |= _EXPERT_SETTINGS
    return {name: value for name, value in values.items() if name not in unused}


def _effective_scaling(scaling: RopeScaling) -> JsonObject:
    values = scaling.model_dump()
    return {name: values[name] for name in _SCALING_SETTINGS[scaling.kind]}
