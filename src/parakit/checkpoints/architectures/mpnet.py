"""MPNet (Song et al. 2020): BERT without token types, whose positions are counted from row 2, and whose scores get T5's bias
for each bucket of distances besides, the same in every layer.

Its head of masked tokens has GELU whatever the layers have. Buckets are always 32, up to a distance of 128.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from parakit.checkpoints.architectures import bert_encoders
from parakit.checkpoints.architectures.bert_encoders import (
    embedding_tensors,
    first_token_classifier,
    is_unused,
    no_choice,
    positions_after_padding,
    read_encoder,
    required_of_head,
    write_encoder,
    write_positions_after_padding,
)
from parakit.checkpoints.architectures.layer_tensors import linear, norm, tensor
from parakit.checkpoints.architectures.roberta import head_tensors
from parakit.checkpoints.hf_config import HFConfig, RequiredValues, check_lengths, parse_config
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.common.files import JsonObject
from parakit.model.config import EncoderConfig

MODEL_TYPE = "mpnet"
CLASSES: Mapping[str, str] = {
    "masked_language_model": "MPNetForMaskedLM",
    "classifier": "MPNetForSequenceClassification",
    "token_classifier": "MPNetForTokenClassification",
    "question_answering": "MPNetForQuestionAnswering",
    "embedder": "MPNetModel",
}
PREFIX = "mpnet."
RENAMED: Mapping[str, str] = bert_encoders.RENAMED
TIED_COPIES: Mapping[str, str] = {
    "lm_head.decoder.weight": "mpnet.embeddings.word_embeddings.weight",
    "lm_head.decoder.bias": "lm_head.bias",
}
SETTINGS = {name: key for name, key in bert_encoders.SETTINGS.items() if name != "n_token_types"} | {
    "n_relative_buckets": "relative_attention_num_buckets"
}
DEFAULTS = {
    **{key: bert_encoders.DEFAULTS[key] for key in ("layer_norm_eps", "hidden_dropout_prob")},
    **{"attention_probs_dropout_prob": 0.1, "relative_attention_num_buckets": 32},
}
REQUIRED: RequiredValues = {
    "relative_attention_num_buckets": ((32,), "buckets that transformers' MPNet ignores"),
    "pad_token_id": ((1,), "positions that are counted from another row"),
}


def read_settings(hf_config: HFConfig, where: str | Path) -> EncoderConfig:
    """Rows of the position table up to the padding token's, 1, are unused."""
    settings = read_encoder(
        hf_config,
        where,
        MODEL_TYPE,
        settings=SETTINGS,
        defaults=DEFAULTS,
        required={**required_of_head(hf_config), **REQUIRED},
        ignored=("classifier_dropout",),
    )
    settings = positions_after_padding(settings, 1, where)
    settings |= {"relative_bias": True, "max_relative_distance": 128}
    config = parse_config(EncoderConfig, settings, SETTINGS, where)
    check_lengths(config, where)
    return config


def write_settings(config: EncoderConfig) -> JsonObject:
    """The settings as MPNet's keys."""
    return write_encoder(config, MODEL_TYPE, SETTINGS) | write_positions_after_padding(config)


read_classifier, write_classifier = first_token_classifier("tanh"), no_choice


def hf_tensors(config: EncoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor, layer by layer."""
    prefix = "" if head.kind == "embedder" else PREFIX
    yield from embedding_tensors(config, f"{prefix}embeddings")
    buckets = f"{prefix}encoder.relative_attention_bias.weight"
    yield tensor("trunk.relative_bias.bias.weight", buckets, config.n_relative_buckets, config.n_heads)
    for layer in range(config.n_layers):
        yield from _block(config, f"trunk.blocks.{layer}", f"{prefix}encoder.layer.{layer}")
    yield from head_tensors(config, head)


def is_ignorable(hf_name: str) -> bool:
    """Position ids, and the pooler, which no head uses."""
    return is_unused(hf_name)


def _block(config: EncoderConfig, name: str, hf_name: str) -> Iterator[HFTensor]:
    d, f = config.d_model, config.d_ff
    for part in ("query", "key", "value", "output"):
        yield from linear(f"{name}.attention.{part}", f"{hf_name}.attention.attn.{part[0]}", d, d)
    yield from norm(f"{name}.attention_norm", f"{hf_name}.attention.LayerNorm", d)
    yield from linear(f"{name}.feed_forward.up", f"{hf_name}.intermediate.dense", f, d)
    yield from linear(f"{name}.feed_forward.down", f"{hf_name}.output.dense", d, f)
    yield from norm(f"{name}.feed_forward_norm", f"{hf_name}.output.LayerNorm", d)
