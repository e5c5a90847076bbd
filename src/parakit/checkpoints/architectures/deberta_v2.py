"""DeBERTa-v2 and v3 (He et al. 2021): BERT's layers with disentangled attention instead of positions, and mostly without
token types. The largest two of v2 add a convolution to the first block.

A sequence is classified by its first token through a dense layer and GELU. v3's published files name the head of masked
tokens otherwise (`lm_predictions`); it is read, and written under the name that transformers loads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from parakit.checkpoints.architectures import bert_encoders
from parakit.checkpoints.architectures.bert_encoders import (
    REQUIRED_VALUES,
    first_token_classifier,
    is_unused,
    label_tensors,
    no_choice,
    read_encoder,
    write_encoder,
)
from parakit.checkpoints.architectures.layer_tensors import linear, norm, tensor
from parakit.checkpoints.hf_config import HFConfig, check_lengths, parse_config
from parakit.checkpoints.mapping import Head, HFTensor, TensorSlice
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.model.config import EncoderConfig

MODEL_TYPE = "deberta-v2"
CLASSES: Mapping[str, str] = {
    "masked_language_model": "DebertaV2ForMaskedLM",
    "classifier": "DebertaV2ForSequenceClassification",
    "token_classifier": "DebertaV2ForTokenClassification",
    "question_answering": "DebertaV2ForQuestionAnswering",
    "embedder": "DebertaV2Model",
}
PREFIX = "deberta."
RENAMED: Mapping[str, str] = {
    **bert_encoders.RENAMED,
    "lm_predictions.lm_head.dense.weight": "cls.predictions.transform.dense.weight",
    "lm_predictions.lm_head.dense.bias": "cls.predictions.transform.dense.bias",
    "lm_predictions.lm_head.LayerNorm.weight": "cls.predictions.transform.LayerNorm.weight",
    "lm_predictions.lm_head.LayerNorm.bias": "cls.predictions.transform.LayerNorm.bias",
    "lm_predictions.lm_head.bias": "cls.predictions.bias",
}
TIED_COPIES: Mapping[str, str] = {
    "cls.predictions.decoder.weight": "deberta.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
SETTINGS = bert_encoders.SETTINGS | {"n_relative_buckets": "position_buckets"}
DEFAULTS = {
    **{"layer_norm_eps": 1e-7, "type_vocab_size": 0},
    **{"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
}
_TERMS = ("c2p", "p2c")
REQUIRED = {
    "tie_word_embeddings": REQUIRED_VALUES["tie_word_embeddings"],
    "relative_attention": ((True,), "absolute positions"),
    "position_biased_input": ((False,), "absolute positions besides"),
    "share_att_key": ((True,), "matrices of their own for distances"),
    "norm_rel_ebd": (("layer_norm",), "distances without a norm"),
    "pooler_hidden_act": (("gelu",), "another activation of the pooler"),
    "legacy": ((True, None), "another head of masked tokens"),
}
IGNORED_KEYS = ("pooler_dropout", "cls_dropout", "classifier_dropout")
CONVOLUTION = {
    **{"conv_kernel_size": "conv_kernel_size", "conv_activation": "conv_act", "conv_groups": "conv_groups"},
}
HANDLED = ("pos_att_type", "max_relative_positions", "pooler_hidden_size", "embedding_size")


def read_settings(hf_config: HFConfig, where: str | Path) -> EncoderConfig:
    """Every published model has both terms of distances, in shared matrices, with a norm, in buckets."""
    for key in (
        "relative_attention",
        "position_biased_input",
        "share_att_key",
        "norm_rel_ebd",
        "position_buckets",
    ):
        if key not in hf_config:  # transformers' defaults are those of no published model
            raise UserError(
                f"{where}: lacks `{key}`", "the model's config.json is incomplete: fetch it again"
            )
    settings = read_encoder(
        hf_config,
        where,
        MODEL_TYPE,
        settings=SETTINGS | CONVOLUTION,
        defaults=DEFAULTS | {"conv_kernel_size": 0, "conv_act": "tanh", "conv_groups": 1},
        required=REQUIRED,
        ignored=IGNORED_KEYS,
        handled=HANDLED,
    )
    terms = hf_config.get("pos_att_type") or ()
    terms = terms.split("|") if isinstance(terms, str) else terms
    if sorted(str(term).strip().lower() for term in terms) != sorted(_TERMS):
        raise UserError(f"{where}: `pos_att_type` is {terms!r}", f"Parakit supports both: {'|'.join(_TERMS)}")
    for key in ("pooler_hidden_size", "embedding_size"):
        if hf_config.get(key, settings["d_model"]) != settings["d_model"]:
            raise UserError(
                f"{where}: `{key}` is {hf_config[key]!r}, and `hidden_size` {settings['d_model']!r}",
                "Parakit supports equal widths",
            )
    longest = hf_config.get("max_relative_positions", -1)
    longest = settings["max_seq_len"] if type(longest) is int and longest < 1 else longest
    settings |= {
        "conv_kernel_size": settings["conv_kernel_size"] or 0,
        "positions": "disentangled",
        "max_relative_distance": longest,
        "attention_scale": _scale(settings["head_dim"]),
    }
    names = {**SETTINGS, **CONVOLUTION, "max_relative_distance": "max_relative_positions"}
    config = parse_config(EncoderConfig, settings, names, where)
    check_lengths(config, where)
    return config


def write_settings(config: EncoderConfig) -> JsonObject:
    """The settings as DeBERTa's keys."""
    return write_encoder(config, MODEL_TYPE, SETTINGS) | {
        **{key: values[0] for key, (values, _) in REQUIRED.items()},
        "pos_att_type": "|".join(_TERMS),
        "max_relative_positions": config.max_relative_distance,
        "pooler_hidden_size": config.d_model,
        **(
            {key: getattr(config, name) for name, key in CONVOLUTION.items()}
            if config.conv_kernel_size
            else {}
        ),
    }


