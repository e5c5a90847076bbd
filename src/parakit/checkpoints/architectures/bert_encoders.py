"""What encoders with BERT's layers share: their settings, and the tensors of embeddings, blocks and label heads.

Learned positions, norms after every sum, biases everywhere. BERT, RoBERTa, XLM-R and ELECTRA use the same keys and names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from parakit.checkpoints.architectures.layer_tensors import linear, norm, tensor
from parakit.checkpoints.hf_config import (
    HFConfig,
    RequiredValues,
    read_activation,
    read_head_dim,
    read_keys,
    write_activation,
)
from parakit.checkpoints.mapping import HFTensor
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.model.config import ClassifierConfig, EncoderConfig

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
DEFAULTS: Mapping[str, Any] = {
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
GELU_ONLY = (("gelu", "gelu_python"), "layers unlike the head, which has GELU")
# heads whose activation is the config's in `EncoderConfig`, and GELU or the layers' in transformers
_WITH_ACTIVATION = ("ForMaskedLM", "ForPreTraining")
# the names of old files for a norm's weight and bias
RENAMED: Mapping[str, str] = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
_SHAPE = {
    **{"positions": "learned", "norm_bias": True, "post_norm": True, "final_norm": False, "gated": False},
    **{"attention_bias": True, "attention_output_bias": True, "feed_forward_bias": True},
}


def read_encoder(
    hf_config: HFConfig,
    where: str | Path,
    model_type: str,
    *,
    settings: Mapping[str, str] = SETTINGS,
    defaults: Mapping[str, Any] = DEFAULTS,
    required: RequiredValues = REQUIRED_VALUES,
    ignored: Iterable[str] = (),
    handled: Iterable[str] = (),
    activation: str = "hidden_act",
    default_activation: str = "gelu",
) -> JsonObject:
    """The values of an `EncoderConfig`; dropout is read as well, for fine-tuning. `activation` is the key of it; the other
    arguments are those of `read_keys`.
    """
    values = read_keys(
        hf_config,
        where,
        model_type=model_type,
        settings=settings,
        required=required,
        ignored=ignored,
        handled=(activation, *handled),
        defaults=defaults,
    )
    if values["attention_dropout"] == values["dropout"]:
        values["attention_dropout"] = None
    values["head_dim"] = read_head_dim(hf_config, where, settings["d_model"], settings["n_heads"])
    values["n_kv_heads"] = values["n_heads"]
    values["activation"] = read_activation(hf_config, activation, where, default_activation)
    return values | _SHAPE


def required_of_head(hf_config: HFConfig) -> RequiredValues:
    """`REQUIRED_VALUES` of an architecture whose head of masked tokens has GELU: so do the layers under this head. Other
    heads stand on layers with any activation. A folder that names no class has the head of masked tokens.
    """
    names = hf_config.get("architectures") or _WITH_ACTIVATION
    needs_gelu = any(str(name).endswith(_WITH_ACTIVATION) for name in names)
    return {**REQUIRED_VALUES, **({"hidden_act": GELU_ONLY} if needs_gelu else {})}


def positions_after_padding(values: JsonObject, pad_id: object, where: str | Path) -> JsonObject:
    """`values` for positions that are counted from the row after `pad_id`: rows up to it are unused (fairseq)."""
    n_positions = values["max_seq_len"]
    if type(pad_id) is not int or type(n_positions) is not int or not 0 <= pad_id < n_positions - 1:
        raise UserError(
            f"{where}: `pad_token_id` is {pad_id!r}, and positions are counted from the row after it, of"
            f" `max_position_embeddings` = {n_positions!r}",
            "fetch the model's config.json again",
        )
    return values | {"max_seq_len": n_positions - pad_id - 1, "position_offset": pad_id + 1}


def write_positions_after_padding(config: EncoderConfig) -> JsonObject:
    """The keys that `positions_after_padding` reads."""
    return {
        "max_position_embeddings": config.max_seq_len + config.position_offset,
        "pad_token_id": config.position_offset - 1 if config.position_offset else None,
    }


def write_encoder(
    config: EncoderConfig,
    model_type: str,
    settings: Mapping[str, str] = SETTINGS,
    activation: str = "hidden_act",
) -> JsonObject:
    """The settings as these architectures' keys."""
    dropout = config.dropout if config.attention_dropout is None else config.attention_dropout
    return {
        "model_type": model_type,
        **{hf_name: getattr(config, name) for name, hf_name in settings.items()},
        settings["attention_dropout"]: dropout,
        activation: write_activation(config.activation),
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "pad_token_id": None,
    }


