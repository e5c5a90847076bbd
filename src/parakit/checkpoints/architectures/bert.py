"""BERT (Devlin et al. 2019): learned positions, token types, norms after every sum, biases everywhere.

The pooler (a dense layer and tanh on the first token) is part of the sequence classifier's head here; an `Embedder`
does not use it. The head for next-sentence prediction is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from parakit.checkpoints.architectures import bert_encoders
from parakit.checkpoints.architectures.bert_encoders import (
    SETTINGS,
    first_token_classifier,
    is_unused,
    label_tensors,
    no_choice,
    read_encoder,
    trunk_tensors,
    write_encoder,
)
from parakit.checkpoints.architectures.layer_tensors import linear, norm
from parakit.checkpoints.hf_config import HFConfig, check_lengths, parse_config
from parakit.checkpoints.mapping import Head, HFTensor, TensorSlice
from parakit.common.files import JsonObject
from parakit.model.config import EncoderConfig

MODEL_TYPE = "bert"
CLASSES: Mapping[str, str] = {
    "masked_language_model": "BertForMaskedLM",
    "classifier": "BertForSequenceClassification",
    "token_classifier": "BertForTokenClassification",
    "question_answering": "BertForQuestionAnswering",
    "embedder": "BertModel",
}
ALIASES: Mapping[str, str] = {"BertForPreTraining": "masked_language_model"}
PREFIX = "bert."
RENAMED: Mapping[str, str] = bert_encoders.RENAMED
TIED_COPIES: Mapping[str, str] = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
IGNORED_KEYS = (
    *("classifier_dropout", "directionality", "pooler_fc_size", "pooler_num_attention_heads"),
    *("pooler_num_fc_layers", "pooler_size_per_head", "pooler_type"),
)


def read_settings(hf_config: HFConfig, where: str | Path) -> EncoderConfig:
    """Dropout is read as well, for fine-tuning."""
    settings = read_encoder(hf_config, where, MODEL_TYPE, ignored=IGNORED_KEYS)
    config = parse_config(EncoderConfig, settings, SETTINGS, where)
    check_lengths(config, where)
    return config


def write_settings(config: EncoderConfig) -> JsonObject:
    """The settings as BERT's keys."""
    return write_encoder(config, MODEL_TYPE) | {"position_embedding_type": "absolute"}


read_classifier, write_classifier = first_token_classifier("tanh"), no_choice


def hf_tensors(config: EncoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor, layer by layer."""
    d = config.d_model
    yield from trunk_tensors(config, "" if head.kind == "embedder" else PREFIX)
    if head.kind == "masked_language_model":
        yield from linear("transform.dense", "cls.predictions.transform.dense", d, d)
        yield from norm("transform.norm", "cls.predictions.transform.LayerNorm", d)
        yield HFTensor("cls.predictions.bias", (config.vocab_size,), (TensorSlice("lm_head.bias"),))
    elif head.classes is not None:
        yield from label_tensors(config, head.classes, f"{PREFIX}pooler.dense")


def is_ignorable(hf_name: str) -> bool:
    """Position ids, the pooler where no head uses it, and the head for next-sentence prediction."""
    return is_unused(hf_name) or hf_name.startswith("cls.seq_relationship.")
