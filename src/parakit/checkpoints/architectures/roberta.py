"""RoBERTa (Liu et al. 2019): BERT whose positions are counted from the row after the padding token's.

Its head of masked tokens has GELU whatever the layers have. A sequence is classified by its first token through a dense
layer and tanh of the head's own. XLM-R has the same layers under another name: see `xlm_roberta`.
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
    positions_after_padding,
    read_encoder,
    required_of_head,
    trunk_tensors,
    write_encoder,
    write_positions_after_padding,
)
from parakit.checkpoints.architectures.layer_tensors import linear, norm
from parakit.checkpoints.hf_config import HFConfig, check_lengths, parse_config
from parakit.checkpoints.mapping import Head, HFTensor, TensorSlice
from parakit.common.files import JsonObject
from parakit.model.config import EncoderConfig

MODEL_TYPE = "roberta"
CLASSES: Mapping[str, str] = {
    "masked_language_model": "RobertaForMaskedLM",
    "classifier": "RobertaForSequenceClassification",
    "token_classifier": "RobertaForTokenClassification",
    "question_answering": "RobertaForQuestionAnswering",
    "embedder": "RobertaModel",
}
PREFIX = "roberta."
RENAMED: Mapping[str, str] = bert_encoders.RENAMED
TIED_COPIES: Mapping[str, str] = {
    "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
    "lm_head.decoder.bias": "lm_head.bias",
}
IGNORED_KEYS = ("classifier_dropout", "language", "name")


def read_settings(hf_config: HFConfig, where: str | Path, model_type: str = MODEL_TYPE) -> EncoderConfig:
    """Rows of the position table up to the padding token's are unused."""
    settings = read_encoder(
        hf_config, where, model_type, required=required_of_head(hf_config), ignored=IGNORED_KEYS
    )
    settings = positions_after_padding(settings, hf_config.get("pad_token_id", 1), where)
    config = parse_config(EncoderConfig, settings, SETTINGS, where)
    check_lengths(config, where)
    return config


def write_settings(config: EncoderConfig) -> JsonObject:
    """The settings as RoBERTa's keys."""
    return write_encoder(config, MODEL_TYPE) | write_positions_after_padding(config)


read_classifier, write_classifier = first_token_classifier("tanh"), no_choice


def hf_tensors(config: EncoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor, layer by layer."""
    yield from trunk_tensors(config, "" if head.kind == "embedder" else PREFIX)
    yield from head_tensors(config, head)


def head_tensors(config: EncoderConfig, head: Head) -> Iterator[HFTensor]:
    """Those of the head for masked tokens or labels; MPNet names them alike."""
    d = config.d_model
    if head.kind == "masked_language_model":
        yield from linear("transform.dense", "lm_head.dense", d, d)
        yield from norm("transform.norm", "lm_head.layer_norm", d)
        yield HFTensor("lm_head.bias", (config.vocab_size,), (TensorSlice("lm_head.bias"),))
    elif head.classes is not None:
        output = "classifier.out_proj" if head.classes.level == "sequence" else "classifier"
        yield from label_tensors(config, head.classes, output=output)


def is_ignorable(hf_name: str) -> bool:
    """Position ids, and the pooler, which no head uses."""
    return is_unused(hf_name)
