"""DistilBERT (Sanh et al. 2019): BERT's layers without token types; norms have a fixed epsilon.

A sequence is classified by its first token through a dense layer and ReLU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from parakit.checkpoints.architectures import bert_encoders
from parakit.checkpoints.architectures.bert_encoders import (
    REQUIRED_VALUES,
    embedding_tensors,
    first_token_classifier,
    is_unused,
    label_tensors,
    no_choice,
    read_encoder,
    write_encoder,
)
from parakit.checkpoints.architectures.layer_tensors import linear, norm
from parakit.checkpoints.hf_config import HFConfig, check_lengths, parse_config
from parakit.checkpoints.mapping import Head, HFTensor, TensorSlice
from parakit.common.files import JsonObject
from parakit.model.config import EncoderConfig

MODEL_TYPE = "distilbert"
CLASSES: Mapping[str, str] = {
    "masked_language_model": "DistilBertForMaskedLM",
    "classifier": "DistilBertForSequenceClassification",
    "token_classifier": "DistilBertForTokenClassification",
    "question_answering": "DistilBertForQuestionAnswering",
    "embedder": "DistilBertModel",
}
PREFIX = "distilbert."
RENAMED: Mapping[str, str] = bert_encoders.RENAMED
TIED_COPIES: Mapping[str, str] = {"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"}
# name -> key in config.json
SETTINGS = {
    "vocab_size": "vocab_size",
    "d_model": "dim",
    "n_layers": "n_layers",
    "n_heads": "n_heads",
    "d_ff": "hidden_dim",
    "max_seq_len": "max_position_embeddings",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
}
DEFAULTS = {"dropout": 0.1, "attention_dropout": 0.1, "max_position_embeddings": 512}
NORM_EPS = 1e-12
# the table of positions is stored whether it was trained or filled with sines
IGNORED_KEYS = ("qa_dropout", "seq_classif_dropout", "sinusoidal_pos_embds", "tie_weights_")


def read_settings(hf_config: HFConfig, where: str | Path) -> EncoderConfig:
    """Dropout is read as well, for fine-tuning."""
    settings = read_encoder(
        hf_config,
        where,
        MODEL_TYPE,
        settings=SETTINGS,
        defaults=DEFAULTS,
        required={"tie_word_embeddings": REQUIRED_VALUES["tie_word_embeddings"]},
        ignored=IGNORED_KEYS,
        activation="activation",
    )
    config = parse_config(EncoderConfig, settings | {"norm_eps": NORM_EPS}, SETTINGS, where)
    check_lengths(config, where)
    return config


def write_settings(config: EncoderConfig) -> JsonObject:
    """The settings as DistilBERT's keys."""
    return write_encoder(config, MODEL_TYPE, SETTINGS, "activation") | {"sinusoidal_pos_embds": False}


read_classifier, write_classifier = first_token_classifier("relu"), no_choice


def hf_tensors(config: EncoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor, layer by layer."""
    prefix, d = "" if head.kind == "embedder" else PREFIX, config.d_model
    yield from embedding_tensors(config, f"{prefix}embeddings")
    for layer in range(config.n_layers):
        yield from _block(config, f"trunk.blocks.{layer}", f"{prefix}transformer.layer.{layer}")
    if head.kind == "masked_language_model":
        yield from linear("transform.dense", "vocab_transform", d, d)
        yield from norm("transform.norm", "vocab_layer_norm", d)
        yield HFTensor("vocab_projector.bias", (config.vocab_size,), (TensorSlice("lm_head.bias"),))
    elif head.classes is not None:
        yield from label_tensors(config, head.classes, "pre_classifier")


def is_ignorable(hf_name: str) -> bool:
    """Position ids."""
    return is_unused(hf_name)


def _block(config: EncoderConfig, name: str, hf_name: str) -> Iterator[HFTensor]:
    d, f = config.d_model, config.d_ff
    parts = {"query": "q_lin", "key": "k_lin", "value": "v_lin", "output": "out_lin"}
    for part, hf_part in parts.items():
        yield from linear(f"{name}.attention.{part}", f"{hf_name}.attention.{hf_part}", d, d)
    yield from norm(f"{name}.attention_norm", f"{hf_name}.sa_layer_norm", d)
    yield from linear(f"{name}.feed_forward.up", f"{hf_name}.ffn.lin1", f, d)
    yield from linear(f"{name}.feed_forward.down", f"{hf_name}.ffn.lin2", d, f)
    yield from norm(f"{name}.feed_forward_norm", f"{hf_name}.output_layer_norm", d)
