"""ModernBERT (Warner et al. 2024), Parakit's own encoder: rotary positions, gated GELU, pre-norm, and local layers
between global ones, each kind with its own rope base.

The first block has no attention norm, because the embedding's norm directly precedes it. `local_attention` is the whole
window, half of it to each side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parakit.checkpoints.architectures.layer_tensors import linear, norm, stacked, tensor
from parakit.checkpoints.hf_config import (
    HFConfig,
    check_lengths,
    parse_config,
    read_activation,
    read_head_dim,
    read_keys,
    read_value,
    write_activation,
)
from parakit.checkpoints.layered_rope import KINDS, read_layered_rope, write_layered_rope
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.model.config import ClassifierConfig, EncoderConfig

MODEL_TYPE = "modernbert"
CLASSES: Mapping[str, str] = {
    "masked_language_model": "ModernBertForMaskedLM",
    "classifier": "ModernBertForSequenceClassification",
    "token_classifier": "ModernBertForTokenClassification",
    "question_answering": "ModernBertForQuestionAnswering",
    "embedder": "ModernBertModel",
}
PREFIX = "model."
RENAMED: Mapping[str, str] = {}
TIED_COPIES: Mapping[str, str] = {"decoder.weight": "model.embeddings.tok_embeddings.weight"}
# name -> key in config.json
SETTINGS = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "d_ff": "intermediate_size",
    "max_seq_len": "max_position_embeddings",
    "norm_eps": "norm_eps",
    "norm_bias": "norm_bias",
    "attention_bias": "attention_bias",
    "feed_forward_bias": "mlp_bias",
    "lm_head_bias": "decoder_bias",
    "tie_embeddings": "tie_word_embeddings",
    "dropout": "embedding_dropout",
    "attention_dropout": "attention_dropout",
    "feed_forward_dropout": "mlp_dropout",
}
DEFAULTS: JsonObject = {
    **{"norm_eps": 1e-5, "norm_bias": False, "attention_bias": False, "mlp_bias": False},
    **{"decoder_bias": True, "tie_word_embeddings": True},
    **{"embedding_dropout": 0.0, "attention_dropout": 0.0, "mlp_dropout": 0.0},
}
# read by `read_settings` itself: settings that differ between layers, and the head's activation and bias
HANDLED = (
    *("hidden_activation", "classifier_activation", "classifier_bias", "classifier_pooling"),
    *("local_attention", "layer_types", "global_attn_every_n_layers", "global_rope_theta"),
    *("local_rope_theta", "rope_parameters", "rope_scaling"),
)
# transformers reads none of these; `layer_norm_eps` and `position_embedding_type` are left over from BERT
IGNORED_KEYS = (
    *("classifier_dropout", "deterministic_flash_attn", "initializer_cutoff_factor"),
    *("layer_norm_eps", "position_embedding_type", "reference_compile", "repad_logits_with_grad"),
    *("sparse_prediction", "sparse_pred_ignore_index"),
)
MAX_LAYERS = 100_000  # a list of their kinds is built before the weights are checked
GLOBAL_EVERY, WINDOW, GLOBAL_THETA, LOCAL_THETA = 3, 128, 160_000.0, 10_000.0
THETA_KEYS = ("global_rope_theta", "local_rope_theta")


def read_settings(hf_config: HFConfig, where: str | Path) -> EncoderConfig:
    """`attention_bias` means all four matrices of the attention."""
    settings = read_keys(
        hf_config,
        where,
        model_type=MODEL_TYPE,
        settings=SETTINGS,
        ignored=IGNORED_KEYS,
        handled=HANDLED,
        defaults=DEFAULTS,
    )
    settings["head_dim"] = read_head_dim(hf_config, where, "hidden_size", "num_attention_heads")
    settings["n_kv_heads"] = settings["n_heads"]
    settings["attention_output_bias"] = settings["attention_bias"]
    settings["activation"] = read_activation(hf_config, "hidden_activation", where, "gelu")
    if settings["attention_dropout"] == settings["dropout"]:
        settings["attention_dropout"] = None
    _check_head(hf_config, where)
    settings |= _read_layers(hf_config, settings["n_layers"], where) | _read_rope(hf_config, where)
    if settings["sliding_window"] is None:
        settings["local_rope_theta"] = None
    config = parse_config(EncoderConfig, settings, SETTINGS, where)
    check_lengths(config, where)
    return config


def write_settings(config: EncoderConfig) -> JsonObject:
    """The settings as ModernBERT's keys; layers and rope bases under their old and their new keys."""
    rope = write_layered_rope(config, THETA_KEYS)
    kinds = [KINDS[config.is_local(layer)] for layer in range(config.n_layers)]
    settings = {
        "model_type": MODEL_TYPE,
        **{hf_name: getattr(config, name) for name, hf_name in SETTINGS.items()},
        "attention_dropout": config.dropout if config.attention_dropout is None else config.attention_dropout,
        "hidden_activation": write_activation(config.activation),
        "classifier_activation": write_activation(config.activation),
        "classifier_bias": config.feed_forward_bias,
        "local_attention": WINDOW if config.sliding_window is None else config.sliding_window,
        "layer_types": kinds,
        **{key: rope[key] for key in ("rope_parameters", *THETA_KEYS)},
        "initializer_range": 0.02,
    }
    ids = ("pad", "bos", "eos", "cls", "sep")  # transformers' defaults exceed a small vocabulary
    every = [n for n in range(1, config.n_layers + 1) if kinds == _pattern(config.n_layers, n)]
    settings |= {f"{name}_token_id": None for name in ids}
    return settings | ({"global_attn_every_n_layers": every[0]} if every else {})


