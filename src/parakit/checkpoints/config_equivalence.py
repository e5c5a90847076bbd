"""Whether two shapes compute the same: settings that play no part in a model are left out of the comparison.

Dropout and the router's losses act in training only; the base of rotary positions says nothing where positions are
learned; and so on.
"""

from __future__ import annotations

from typing import Any

from parakit.checkpoints.rope_config import plain_rope
from parakit.model.config import EncoderDecoderConfig, ModelConfig, TransformerConfig

_TRAINING = {"dropout", "attention_dropout", "feed_forward_dropout", "balance_coef", "router_z_coef"}
_OF_POSITIONS = {
    "rotary": {"rope_theta", "local_rope_theta", "rope_scaling"},
    "learned": {"position_offset"},
    "relative": {"n_relative_buckets", "max_relative_distance"},
}
_OF_EXPERTS = {"n_active_experts", "n_shared_experts", "d_expert", "normalize_expert_weights", "dense_layers"}
# a pair has one output, the decoder's
_OF_OUTPUT = {"tie_embeddings", "head_transform", "lm_head_bias", "logit_scale", "logit_soft_cap"}


def differences(one: ModelConfig, other: ModelConfig) -> dict[str, tuple[Any, Any]]:
    """Settings in which two shapes of one family compute something different -> both values."""
    if isinstance(one, EncoderDecoderConfig) and isinstance(other, EncoderDecoderConfig):
        found: dict[str, tuple[Any, Any]] = {}
        for side in ("encoder", "decoder"):
            inner = differences(getattr(one, side), getattr(other, side))
            if side == "encoder":
                inner = {name: values for name, values in inner.items() if name not in _OF_OUTPUT}
            found |= {f"{side}.{name}": values for name, values in inner.items()}
        if one.decoder_start_id != other.decoder_start_id:
            found["decoder_start_id"] = (one.decoder_start_id, other.decoder_start_id)
        return found
    if one.family != other.family:
        return {"family": (one.family, other.family)}
    assert isinstance(one, TransformerConfig)
    assert isinstance(other, TransformerConfig)
    first, second = _effective(one), _effective(other)
    return {
        name: (first.get(name), second.get(name))
        for name in first | second
        if first.get(name) != second.get(name)
    }


def _effective(config: TransformerConfig) -> dict[str, Any]:
    """The settings that a model of this shape depends on, each in one way of saying it."""
    values = {name: value for name, value in config.model_dump().items() if name not in _TRAINING}
    local = [layer for layer in range(config.n_layers) if config.is_local(layer)]
    values |= {"local_layers": local, "sliding_window": config.sliding_window if local else None}
    if config.positions == "rotary":
        values["rope_theta"], scaling = plain_rope(config)
        values["rope_scaling"] = _effective_scaling(scaling.model_dump()) if scaling else None
        values["local_rope_theta"] = (config.local_rope_theta or config.rope_theta) if local else None
    if config.attention_scale is None:
        values["attention_scale"] = config.head_dim**-0.5
    unused = set() if config.attention == "low_rank" else {"low_rank_len"}
    for kind, names in _OF_POSITIONS.items():
        unused |= names if config.positions != kind else set()
    if config.n_experts:
        values["d_expert"] = config.d_expert or config.d_ff
        values["dense_layers"] = sorted(config.dense_layers)
        unused |= set() if config.dense_layers else {"d_ff"}
    else:
        unused |= _OF_EXPERTS
    return {name: value for name, value in values.items() if name not in unused}


def _effective_scaling(scaling: dict[str, Any]) -> dict[str, Any]:
    names = {
        "linear": {"kind", "factor"},
        "yarn": {"kind", "factor", "original_max_seq_len", "beta_fast", "beta_slow", "attention_factor"},
        "llama3": {"kind", "factor", "original_max_seq_len", "low_freq_factor", "high_freq_factor"},
    }[scaling["kind"]]
    return {name: scaling[name] for name in names}
