"""`adapter_config.json`, as the peft library writes and reads it. Imports no torch.

What asks for a computation that Parakit does not do is refused by name; what only told peft how to begin, or how to
train, is passed over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from parakit.checkpoints.adapters.base_model import BASE, CONFIG
from parakit.checkpoints.folder_safety import read_small_json, regular_file
from parakit.checkpoints.mapping import Head
from parakit.common.errors import UserError
from parakit.model.config import DecoderConfig

TASKS = {
    "language_model": "CAUSAL_LM",
    "sequence_to_sequence": "SEQ_2_SEQ_LM",
    "classifier": "SEQ_CLS",
    "reward_model": "SEQ_CLS",
    "embedder": "FEATURE_EXTRACTION",
}
TYPES = ("LORA", "PROMPT_TUNING", "PREFIX_TUNING")
_PASSED_OVER = {
    *("peft_type", "task_type", "auto_mapping", "revision", "inference_mode", "peft_version", BASE),
    *("target_modules", "exclude_modules", "modules_to_save", "layers_to_transform", "layers_pattern"),
    *("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern"),
    *("fan_in_fan_out", "megatron_core", "qalora_group_size", "ensure_weight_tying", "runtime_config"),
    *("num_virtual_tokens", "token_dim", "num_transformer_submodules", "num_attention_heads", "num_layers"),
    *("prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path", "tokenizer_kwargs"),
    *("encoder_hidden_size", "init_weights", "bias", "init_lora_weights", "trainable_token_indices"),
}
_MOVES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


def read_peft_config(folder: Path) -> dict[str, Any]:
    """The settings, sure to be of a kind that Parakit computes. `UserError` names the key that is not."""
    where = folder / CONFIG
    found: dict[str, Any] = read_small_json(regular_file(folder, CONFIG))
    kind = found.get("peft_type")
    if kind not in TYPES:
        raise UserError(f"{where}: peft_type is {kind!r}", f"Parakit loads: {', '.join(TYPES)}")
    if found.get("bias", "none") != "none":
        raise UserError(
            f"{where}: bias is {found['bias']!r}", "only adapters that leave biases alone are loaded"
        )
    begun = found.get("init_lora_weights")
    if isinstance(begun, str) and begun.lower().startswith(_MOVES_THE_BASE):
        raise UserError(
            f"{where}: init_lora_weights is {begun!r}, which changes the base's weights too",
            "convert it with peft to a plain LoRA (path_initial_model_for_weight_conversion)",
        )
    if unknown := sorted(key for key, value in found.items() if value and key not in _PASSED_OVER):
        raise UserError(
            f"{where}: asks for {unknown[0]} = {found[unknown[0]]!r}", "Parakit computes no such adapter"
        )
    return found


def lora_scale(config: Mapping[str, Any], theirs: str, rank: int, where: Path) -> float:
    """What the factors' product is multiplied by in this module."""
    alpha = _pattern(config.get("alpha_pattern"), theirs, config.get("lora_alpha", 8))
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise UserError(f"{where}: lora_alpha is {alpha!r}", "it is a number")
    planned = _pattern(config.get("rank_pattern"), theirs, config.get("r", 8))
    if planned != rank:
        raise UserError(
            f"{where}: plans rank {planned!r} for {theirs}, and the weights have {rank}",
            "the two files belong to different adapters",
        )
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _pattern(patterns: Any, name: str, otherwise: Any) -> Any:
    """peft's rule: a key stands for every module whose name ends with it, as a regular expression; here as text."""
    for key, value in (patterns or {}).items():
        if re.fullmatch(rf"(.*\.)?{re.escape(key.lstrip('^').rstrip('$'))}", name):
            return value
    return otherwise


def lora_config(
    base: str,
    head: Head,
    sizes: Mapping[str, tuple[int, float]],
    *,
    shared_name: Collection[str],
    dropout: float,
    rank_stabilized: bool,
    dora: bool,
    is_turned: bool,
    retrained: Collection[str],
    token_ids: list[int] | dict[str, list[int]] | None = None,
) -> dict[str, Any]:
    """`sizes`: rank and scale of every foreign module; the commonest are the general ones, others are patterns."""
    values = list(sizes.values())
    rank, scale = max(set(values), key=values.count)

    def alpha(rank: int, scale: float) -> float:
        found = scale * (math.sqrt(rank) if rank_stabilized else rank)
        return round(found) if abs(found - round(found)) < 1e-9 else found

    others = {name: size for name, size in sizes.items() if size != (rank, scale)}
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
        "fan_in_fan_out": is_turned,
        "target_modules": sorted(shared_name),
        "trainable_token_indices": token_ids,
        "modules_to_save": sorted(retrained) or None,
        "rank_pattern": {name: size[0] for name, size in others.items()},
        "alpha_pattern": {name: alpha(*size) for name, size in others.items()},
        "init_lora_weights": True,
    }


def virtual_tokens_config(kind: str, base: str, config: DecoderConfig, n: int) -> dict[str, Any]:
    """Of a prompt or a prefix."""
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
        return shared | {"token_dim": config.d_model, "num_attention_heads": config.n_heads} | init
    width = config.n_kv_heads * config.head_dim
    return shared | {
        "token_dim": width,
        "num_attention_heads": config.n_kv_heads,
        "prefix_projection": False,
        "encoder_hidden_size": width,
    }


def task_type(head: Head) -> str | None:
    """peft's word for what a head does; it has none for masked language models."""
    if head.classes is not None and head.classes.level == "token":
        return "TOKEN_CLS"
    return TASKS.get(head.kind)
