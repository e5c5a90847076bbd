"""Qwen3-MoE (Yang et al. 2025): Qwen3 with many small experts, in all layers or in some."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from parakit.checkpoints.architectures import rotary_decoders as shared
from parakit.checkpoints.hf_config import HFConfig, read_value
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.model.config import DecoderConfig

MODEL_TYPE = "qwen3_moe"
CLASSES = shared.classes("Qwen3Moe")
PREFIX, RENAMED, TIED_COPIES = shared.PREFIX, shared.RENAMED, shared.TIED_COPIES
is_ignorable = shared.is_ignorable
read_classifier, write_classifier = shared.read_classifier, shared.write_classifier
SETTINGS = {
    "attention_bias": "attention_bias",
    "n_active_experts": "num_experts_per_tok",
    "d_expert": "moe_intermediate_size",
    "normalize_expert_weights": "norm_topk_prob",
    "balance_coef": "router_aux_loss_coef",
}
DEFAULTS = {"attention_bias": False, "norm_topk_prob": False, "router_aux_loss_coef": 0.001}


def read_settings(hf_config: HFConfig, where: str | Path) -> DecoderConfig:
    """A layer has experts unless `mlp_only_layers` names it or `decoder_sparse_step` skips it."""
    n_experts = hf_config.get("num_experts", hf_config.get("num_local_experts"))
    settings = shared.read_shared(
        hf_config,
        where,
        MODEL_TYPE,
        extra=SETTINGS,
        required=shared.HAS_QK_NORM,
        ignored=("max_window_layers",),
        handled=(
            *("num_experts", "num_local_experts", "decoder_sparse_step", "mlp_only_layers"),
            *("sliding_window", "use_sliding_window"),
        ),
        defaults=DEFAULTS,
    )
    settings |= {"attention_output_bias": settings["attention_bias"], "query_key_norm": True}
    settings["n_experts"] = read_value({"num_experts": n_experts}, "num_experts", where)
    settings["dense_layers"] = _dense_layers(hf_config, settings["n_layers"], where)
    if hf_config.get("use_sliding_window"):
        settings["sliding_window"] = hf_config.get("sliding_window", 4096)
    return shared.finish(settings, where, {**SETTINGS, "n_experts": "num_experts"})


def write_settings(config: DecoderConfig) -> JsonObject:
    """The settings as this architecture's keys."""
    return {
        "model_type": MODEL_TYPE,
        **shared.write_shared(config),
        **{hf_name: getattr(config, name) for name, hf_name in SETTINGS.items()},
        "moe_intermediate_size": config.d_expert or config.d_ff,
        "num_experts": config.n_experts,
        "decoder_sparse_step": 1,
        "mlp_only_layers": list(config.dense_layers),
        "use_sliding_window": config.sliding_window is not None,
        "sliding_window": config.sliding_window,
        "output_router_logits": False,
    }


def hf_tensors(config: DecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor of the family's layout."""
    return shared.decoder_tensors(config, head)


def _dense_layers(hf_config: HFConfig, n_layers: Any, where: str | Path) -> list[int]:
    only, step = hf_config.get("mlp_only_layers") or [], hf_config.get("decoder_sparse_step", 1)
    if not isinstance(only, list) or type(step) is not int or step < 1 or type(n_layers) is not int:
        raise UserError(
            f"{where}: `mlp_only_layers` is {only!r} and `decoder_sparse_step` {step!r}",
            "they are a list of layers and a count of at least 1",
        )
    return [layer for layer in range(n_layers) if layer in only or (layer + 1) % step]