read_classifier, write_classifier = first_token_classifier("gelu"), no_choice


def hf_tensors(config: EncoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor, layer by layer."""
    prefix, d = "" if head.kind == "embedder" else PREFIX, config.d_model
    embeddings, distances = f"{prefix}embeddings", 2 * config.n_relative_buckets
    yield tensor("trunk.token_embedding.weight", f"{embeddings}.word_embeddings.weight", config.vocab_size, d)
    if config.n_token_types:
        types = f"{embeddings}.token_type_embeddings.weight"
        yield tensor("trunk.type_embedding.weight", types, config.n_token_types, d)
    yield from norm("trunk.embedding_norm", f"{embeddings}.LayerNorm", d)
    yield tensor("trunk.positions.weight", f"{prefix}encoder.rel_embeddings.weight", distances, d)
    yield from norm("trunk.positions.norm", f"{prefix}encoder.LayerNorm", d)
    for layer in range(config.n_layers):
        yield from _block(config, f"trunk.blocks.{layer}", f"{prefix}encoder.layer.{layer}")
    if config.conv_kernel_size:
        shape = (d, d // config.conv_groups, config.conv_kernel_size)
        yield tensor("trunk.convolution.conv.weight", f"{prefix}encoder.conv.conv.weight", *shape)
        yield tensor("trunk.convolution.conv.bias", f"{prefix}encoder.conv.conv.bias", d)
        yield from norm("trunk.convolution.norm", f"{prefix}encoder.conv.LayerNorm", d)
    if head.kind == "masked_language_model":
        yield from linear("transform.dense", "cls.predictions.transform.dense", d, d)
        yield from norm("transform.norm", "cls.predictions.transform.LayerNorm", d)
        yield HFTensor("cls.predictions.bias", (config.vocab_size,), (TensorSlice("lm_head.bias"),))
    elif head.classes is not None:
        yield from label_tensors(config, head.classes, "pooler.dense")


def is_ignorable(hf_name: str) -> bool:
    """Position ids, positions that transformers ignores too, and v3's discriminator of replaced tokens."""
    return is_unused(hf_name) or hf_name.startswith("mask_predictions.") or "position_embeddings" in hf_name


def _scale(head_dim: int) -> float:
    """Of a sum of three products of `head_dim` features."""
    return float((3 * head_dim) ** -0.5)


def _block(config: EncoderConfig, name: str, hf_name: str) -> Iterator[HFTensor]:
    d, f = config.d_model, config.d_ff
    for part in ("query", "key", "value"):
        yield from linear(f"{name}.attention.{part}", f"{hf_name}.attention.self.{part}_proj", d, d)
    yield from linear(f"{name}.attention.output", f"{hf_name}.attention.output.dense", d, d)
    yield from norm(f"{name}.attention_norm", f"{hf_name}.attention.output.LayerNorm", d)
    yield from linear(f"{name}.feed_forward.up", f"{hf_name}.intermediate.dense", f, d)
    yield from linear(f"{name}.feed_forward.down", f"{hf_name}.output.dense", d, f)
    yield from norm(f"{name}.feed_forward_norm", f"{hf_name}.output.LayerNorm", d)
