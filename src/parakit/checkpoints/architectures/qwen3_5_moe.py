"""Qwen3.5 and Qwen3.6 with experts, the language model: experts in every layer, and one more for every token, with a gate."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from parakit.checkpoints.architectures import qwen3_5
from parakit.checkpoints.architectures import rotary_decoders as shared
from parakit.checkpoints.hf_config import HFConfig, read_value
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.model.config import DecoderConfig

MODEL_TYPE = "qwen3_5_moe_text"
CLASSES: Mapping[str, str] = {
    "language_model": "Qwen3_5MoeForCausalLM",
    "embedder": "Qwen3_5MoeTextModel",
}
PREFIX, RENAMED, TIED_COPIES = shared.PREFIX, shared.RENAMED, shared.TIED_COPIES
OTHER_PREFIX, is_ignorable = qwen3_5.OTHER_PREFIX, qwen3_5.is_ignorable
read_classifier, write_classifier = shared.read_classifier, shared.write_classifier
EXPERTS = {
    "n_experts": "num_experts",
    "n_active_experts": "num_experts_per_tok",
    "d_expert": "moe_intermediate_size",
    "balance_coef": "router_aux_loss_coef",
}
SHARED = "shared_expert_intermediate_size"
DEFAULTS: dict[str, Any] = {
    **qwen3_5.DEFAULTS,
    **{"num_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 512},
    **{"router_aux_loss_coef": 0.001, SHARED: 512},
}


def read_settings(hf_config: HFConfig, where: str | Path) -> DecoderConfig:
    """`intermediate_size`, where a file has it, is of no use: no layer is dense."""
    width = read_value(hf_config, "moe_intermediate_size", where, DEFAULTS)
    shared_width = read_value(hf_config, SHARED, where, DEFAULTS)
    sizes = {key: value for key, value in hf_config.items() if key != SHARED}
    settings = qwen3_5.read_hybrid(
        {**sizes, "intermediate_size": width}, where, MODEL_TYPE, EXPERTS, DEFAULTS
    )
    if any(type(n) is not int or n < 1 for n in (width, shared_width)) or shared_width % width:
        raise UserError(
            f"{where}: `{SHARED}` is {shared_width!r}, and `moe_intermediate_size` {width!r}",
            "Parakit supports a shared expert that is as wide as one other or several",
        )
    settings |= {"n_shared_experts": shared_width // width, "shared_expert_gate": True}
    return shared.finish(settings, where, EXPERTS)


def write_settings(config: DecoderConfig) -> JsonObject:
    """The settings as this architecture's keys."""
    width = config.d_expert or config.d_ff
    return {
        **{key: value for key, value in qwen3_5.write_settings(config).items() if key != "intermediate_size"},
        "model_type": MODEL_TYPE,
        **{hf_name: getattr(config, name) for name, hf_name in EXPERTS.items()},
        "moe_intermediate_size": width,
        SHARED: config.n_shared_experts * width,
        "output_router_logits": False,
    }


def hf_tensors(config: DecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor of the family's layout."""
    return qwen3_5.hf_tensors(config, head)


def stored_tensors(config: DecoderConfig, head: Head, stored: Collection[str]) -> Iterator[HFTensor]:
    """Published folders stack the experts of a layer; transformers writes one tensor for each."""
    stacked = any(name.endswith(".mlp.experts.gate_up_proj") for name in stored)
    return qwen3_5.hf_tensors(config, head, ("mlp", None) if stacked else shared.EXPERTS)
