"""BERT (Devlin et al. 2019): learned positions, token types, norms after every sum, biases everywhere.

The pooler (a dense layer and tanh on the first token) is part of the sequence classifier's head here; an `Embedder`
does not use it. The head for next-sentence prediction is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from parakit.checkpoints.architectures.layer_tensors import linear, norm, tensor
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
# name -> key in config.json
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
REQUIRED_VALUES: RequiredValues = {
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


def read_settings(hf_config: HFConfig, where: str | Path) -> EncoderConfig:
    """Dropout is read as well, for fine-tuning."""
    settings = read_keys(
        hf_config,
        where,
        model_type=MODEL_TYPE,
        settings=SETTINGS,
        required=REQUIRED_VALUES,
        ignored=IGNORED_KEYS,
        handled=("hidden_act",),
        defaults=DEFAULTS,
    )
    if settings["attention_dropout"] == settings["dropout"]:
        settings["attention_dropout"] = None
    settings["head_dim"] = read_head_dim(hf_config, where, "hidden_size", "num_attention_heads")
    settings["n_kv_heads"] = settings["n_heads"]
    settings["activation"] = read_activation(hf_config, "hidden_act", where, "gelu")
    config = parse_config(EncoderConfig, settings | SHAPE, SETTINGS, where)
    check_lengths(config, where)
    return config


def write_settings(config: EncoderConfig) -> JsonObject:
    """The settings as BERT's keys."""
    dropout = config.dropout if config.attention_dropout is None else config.attention_dropout
    return {
        "model_type": MODEL_TYPE,
        **{hf_name: getattr(config, name) for name, hf_name in SETTINGS.items()},
        "attention_probs_dropout_prob": dropout,
        "hidden_act": write_activation(config.activation),
        "position_embedding_type": "absolute",
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "pad_token_id": None,
    }


def read_classifier(hf_config: HFConfig, level: str) -> JsonObject:
    """A sequence is classified by its first token, through the pooler; tokens directly."""
    return {"pooling": "cls", "head": "tanh" if level == "sequence" else "linear", "bias": True}


def write_classifier(classes: ClassifierConfig) -> JsonObject:
    """Nothing to write: there is no choice."""
    return {}


def hf_tensors(config: EncoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor, layer by layer."""
    prefix = "" if head.kind == "embedder" else PREFIX
    d, hf_name = config.d_model, f"{prefix}embeddings"
    yield tensor("trunk.token_embedding.weight", f"{hf_name}.word_embeddings.weight", config.vocab_size, d)
    yield tensor("trunk.positions.weight", f"{hf_name}.position_embeddings.weight", config.max_seq_len, d)
    if config.n_token_types:
        types = f"{hf_name}.token_type_embeddings.weight"
        yield tensor("trunk.type_embedding.weight", types, config.n_token_types, d)
    yield from norm("trunk.embedding_norm", f"{hf_name}.LayerNorm", d)
    for layer in range(config.n_layers):
        yield from _block(config, f"trunk.blocks.{layer}", f"{prefix}encoder.layer.{layer}")
    yield from _head(config, head)


def is_ignorable(hf_name: str) -> bool:
    """Position ids, the pooler where no head uses it, and the head for next-sentence prediction."""
    ignorable = ("position_ids", "pooler.dense.weight", "pooler.dense.bias")
    return hf_name.endswith(ignorable) or hf_name.startswith("cls.seq_relationship.")


def _block(config: EncoderConfig, name: str, hf_name: str) -> Iterator[HFTensor]:
    d, f = config.d_model, config.d_ff
    for part in ("query", "key", "value"):
        yield from linear(f"{name}.attention.{part}", f"{hf_name}.attention.self.{part}", d, d)
    yield from linear(f"{name}.attention.output", f"{hf_name}.attention.output.dense", d, d)
    yield from norm(f"{name}.attention_norm", f"{hf_name}.attention.output.LayerNorm", d)
    yield from linear(f"{name}.feed_forward.up", f"{hf_name}.intermediate.dense", f, d)
    yield from linear(f"{name}.feed_forward.down", f"{hf_name}.output.dense", d, f)
    yield from norm(f"{name}.feed_forward_norm", f"{hf_name}.output.LayerNorm", d)


def _head(config: EncoderConfig, head: Head) -> Iterator[HFTensor]:
    d = config.d_model
    if head.kind == "masked_language_model":
        yield from linear("transform.dense", "cls.predictions.transform.dense", d, d)
        yield from norm("transform.norm", "cls.predictions.transform.LayerNorm", d)
        yield HFTensor("cls.predictions.bias", (config.vocab_size,), (TensorSlice("lm_head.bias"),))
    elif head.classes is not None:
        if head.classes.head == "tanh":
            yield from linear("dense.0", f"{PREFIX}pooler.dense", d, d)
        yield from linear("label_head", "classifier", len(head.classes.labels), d)