def read_classifier(hf_config: HFConfig, level: str) -> JsonObject:
    """Sequences and tokens are classified through the head that predicts masked tokens."""
    return {"pooling": hf_config.get("classifier_pooling", "cls"), "head": "transform", "bias": True}


def write_classifier(classes: ClassifierConfig) -> JsonObject:
    """The pooling."""
    return {"classifier_pooling": classes.pooling}


def hf_tensors(config: EncoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor, layer by layer."""
    prefix = "" if head.kind == "embedder" else PREFIX
    d, vocab, bias = config.d_model, config.vocab_size, config.norm_bias
    yield tensor("trunk.token_embedding.weight", f"{prefix}embeddings.tok_embeddings.weight", vocab, d)
    yield from norm("trunk.embedding_norm", f"{prefix}embeddings.norm", d, bias)
    for layer in range(config.n_layers):
        name, hf_name = f"trunk.blocks.{layer}", f"{prefix}layers.{layer}"
        if layer > 0:
            yield from norm(f"{name}.attention_norm", f"{hf_name}.attn_norm", d, bias)
        yield from _block(config, name, hf_name)
    yield from norm("trunk.final_norm", f"{prefix}final_norm", d, bias)
    if head.kind != "embedder":
        yield from _head(config, head)


def is_ignorable(hf_name: str) -> bool:
    """Tables of rotary angles, which follow from the settings."""
    return hf_name.endswith("rotary_emb.inv_freq")


def _block(config: EncoderConfig, name: str, hf_name: str) -> Iterator[HFTensor]:
    d, f = config.d_model, config.d_ff
    parts = [f"{name}.attention.{part}" for part in ("query", "key", "value")]
    yield from stacked(parts, f"{hf_name}.attn.Wqkv", 3 * d, d, config.attention_bias)
    yield from linear(f"{name}.attention.output", f"{hf_name}.attn.Wo", d, d, config.attention_output_bias)
    yield from norm(f"{name}.feed_forward_norm", f"{hf_name}.mlp_norm", d, config.norm_bias)
    parts = [f"{name}.feed_forward.{part}" for part in ("gate", "up")]
    yield from stacked(parts, f"{hf_name}.mlp.Wi", 2 * f, d, config.feed_forward_bias)
    yield from linear(f"{name}.feed_forward.down", f"{hf_name}.mlp.Wo", d, f, config.feed_forward_bias)


def _head(config: EncoderConfig, head: Head) -> Iterator[HFTensor]:
    d, name = config.d_model, "transform" if head.classes is None else "dense"
    yield from linear(f"{name}.dense", "head.dense", d, d, config.feed_forward_bias)
    yield from norm(f"{name}.norm", "head.norm", d, config.norm_bias)
    if head.classes is not None:
        yield from linear("label_head", "classifier", len(head.classes.labels), d)
    else:
        output = linear("lm_head", "decoder", config.vocab_size, d, config.lm_head_bias)
        yield from (t for t in output if not (config.tie_embeddings and t.hf_name == "decoder.weight"))


def _check_head(hf_config: HFConfig, where: str | Path) -> None:
    """The head's transform must have the feed-forward's activation and bias."""
    pairs = (
        ("classifier_activation", "gelu", "hidden_activation", "gelu"),
        ("classifier_bias", False, "mlp_bias", False),
    )
    for key, default, like, like_default in pairs:
        value, expected = hf_config.get(key, default), hf_config.get(like, like_default)
        if value != expected:
            raise UserError(
                f"{where}: `{key}` is {value!r} and `{like}` {expected!r}: the head differs from the layers, "
                f"which Parakit does not support for {MODEL_TYPE}",
                f"supported: `{key}` = {expected!r}",
            )


def _pattern(n_layers: int, every: int) -> list[str]:
    """The first layer is full, and every `every`-th from there."""
    return [KINDS[layer % every > 0] for layer in range(n_layers)]


def _read_layers(hf_config: HFConfig, n_layers: Any, where: str | Path) -> JsonObject:
    """`sliding_window` and `local_layers`, from a list of kinds (new) or a period (old)."""
    if type(n_layers) is not int or not 0 < n_layers <= MAX_LAYERS:
        raise UserError(
            f"{where}: `num_hidden_layers` is {n_layers!r}, not a count of layers",
            "fetch the model's config.json again",
        )
    every, kinds = hf_config.get("global_attn_every_n_layers"), hf_config.get("layer_types")
    if every is not None and (type(every) is not int or every < 1):
        raise UserError(
            f"{where}: `global_attn_every_n_layers` is {every!r}, not a count",
            "ModernBERT was published with 3",
        )
    if kinds is None:
        kinds = _pattern(n_layers, every or GLOBAL_EVERY)
    if not isinstance(kinds, list) or len(kinds) != n_layers or not all(kind in KINDS for kind in kinds):
        raise UserError(
            f"{where}: `layer_types` must name one of {', '.join(KINDS)} for each of the {n_layers} layers",
            "Parakit supports full and sliding-window attention only",
        )
    if every is not None and kinds != _pattern(n_layers, every):
        raise UserError(
            f"{where}: `layer_types` and `global_attn_every_n_layers` = {every} name different layers",
            "keep the one that the model was trained with",
        )
    local = tuple(layer for layer, kind in enumerate(kinds) if kind == KINDS[1])
    window = read_value(hf_config, "local_attention", where, {"local_attention": WINDOW})
    if not local:
        return {"sliding_window": None}
    return {"sliding_window": window, "local_layers": None if len(local) == n_layers else local}


def _read_rope(hf_config: HFConfig, where: str | Path) -> JsonObject:
    """Bases and scaling of full and of local layers, from the new groups, or from the old keys."""
    if hf_config.get("rope_scaling") is not None:
        raise UserError(
            f"{where}: `rope_scaling` is {hf_config['rope_scaling']!r}, which does not name its layers",
            "write it into `rope_parameters`, under full_attention or sliding_attention",
        )
    return read_layered_rope(hf_config, where, THETA_KEYS, (GLOBAL_THETA, LOCAL_THETA))
