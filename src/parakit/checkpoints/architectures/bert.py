"""BERT (Devlin et al. 2019): learned positions, token types, norms behind every sum, biases everywhere.

The pooler (a dense layer and tanh on the first token) is part of the sequence classifier's head here; an `Embedder`
has no use for it, and what predicted the next sentence is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parakit.checkpoints.architectures.layer_tensors import linear, norm, table
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
from parakit.model.config import ClassifierConfig, EncoderConfig

MODEL_TYPE = "bert"
CLASSES: Mapping[str, str] = {
    "masked_language_model": "BertForMaskedLM",
    "classifier": "BertForSequenceClassification",
    "token_classifier": "BertForTokenClassification",
    "embedder": "BertModel",
}
ALIASES: Mapping[str, str] = {"BertForPreTraining": "masked_language_model"}
PREFIX = "bert."
RENAMED: Mapping[str, str] = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
TIED_COPIES: Mapping[str, str] = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
# ours -> theirs
SETTINGS = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "d_ff": "intermediate_size",
    "max_seq_len": "max_position_embeddings",
    "norm_eps": "layer_norm_eps",
    "n_token_types": "type_vocab_size",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
}
DEFAULTS = {
    "layer_norm_eps": 1e-12,
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}
REQUIRED_VALUES: Fixed = {
    "is_decoder": ((False, None), "a decoder with BERT's layers"),
    "position_embedding_type": (("absolute", None), "relative positions"),
    "tie_word_embeddings": ((True, None), "an output matrix of its own"),
}
IGNORED_KEYS = (
    *("classifier_dropout", "directionality", "pooler_fc_size", "pooler_num_attention_heads"),
    *("pooler_num_fc_layers", "pooler_size_per_head", "pooler_type"),
)
SHAPE = {
    **{"positions": "learned", "norm_bias": True, "post_norm": True, "final_norm": False, "gated": False},
    **{"attention_bias": True, "attention_output_bias": True, "feed_forward_bias": True},
}


def read_settings(foreign: Mapping[str, Any], where: str | Path) -> EncoderConfig:
    """Dropout is read as well: fine-tuning goes on with the published one."""
    settings = read_keys(
        foreign,
        where,
        model_type=MODEL_TYPE,
        settings=SETTINGS,
        fixed=REQUIRED_VALUES,
        harmless=IGNORED_KEYS,
        handled=("hidden_act",),
        defaults=DEFAULTS,
    )
    if settings["attention_dropout"] == settings["dropout"]:
        settings["attention_dropout"] = None
    settings["head_dim"] = read_head_dim(foreign, where, "hidden_size", "num_attention_heads")
    settings["n_kv_heads"] = settings["n_heads"]
    settings["activation"] = read_activation(foreign, "hidden_act", where, "gelu")
    config = parsed(EncoderConfig, settings | SHAPE, SETTINGS, where)
    check_lengths(config, where)
    return config


def write_settings(config: EncoderConfig) -> dict[str, Any]:
    """Our settings in BERT's words."""
    dropout = config.dropout if config.attention_dropout is None else config.attention_dropout
    return {
        "model_type": MODEL_TYPE,
        **{theirs: getattr(config, ours) for ours, theirs in SETTINGS.items()},
        "attention_probs_dropout_prob": dropout,
        "hidden_act": write_activation(config.activation),
        "position_embedding_type": "absolute",
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "pad_token_id": None,
    }


def read_classifier(foreign: Mapping[str, Any], level: str) -> dict[str, Any]:
    """A sequence is judged by its first token, through the pooler; tokens directly."""
    return {"pooling": "cls", "head": "tanh" if level == "sequence" else "linear", "bias": True}


def write_classifier(classes: ClassifierConfig) -> dict[str, Any]:
    """There is no choice to write down."""
    return {}


def named_tensors(config: EncoderConfig, head: Head) -> Iterator[NamedTensor]:
    """Every tensor, layer by layer."""
    prefix = "" if head.kind == "embedder" else PREFIX
    d, ours, theirs = config.d_model, "trunk", f"{prefix}embeddings"
    yield table(f"{ours}.token_embedding.weight", f"{theirs}.word_embeddings.weight", config.vocab_size, d)
    yield table(f"{ours}.positions.weight", f"{theirs}.position_embeddings.weight", config.max_seq_len, d)
    if config.n_token_types:
        n, name = config.n_token_types, f"{theirs}.token_type_embeddings.weight"
        yield table(f"{ours}.type_embedding.weight", name, n, d)
    yield from norm(f"{ours}.embedding_norm", f"{theirs}.LayerNorm", d)
    for layer in range(config.n_layers):
        yield from _block(config, f"trunk.blocks.{layer}", f"{prefix}encoder.layer.{layer}")
    yield from _head(config, head)


def is_ignorable(theirs: str) -> bool:
    """Numbers of positions, the pooler where no head needs it, and the head for the next sentence."""
    ignorable = ("position_ids", "pooler.dense.weight", "pooler.dense.bias")
    return theirs.endswith(ignorable) or theirs.startswith("cls.seq_relationship.")


def _block(config: EncoderConfig, ours: str, theirs: str) -> Iterator[NamedTensor]:
    d, f = config.d_model, config.d_ff
    for name in ("query", "key", "value"):
        yield from linear(f"{ours}.attention.{name}", f"{theirs}.attention.self.{name}", d, d)
    yield from linear(f"{ours}.attention.output", f"{theirs}.attention.output.dense", d, d)
    yield from norm(f"{ours}.attention_norm", f"{theirs}.attention.output.LayerNorm", d)
    yield from linear(f"{ours}.feed_forward.up", f"{theirs}.intermediate.dense", f, d)
    yield from linear(f"{ours}.feed_forward.down", f"{theirs}.output.dense", d, f)
    yield from norm(f"{ours}.feed_forward_norm", f"{theirs}.output.LayerNorm", d)


def _head(config: EncoderConfig, head: Head) -> Iterator[NamedTensor]:
    d = config.d_model
    if head.kind == "masked_language_model":
        yield from linear("transform.dense", "cls.predictions.transform.dense", d, d)
        yield from norm("transform.norm", "cls.predictions.transform.LayerNorm", d)
        yield NamedTensor("cls.predictions.bias", (config.vocab_size,), (Piece("lm_head.bias"),))
    elif head.classes is not None:
        if head.classes.head == "tanh":
            yield from linear("dense.0", f"{PREFIX}pooler.dense", d, d)
        yield from linear("label_head", "classifier", len(head.classes.labels), d)
