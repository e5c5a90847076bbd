"""ELECTRA (Clark et al. 2020): BERT's layers over an embedding that may be narrower.

Published are the generator, which predicts masked tokens, and the discriminator, which tells for each token whether it was
replaced: a tagger of tokens with one score, through a dense layer and an activation. A sequence is classified by its first
token through a dense layer and GELU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from parakit.checkpoints.architectures import bert_encoders
from parakit.checkpoints.architectures.bert_encoders import (
    first_token_classifier,
    is_unused,
    label_tensors,
    no_choice,
    read_encoder,
    required_of_head,
    trunk_tensors,
    write_encoder,
)
from parakit.checkpoints.architectures.layer_tensors import linear, norm
from parakit.checkpoints.hf_config import HFConfig, check_lengths, parse_config, read_value
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.common.files import JsonObject
from parakit.model.config import EncoderConfig

MODEL_TYPE = "electra"
CLASSES: Mapping[str, str] = {
    "masked_language_model": "ElectraForMaskedLM",
    "classifier": "ElectraForSequenceClassification",
    "token_classifier": "ElectraForTokenClassification",
    "question_answering": "ElectraForQuestionAnswering",
    "discriminator": "ElectraForPreTraining",
    "embedder": "ElectraModel",
}
PREFIX = "electra."
RENAMED: Mapping[str, str] = bert_encoders.RENAMED
TIED_COPIES: Mapping[str, str] = {"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"}
SETTINGS = bert_encoders.SETTINGS
# of the head of multiple choice
IGNORED_KEYS = (
    *("classifier_dropout", "summary_activation", "summary_last_dropout", "summary_type", "summary_use_proj"),
)


def read_settings(hf_config: HFConfig, where: str | Path) -> EncoderConfig:
    """An embedding as wide as the layers is not projected."""
    settings = read_encoder(
        hf_config,
        where,
        MODEL_TYPE,
        required=required_of_head(hf_config),
        ignored=IGNORED_KEYS,
        handled=("embedding_size",),
    )
    width = read_value(hf_config, "embedding_size", where, {"embedding_size": 128})
    narrow = width != settings["d_model"]
    settings |= {"d_embedding": width if narrow else None, "factorized_embedding": narrow}
    config = parse_config(EncoderConfig, settings, {**SETTINGS, "d_embedding": "embedding_size"}, where)
    check_lengths(config, where)
    return config


def write_settings(config: EncoderConfig) -> JsonObject:
    """The settings as ELECTRA's keys."""
    return write_encoder(config, MODEL_TYPE) | {"embedding_size": config.d_token}


read_classifier, write_classifier = first_token_classifier("gelu", ("sequence", "replaced")), no_choice


def hf_tensors(config: EncoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor, layer by layer."""
    d, width, prefix = config.d_model, config.d_token, "" if head.kind == "embedder" else PREFIX
    yield from trunk_tensors(config, prefix)
    if config.factorized_embedding:
        yield from linear("trunk.input_projection", f"{prefix}embeddings_project", d, width)
    if head.kind == "masked_language_model":
        yield from linear("transform.dense", "generator_predictions.dense", width, d)
        yield from norm("transform.norm", "generator_predictions.LayerNorm", width)
        output = linear("lm_head", "generator_lm_head", config.vocab_size, width)
        yield from (one for one in output if one.hf_name == "generator_lm_head.bias")
    elif head.classes is not None and head.classes.level == "replaced":
        dense = "discriminator_predictions.dense"
        yield from label_tensors(config, head.classes, dense, f"{dense}_prediction")
    elif head.classes is not None:
        output_name = "classifier.out_proj" if head.classes.level == "sequence" else "classifier"
        yield from label_tensors(config, head.classes, output=output_name)


def is_ignorable(hf_name: str) -> bool:
    """Position ids."""
    return is_unused(hf_name)
