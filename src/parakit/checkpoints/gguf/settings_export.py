"""A model's settings as the metadata of a GGUF file: the inverse of the functions in `families`.

Starts from the config.json that Parakit writes for the model. What llama.cpp has no key for is found by reading the file
again and comparing; what it has a key for and ignores is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from parakit.checkpoints.gguf.families import FAMILIES, MIXTRAL, GGUFFamily
from parakit.checkpoints.gguf.rope import HIGH, LOW, llama3_factors
from parakit.common.errors import UserError
from parakit.common.files import JsonObject

_SETTINGS = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "vocab_size": "vocab_size",
}
_SCALES = {
    "attention.scale": "attention_multiplier",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
}
_CAPS = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
_LOCAL_THETA = 10_000.0  # of Gemma 3's local layers, fixed in llama.cpp
_DIVIDED_FREQUENCIES = ("llama", "granite")  # those for which llama.cpp reads `rope_freqs.weight`


@dataclass(frozen=True)
class ExportedFamily:
    """How a model whose config.json has some `model_type` is written: the name of llama.cpp's architecture, the names of
    its tensors, and the metadata of a config.json, without the architecture before each key.
    """

    name: str
    tensors: GGUFFamily
    metadata: Callable[[JsonObject], JsonObject]
    window_ignored: bool = False
    """llama.cpp attends to the whole text where the model has a window."""


def rope_factors(config: JsonObject, exported: ExportedFamily) -> np.ndarray | None:
    """What the rotary frequencies are divided by, for Llama 3's scaling; None for another."""
    rope = config.get("rope_parameters", {})
    if rope.get("rope_type") != "llama3":
        return None
    if exported.name not in _DIVIDED_FREQUENCIES:
        raise _unsupported("Llama 3's scaling of rotary positions", exported.name)
    if (rope["low_freq_factor"], rope["high_freq_factor"]) != (LOW, HIGH):
        raise _unsupported(
            f"Llama 3's scaling with the factors {rope['low_freq_factor']} and {rope['high_freq_factor']}"
            f" (they are {LOW} and {HIGH})",
            exported.name,
        )
    factor, original = rope["factor"], rope["original_max_position_embeddings"]
    return llama3_factors(rope["rope_theta"], _head_dim(config), factor, original).astype(np.float32)


def _unsupported(what: str, name: str) -> UserError:
    return UserError(
        f"llama.cpp's architecture {name!r} does not compute {what}",
        "export a plain folder instead: parakit export MODEL --output FOLDER",
    )


def _head_dim(config: JsonObject) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _scaling(rope: Mapping[str, Any], name: str) -> JsonObject:
    """The scaling of rotary positions; Llama 3's is a tensor."""
    kind = rope.get("rope_type", "default")
    if kind in ("default", "llama3"):
        return {}
    if kind not in ("linear", "yarn"):
        raise _unsupported(f"rotary positions of type {kind!r}", name)
    written: JsonObject = {"rope.scaling.type": kind, "rope.scaling.factor": float(rope["factor"])}
    if kind == "yarn":
        written["rope.scaling.original_context_length"] = rope["original_max_position_embeddings"]
        for key, default in (("beta_fast", 32.0), ("beta_slow", 1.0)):
            if rope.get(key, default) != default:
                written[f"rope.scaling.yarn_{key}"] = float(rope[key])
        if rope.get("attention_factor") is not None or not rope.get("truncate", True):
            raise _unsupported("YaRN with a factor of attention, or pairs that are not whole", name)
    return written


def _rotary(config: JsonObject, name: str) -> JsonObject:
    """Llama and its descendants."""
    rope, head_dim = config["rope_parameters"], _head_dim(config)
    rope = rope.get("full_attention", rope)
    share = config.get("partial_rotary_factor", rope.get("partial_rotary_factor", 1.0))
    if share != 1.0:
        raise _unsupported(f"rotary positions on {share:g} of each head's features", name)
    return {
        **{key: config[hf_name] for key, hf_name in _SETTINGS.items()},
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "rope.dimension_count": head_dim,
        "rope.freq_base": float(rope["rope_theta"]),
        **_scaling(rope, name),
    }


