"""Mixtral (Jiang et al. 2024): Mistral with a mixture of experts in every layer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from parakit.checkpoints.architectures import rotary_decoders as shared
from parakit.checkpoints.hf_config import HFConfig
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.common.files import JsonObject
from parakit.model.config import DecoderConfig

MODEL_TYPE = "mixtral"
CLASSES = shared.classes("Mixtral")
PREFIX, RENAMED, TIED_COPIES = shared.PREFIX, shared.RENAMED, shared.TIED_COPIES
is_ignorable = shared.is_ignorable
read_classifier, write_classifier = shared.read_classifier, shared.write_classifier
EXPERTS = {"n_experts": "num_local_experts", "n_active_experts": "num_experts_per_tok"}
DEFAULTS = {"rms_norm_eps": 1e-5, "rope_theta": 1e6}
# one tensor per expert and matrix
LAYOUT = ("block_sparse_moe", {"gate": "w1", "down": "w2", "up": "w3"})


def read_settings(hf_config: HFConfig, where: str | Path) -> DecoderConfig:
    """`intermediate_size` is the width of an expert; the weights of the chosen experts always sum to 1."""
    settings = shared.read_shared(
        hf_config,
        where,
        MODEL_TYPE,
        extra={**EXPERTS, "balance_coef": "router_aux_loss_coef"},
        handled=("sliding_window",),
        defaults={**DEFAULTS, "router_aux_loss_coef": 0.001},
    )
    settings |= {"sliding_window": hf_config.get("sliding_window"), "query_key_norm": False}
    return shared.finish(settings, where, EXPERTS)


def write_settings(config: DecoderConfig) -> JsonObject:
    """The settings as this architecture's keys."""
    return {
        "model_type": MODEL_TYPE,
        **shared.write_shared(config),
        "intermediate_size": config.d_expert or config.d_ff,
        **{hf_name: getattr(config, name) for name, hf_name in EXPERTS.items()},
        "sliding_window": config.sliding_window,
        "router_aux_loss_coef": config.balance_coef,
        "router_jitter_noise": 0.0,
        "output_router_logits": False,
    }


def hf_tensors(config: DecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor of the family's layout."""
    return shared.decoder_tensors(config, head, LAYOUT)
