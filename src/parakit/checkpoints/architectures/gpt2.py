"""GPT-2 (Radford et al. 2019): learned positions, LayerNorm, GELU, biases everywhere. Its matrices are stored
transposed, those of queries, keys and values side by side in one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from parakit.checkpoints.architectures import rotary_decoders as shared
from parakit.checkpoints.architectures.layer_tensors import equal_rows, norm, tensor
from parakit.checkpoints.hf_config import (
    HFConfig,
    RequiredValues,
    check_lengths,
    parse_config,
    read_activation,
    read_head_dim,
    read_keys,
    write_activation,
)
from parakit.checkpoints.mapping import Head, HFTensor, TensorSlice
from parakit.common.files import JsonObject
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
REQUIRED_VALUES: RequiredValues = {
    "scale_attn_by_inverse_layer_idx": ((False, None), "scores divided by the layer's number"),
}
IGNORED_KEYS = (
    *("is_decoder", "n_ctx", "attn_pdrop", "embd_pdrop", "resid_pdrop", "classifier_dropout"),
    *("summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type"),
    *("summary_use_proj", "n_special", "predict_special_tokens"),
)
SHAPE = {
    **{"positions": "learned", "query_key_norm": False, "norm": "layer", "norm_bias": True, "gated": False},
    **{"attention_bias": True, "attention_output_bias": True, "feed_forward_bias": True},
}


def read_settings(hf_config: HFConfig, where: str | Path) -> DecoderConfig:
    """`n_inner` null means four times the width."""
    settings = read_keys(
        hf_config,
        where,
        model_type=MODEL_TYPE,
        settings=SETTINGS,
        required=REQUIRED_VALUES,
        ignored=IGNORED_KEYS,
        handled=("n_inner", "activation_function", "scale_attn_weights"),
        defaults=DEFAULTS,
    )
    settings["head_dim"] = read_head_dim(hf_config, where, "n_embd", "n_head")
    settings["n_kv_heads"] = settings["n_heads"]
    settings["d_ff"] = hf_config.get("n_inner") or 4 * settings["d_model"]
    settings["activation"] = read_activation(hf_config, "activation_function", where, "gelu_new")
    settings["attention_scale"] = None if hf_config.get("scale_attn_weights", True) else 1.0
    config = parse_config(DecoderConfig, settings | SHAPE, SETTINGS, where)
    check_lengths(config, where, "n_positions")
    return config


def write_settings(config: DecoderConfig) -> JsonObject:
    """The settings as GPT-2's keys."""
    return {
        "model_type": MODEL_TYPE,
        **{hf_name: getattr(config, name) for name, hf_name in SETTINGS.items()},
        "n_ctx": config.max_seq_len,
        "n_inner": None if config.d_ff == 4 * config.d_model else config.d_ff,
        "activation_function": write_activation(config.activation),
        "scale_attn_weights": config.attention_scale != 1.0,
        **{"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
        "initializer_range": 0.02,
        "use_cache": True,
    }


def hf_tensors(config: DecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor, layer by layer."""
    prefix = "" if head.kind == "embedder" else PREFIX
    d, f = config.d_model, config.d_ff
    yield tensor("trunk.token_embedding.weight", f"{prefix}wte.weight", config.vocab_size, d)
    yield tensor("trunk.positions.weight", f"{prefix}wpe.weight", config.max_seq_len, d)
    for layer in range(config.n_layers):
        name, hf_name = f"trunk.blocks.{layer}", f"{prefix}h.{layer}"
        yield from norm(f"{name}.attention_norm", f"{hf_name}.ln_1", d)
        parts = [f"{name}.attention.{part}" for part in ("query", "key", "value")]
        yield from _transposed(parts, f"{hf_name}.attn.c_attn", 3 * d, d)
        yield from _transposed([f"{name}.attention.output"], f"{hf_name}.attn.c_proj", d, d)
        yield from norm(f"{name}.feed_forward_norm", f"{hf_name}.ln_2", d)
        yield from _transposed([f"{name}.feed_forward.up"], f"{hf_name}.mlp.c_fc", f, d)
        yield from _transposed([f"{name}.feed_forward.down"], f"{hf_name}.mlp.c_proj", d, f)
    yield from norm("trunk.final_norm", f"{prefix}ln_f", d)
    tokenwise = head.classes is not None and head.classes.level == "token"
    yield from shared.head_tensors(config, head, "classifier" if tokenwise else "score")


def is_ignorable(hf_name: str) -> bool:
    """The causal masks in old files."""
    return hf_name.endswith((".attn.bias", ".attn.masked_bias"))


def _transposed(names: list[str], hf_name: str, outputs: int, inputs: int) -> Iterator[HFTensor]:
    """A matrix stored (inputs, outputs) that joins the matrices of `names` side by side; and its bias."""
    rows = equal_rows(outputs, len(names))
    weights = (
        TensorSlice(f"{name}.weight", one, transposed=True) for name, one in zip(names, rows, strict=True)
    )
    yield HFTensor(f"{hf_name}.weight", (inputs, outputs), tuple(weights))
    biases = (TensorSlice(f"{name}.bias", one) for name, one in zip(names, rows, strict=True))
    yield HFTensor(f"{hf_name}.bias", (outputs,), tuple(biases))
