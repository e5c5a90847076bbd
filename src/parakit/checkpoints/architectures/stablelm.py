"""StableLM (Bellagente et al. 2024): Llama with LayerNorm, and rotary positions on a quarter of each head; version 2
has biases, and its larger model a norm for each head and attention and feed-forward side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from parakit.checkpoints.architectures import rotary_decoders as shared
from parakit.checkpoints.hf_config import HFConfig
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.checkpoints.rope_config import write_rotary_share
from parakit.common.files import JsonObject
from parakit.model.config import DecoderConfig

MODEL_TYPE = "stablelm"
CLASSES = shared.classes("StableLm")
PREFIX, RENAMED, TIED_COPIES = shared.PREFIX, shared.RENAMED, shared.TIED_COPIES
is_ignorable = shared.is_ignorable
read_classifier, write_classifier = shared.read_classifier, shared.write_classifier
SETTINGS = {
    "attention_bias": "use_qkv_bias",
    "query_key_norm": "qk_layernorm",
    "parallel_residual": "use_parallel_residual",
}
DEFAULTS = {**dict.fromkeys(SETTINGS.values(), False), "layer_norm_eps": 1e-5}
SHARE = 0.25


def read_settings(hf_config: HFConfig, where: str | Path) -> DecoderConfig:
    """Settings; side by side, attention and feed-forward share one norm."""
    settings = shared.read_shared(
        {"num_key_value_heads": None, **hf_config},
        where,
        MODEL_TYPE,
        extra=SETTINGS,
        ignored=("hidden_dropout", "rope_pct"),
        defaults=DEFAULTS,
        partial_rotary=SHARE,
        norm_eps="layer_norm_eps",
    )
    settings |= {"norm": "layer", "norm_bias": True, "shared_norm": settings["parallel_residual"]}
    settings["query_key_norm_shape"] = "heads" if settings["query_key_norm"] else "head"
    return shared.finish(settings, where, SETTINGS)


def write_settings(config: DecoderConfig) -> JsonObject:
    """The settings as this architecture's keys."""
    written = {
        "model_type": MODEL_TYPE,
        **shared.write_shared(config, norm_eps="layer_norm_eps"),
        "partial_rotary_factor": write_rotary_share(config),
        **{hf_name: getattr(config, name) for name, hf_name in SETTINGS.items()},
        "hidden_dropout": 0.0,
    }
    written["rope_parameters"]["partial_rotary_factor"] = written["partial_rotary_factor"]
    if config.head_dim * config.n_heads == config.d_model:
        del written["head_dim"]  # implied: transformers has no such key here
    return written


def hf_tensors(config: DecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor of the family's layout."""
    norms = dict(shared.NORMS)
    if config.shared_norm:
        del norms["feed_forward_norm"]
    names = ("q_layernorm", "k_layernorm")
    return shared.decoder_tensors(config, head, norms=norms, query_key_norms=names)