def _window(config: JsonObject) -> JsonObject:
    window = config.get("sliding_window")
    return {} if window is None else {"attention.sliding_window": window}


def _llama(config: JsonObject) -> JsonObject:
    return _rotary(config, "llama") | _window(config)


def _mixtral(config: JsonObject) -> JsonObject:
    return _llama(config) | {
        "expert_count": config["num_local_experts"],
        "expert_used_count": config["num_experts_per_tok"],
    }


def _qwen3_moe(config: JsonObject) -> JsonObject:
    if not config["norm_topk_prob"]:
        raise _unsupported("experts whose weights are not scaled to the sum of 1", "qwen3moe")
    return _rotary(config, "qwen3moe") | {
        "expert_count": config["num_experts"],
        "expert_used_count": config["num_experts_per_tok"],
        "expert_feed_forward_length": config["moe_intermediate_size"],
    }


def _gemma2(config: JsonObject) -> JsonObject:
    if config.get("attn_logit_softcapping") is None or config.get("final_logit_softcapping") is None:
        raise _unsupported("logits without bounds", "gemma2")
    return _rotary(config, "gemma2") | _window(config) | _capped(config)


def _gemma3(config: JsonObject) -> JsonObject:
    theta = config["rope_parameters"]["sliding_attention"]["rope_theta"]
    if theta != _LOCAL_THETA:
        raise _unsupported(f"a rotary base of {theta:g} in local layers (it has {_LOCAL_THETA:g})", "gemma3")
    return _rotary(config, "gemma3") | _window(config) | _capped(config)


def _capped(config: JsonObject) -> JsonObject:
    return {key: float(config[hf]) for key, hf in _CAPS.items() if config.get(hf) is not None}


def _granite(config: JsonObject) -> JsonObject:
    return _rotary(config, "granite") | {key: float(config[hf]) for key, hf in _SCALES.items()}


def _phi3(config: JsonObject) -> JsonObject:
    original = config["original_max_position_embeddings"]
    return _rotary(config, "phi3") | _window(config) | {"rope.scaling.original_context_length": original}


def _gpt2(config: JsonObject) -> JsonObject:
    return {
        "context_length": config["n_positions"],
        "embedding_length": config["n_embd"],
        "block_count": config["n_layer"],
        "feed_forward_length": config["n_inner"] or 4 * config["n_embd"],
        "attention.head_count": config["n_head"],
        "attention.layer_norm_epsilon": config["layer_norm_epsilon"],
        "vocab_size": config["vocab_size"],
    }


def _plain(name: str) -> ExportedFamily:
    return ExportedFamily(name, FAMILIES[name], lambda config: _rotary(config, name))


# model_type of config.json -> how it is written
EXPORTED: dict[str, ExportedFamily] = {
    "qwen3": _plain("qwen3"),
    "llama": ExportedFamily("llama", FAMILIES["llama"], _llama),
    "mistral": ExportedFamily("llama", FAMILIES["llama"], _llama, window_ignored=True),
    "qwen2": _plain("qwen2"),
    "gpt2": ExportedFamily("gpt2", FAMILIES["gpt2"], _gpt2),
    "qwen3_moe": ExportedFamily("qwen3moe", FAMILIES["qwen3moe"], _qwen3_moe),
    "mixtral": ExportedFamily("llama", MIXTRAL, _mixtral, window_ignored=True),
    "phi3": ExportedFamily("phi3", FAMILIES["phi3"], _phi3, window_ignored=True),
    "olmo2": _plain("olmo2"),
    "gemma2": ExportedFamily("gemma2", FAMILIES["gemma2"], _gemma2),
    "gemma3_text": ExportedFamily("gemma3", FAMILIES["gemma3"], _gemma3),
    "granite": ExportedFamily("granite", FAMILIES["granite"], _granite),
    "smollm3": _plain("smollm3"),
}
