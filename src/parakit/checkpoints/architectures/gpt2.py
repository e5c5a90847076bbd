"""GPT-2 (Radford et al. 2019): learned positions, LayerNorm, GELU, biases everywhere. Its matrices lie turned in the
file, queries, keys and values side by side in one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parakit.checkpoints.architectures import rotary_decoders as shared
from parakit.checkpoints.architectures.layer_tensors import norm, table
from parakit.checkpoints.hf_config import (
    Fixed,
    check_lengths,
    parsed,
    read_activation,
    read_head_dim,
    read_keys,
    write_activation,
)
from parakit.checkpoints.mapping import Head, NamedTensor, Piece
from parakit.model.config import DecoderConfig

MODEL_TYPE = "gpt2"
CLASSES: Mapping[str, str] = {
    "language_model": "GPT2LMHeadModel",
    "classifier": "GPT2ForSequenceClassification",
    "token_classifier": "GPT2ForTokenClassification",
    "reward_model": "GPT2ForSequenceClassification",
    "embedder": "GPT2Model",
}
PREFIX = "transformer."
RENAMED: Mapping[str, str] = {}
TIED_COPIES: Mapping[str, str] = {"lm_head.weight": "transformer.wte.weight"}
read_classifier, write_classifier = shared.read_classifier, shared.write_classifier
SETTINGS = {
    "vocab_size": "vocab_size",
    "d_model": "n_embd",
    "n_layers": "n_layer",
    "n_heads": "n_head",
    "max_seq_len": "n_positions",
    "norm_eps": "layer_norm_epsilon",
    "tie_embeddings": "tie_word_embeddings",
}
DEFAULTS = {"layer_norm_epsilon": 1e-5, "tie_word_embeddings": True}
REQUIRED_VALUES: Fixed = {
    "scale_attn_by_inverse_layer_idx": ((False, None), "scores divided by the layer's number"),
    "reorder_and_upcast_attn": ((False, None), "another order of operations in the attention"),
}
IGNORED_KEYS = (
    *("is_decoder", "n_ctx", "attn_pdrop", "embd_pdrop", "resid_pdrop", "classifier_dropout"),
    *("summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type"),
    *("summary_use_proj",),
)
SHAPE = {
    **{"positions": "learned", "query_key_norm": False, "norm": "layer", "norm_bias": True, "gated": False},
    **{"attention_bias": True, "attention_output_bias": True, "feed_forward_bias": True},
}


def read_settings(foreign: Mapping[str, Any], where: str | Path) -> DecoderConfig:
    """`n_inner` null means four times the width."""
    settings = read_keys(
        foreign,
        where,
        model_type=MODEL_TYPE,
        settings=SETTINGS,
        fixed=REQUIRED_VALUES,
        harmless=IGNORED_KEYS,
        handled=("n_inner", "activation_function", "scale_attn_weights"),
        defaults=DEFAULTS,
    )
    settings["head_dim"] = read_head_dim(foreign, where, "n_embd", "n_head")
    settings["n_kv_heads"] = settings["n_heads"]
    settings["d_ff"] = foreign.get("n_inner") or 4 * settings["d_model"]
    settings["activation"] = read_activation(foreign, "activation_function", where, "gelu_new")
    settings["attention_scale"] = None if foreign.get("scale_attn_weights", True) else 1.0
    config = parsed(DecoderConfig, settings | SHAPE, SETTINGS, where)
    check_lengths(config, where, "n_positions")
    return config


def write_settings(config: DecoderConfig) -> dict[str, Any]:
    """Our settings in GPT-2's words."""
    return {
        "model_type": MODEL_TYPE,
        **{theirs: getattr(config, ours) for ours, theirs in SETTINGS.items()},
        "n_ctx": config.max_seq_len,
        "n_inner": None if config.d_ff == 4 * config.d_model else config.d_ff,
        "activation_function": write_activation(config.activation),
        "scale_attn_weights": config.attention_scale != 1.0,
        **{"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
        "initializer_range": 0.02,
        "use_cache": True,
    }


def named_tensors(config: DecoderConfig, head: Head) -> Iterator[NamedTensor]:
    """Every tensor, layer by layer."""
    prefix = "" if head.kind == "embedder" else PREFIX
    d, f = config.d_model, config.d_ff
    yield table("trunk.token_embedding.weight", f"{prefix}wte.weight", config.vocab_size, d)
    yield table("trunk.positions.weight", f"{prefix}wpe.weight", config.max_seq_len, d)
    for layer in range(config.n_layers):
        ours, theirs = f"trunk.blocks.{layer}", f"{prefix}h.{layer}"
        yield from norm(f"{ours}.attention_norm", f"{theirs}.ln_1", d)
        parts = [f"{ours}.attention.{name}" for name in ("query", "key", "value")]
        yield from _turned(parts, f"{theirs}.attn.c_attn", 3 * d, d)
        yield from _turned([f"{ours}.attention.output"], f"{theirs}.attn.c_proj", d, d)
        yield from norm(f"{ours}.feed_forward_norm", f"{theirs}.ln_2", d)
        yield from _turned([f"{ours}.feed_forward.up"], f"{theirs}.mlp.c_fc", f, d)
        yield from _turned([f"{ours}.feed_forward.down"], f"{theirs}.mlp.c_proj", d, f)
    yield from norm("trunk.final_norm", f"{prefix}ln_f", d)
    tokenwise = head.classes is not None and head.classes.level == "token"
    yield from shared.head_tensors(config, head, "classifier" if tokenwise else "score")


def is_ignorable(theirs: str) -> bool:
    """The causal masks that old files carry."""
    return theirs.endswith((".attn.bias", ".attn.masked_bias"))


def _turned(ours: list[str], theirs: str, outputs: int, inputs: int) -> Iterator[NamedTensor]:
    """A matrix stored (inputs, outputs), which is the matrices of `ours` side by side; and its bias."""
    each = outputs // len(ours)
    rows = [(i * each, (i + 1) * each) for i in range(len(ours))]
    weights = (Piece(f"{name}.weight", part, transposed=True) for name, part in zip(ours, rows, strict=True))
    yield NamedTensor(f"{theirs}.weight", (inputs, outputs), tuple(weights))
    biases = (Piece(f"{name}.bias", part) for name, part in zip(ours, rows, strict=True))
    yield NamedTensor(f"{theirs}.bias", (outputs,), tuple(biases))
