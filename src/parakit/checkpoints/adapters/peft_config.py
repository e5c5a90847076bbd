"""`adapter_config.json`, as the peft library writes and reads it. Imports no torch.

A setting that means an unsupported computation is an error that names it; settings of peft's initialization or training
are ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from parakit.checkpoints.adapters.base_model import BASE, CONFIG
from parakit.checkpoints.folder_safety import FETCH, read_small_json, regular_file
from parakit.checkpoints.mapping import Head
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.json_reading import check_shape
from parakit.model.config import DecoderConfig

TASKS = {
    "language_model": "CAUSAL_LM",
    "sequence_to_sequence": "SEQ_2_SEQ_LM",
    "classifier": "SEQ_CLS",
    "reward_model": "SEQ_CLS",
    "embedder": "FEATURE_EXTRACTION",
}
TYPES = ("LORA", "PROMPT_TUNING", "PREFIX_TUNING")
_IGNORED = {
    *("peft_type", "task_type", "auto_mapping", "revision", "inference_mode", "peft_version", BASE),
    *("target_modules", "exclude_modules", "modules_to_save", "layers_to_transform", "layers_pattern"),
    *("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern"),
    *("fan_in_fan_out", "megatron_core", "qalora_group_size", "ensure_weight_tying", "runtime_config"),
    *("num_virtual_tokens", "token_dim", "num_transformer_submodules", "num_attention_heads", "num_layers"),
    *("prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path", "tokenizer_kwargs"),
    *("encoder_hidden_size", "init_weights", "bias", "init_lora_weights", "trainable_token_indices"),
}


class PeftSettings(BaseModel):
    """The keys of adapter_config.json that are read, with their types."""

    r: int | None = None
    lora_alpha: float | None = None
    lora_dropout: float | None = None
    use_rslora: bool | None = None
    use_dora: bool | None = None
    fan_in_fan_out: bool | None = None
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None
    target_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None
    num_virtual_tokens: int | None = None
    trainable_token_indices: list[int] | dict[str, list[int]] | None = None
    base_model_name_or_path: str | None = None


_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


def read_peft_config(folder: Path) -> JsonObject:
    """The settings of a supported adapter; `UserError` names an unsupported key."""
    where = folder / CONFIG
    config: JsonObject = check_shape(
        read_small_json(regular_file(folder, CONFIG)), PeftSettings, where, FETCH
    )
    kind = config.get("peft_type")
    if kind not in TYPES:
        raise UserError(f"{where}: peft_type is {kind!r}", f"Parakit loads: {', '.join(TYPES)}")
    if config.get("bias", "none") != "none":
        raise UserError(
            f"{where}: bias is {config['bias']!r}", "only adapters that leave biases alone are loaded"
        )
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.lower().startswith(_CHANGES_BASE):
        raise UserError(
            f"{where}: init_lora_weights is {init!r}, which changes the base's weights too",
            "convert it with peft to a plain LoRA (path_initial_model_for_weight_conversion)",
        )
    if unknown := sorted(key for key, value in config.items() if value and key not in _IGNORED):
        raise UserError(
            f"{where}: asks for {unknown[0]} = {config[unknown[0]]!r}", "Parakit supports no such adapter"
        )
    return config


def lora_scale(config: Mapping[str, Any], hf_name: str, rank: int, where: Path) -> float:
    """The factor by which the product of `lora_b` and `lora_a` is multiplied in this module."""
    alpha = _pattern(config.get("alpha_pattern"), hf_name, config.get("lora_alpha", 8))
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise UserError(f"{where}: lora_alpha is {alpha!r}", "it is a number")
    expected = _pattern(config.get("rank_pattern"), hf_name, config.get("r", 8))
    if expected != rank:
        raise UserError(
            f"{where}: plans rank {expected!r} for {hf_name}, and the weights have {rank}",
            "the two files belong to different adapters",
        )
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _pattern(patterns: Any, name: str, default: Any) -> Any:
    """The value for a module: in peft a key matches every module whose name ends with it (a regular expression there,
    plain text here).
    """
    for key, value in (patterns or {}).items():
        if re.fullmatch(rf"(.*\.)?{re.escape(key.lstrip('^').rstrip('$'))}", name):
            return value
    return default


def peft_lora_config(
    base: str,
    head: Head,
    ranks: Mapping[str, tuple[int, float]],
    *,
    target_modules: Collection[str],
    dropout: float,
    rank_stabilized: bool,
    dora: bool,
    transposed: bool,
    modules_to_save: Collection[str],
    token_ids: list[int] | dict[str, list[int]] | None = None,
) -> JsonObject:
    """`ranks`: rank and scale of every module; the most frequent are `r` and `lora_alpha`, others become patterns."""
    values = list(ranks.values())
    rank, scale = max(set(values), key=values.count)

    def alpha(rank: int, scale: float) -> float:
        value = scale * (math.sqrt(rank) if rank_stabilized else rank)
        return round(value) if abs(value - round(value)) < 1e-9 else value

    others = {name: pair for name, pair in ranks.items() if pair != (rank, scale)}
    return {
        "peft_type": "LORA",
        "task_type": task_type(head),
        BASE: base,
        "revision": None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha(rank, scale),
        "lora_dropout": dropout,
        "use_rslora": rank_stabilized,
        "use_dora": dora,
        "bias": "none",
        "fan_in_fan_out": transposed,
        "target_modules": sorted(target_modules),
        "trainable_token_indices": token_ids,
        "modules_to_save": sorted(modules_to_save) or None,
        "rank_pattern": {name: pair[0] for name, pair in others.items()},
        "alpha_pattern": {name: alpha(*pair) for name, pair in others.items()},
        "init_lora_weights": True,
    }


def virtual_tokens_config(kind: str, base: str, config: DecoderConfig, n: int) -> JsonObject:
    """The `adapter_config.json` of a prompt or a prefix with `n` virtual tokens."""
    shared = {
        "peft_type": kind,
        "task_type": "CAUSAL_LM",
        BASE: base,
        "revision": None,
        "inference_mode": True,
        "num_virtual_tokens": n,
        "num_layers": config.n_layers,
        "num_transformer_submodules": 1,
    }
    if kind == "PROMPT_TUNING":
        init = {
            "prompt_tuning_init": "RANDOM",
            "prompt_tuning_init_text": None,
            "tokenizer_name_or_path": None,
        }
        return shared | {"token_dim": config.d_token, "num_attention_heads": config.n_heads} | init
    width = config.n_kv_heads * config.head_dim
    return shared | {
        "token_dim": width,
        "num_attention_heads": config.n_kv_heads,
        "prefix_projection": False,
        "encoder_hidden_size": width,
    }


def task_type(head: Head) -> str | None:
    """peft's task type of a head; None for masked language models, for which it has none."""
    if head.classes is not None and head.classes.level == "token":
        return "TOKEN_CLS"
    return TASKS.get(head.kind)