def embedding_tensors(config: EncoderConfig, hf_name: str) -> Iterator[HFTensor]:
    """Embeddings of tokens, positions and types, and their norm, under `hf_name`."""
    d, n_positions = config.d_positions, config.max_seq_len + config.position_offset
    yield tensor("trunk.token_embedding.weight", f"{hf_name}.word_embeddings.weight", config.vocab_size, d)
    yield tensor("trunk.positions.weight", f"{hf_name}.position_embeddings.weight", n_positions, d)
    if config.n_token_types:
        types = f"{hf_name}.token_type_embeddings.weight"
        yield tensor("trunk.type_embedding.weight", types, config.n_token_types, d)
    yield from norm("trunk.embedding_norm", f"{hf_name}.LayerNorm", d)


def block_tensors(config: EncoderConfig, name: str, hf_name: str) -> Iterator[HFTensor]:
    """One block."""
    d, f = config.d_model, config.d_ff
    for part in ("query", "key", "value"):
        yield from linear(f"{name}.attention.{part}", f"{hf_name}.attention.self.{part}", d, d)
    yield from linear(f"{name}.attention.output", f"{hf_name}.attention.output.dense", d, d)
    yield from norm(f"{name}.attention_norm", f"{hf_name}.attention.output.LayerNorm", d)
    yield from linear(f"{name}.feed_forward.up", f"{hf_name}.intermediate.dense", f, d)
    yield from linear(f"{name}.feed_forward.down", f"{hf_name}.output.dense", d, f)
    yield from norm(f"{name}.feed_forward_norm", f"{hf_name}.output.LayerNorm", d)


def trunk_tensors(config: EncoderConfig, prefix: str) -> Iterator[HFTensor]:
    """The whole trunk, under BERT's names."""
    yield from embedding_tensors(config, f"{prefix}embeddings")
    for layer in range(config.n_layers):
        yield from block_tensors(config, f"trunk.blocks.{layer}", f"{prefix}encoder.layer.{layer}")


def label_tensors(
    config: EncoderConfig,
    classes: ClassifierConfig,
    dense: str = "classifier.dense",
    output: str = "classifier",
) -> Iterator[HFTensor]:
    """A classifier's head: `dense`, where it has one, and the matrix of labels, `output`; or that of answers' spans."""
    d = config.d_model
    if classes.head != "linear":
        yield from linear("dense.0", dense, d, d)
    name = "qa_outputs" if classes.level == "span" else output
    yield from linear("label_head", name, len(classes.labels), d)


def first_token_classifier(
    activation: str, pooled_levels: tuple[str, ...] = ("sequence",)
) -> Callable[[HFConfig, str], JsonObject]:
    """Reads a classifier of the first token through a dense layer and `activation`; of the other levels, without them."""

    def read_classifier(hf_config: HFConfig, level: str) -> JsonObject:
        head = activation if level in pooled_levels else "linear"
        return {"pooling": "cls", "head": head, "bias": True}

    return read_classifier


def no_choice(classes: ClassifierConfig) -> JsonObject:
    """Nothing to write of a classifier: the architecture leaves no choice."""
    return {}


def is_unused(hf_name: str) -> bool:
    """Position ids and type ids of old files, and the pooler where no head uses it."""
    return hf_name.endswith(
        ("position_ids", "embeddings.token_type_ids", "pooler.dense.weight", "pooler.dense.bias")
    )
