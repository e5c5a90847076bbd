"""ModernBERT (Warner et al. 2024), Parakit's own encoder: rotary positions, gated GELU, pre-norm, and layers that look
around locally between layers that see everything, each kind with its own rope base.

The first block has no attention norm: the embedding's stands right before it. `local_attention` is the whole
window, half of it to each side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parakit.checkpoints.architectures.layer_tensors import linear, norm, stacked, table
from parakit.checkpoints.hf_config import (
    check_lengths,
    parsed,
    read_activation,
    read_head_dim,
    read_keys,
    value_of,
    write_activation,
)
from parakit.checkpoints.mapping import Head, NamedTensor
from parakit.checkpoints.rope_config import read_rope_group, write_rope
from parakit.common.errors import UserError
from parakit.model.config import ClassifierConfig, EncoderConfig

MODEL_TYPE = "modernbert"
CLASSES: Mapping[str, str] = {
    "masked_language_model": "ModernBertForMaskedLM",
    "classifier": "ModernBertForSequenceClassification",
    "token_classifier": "ModernBertForTokenClassification",
    "embedder": "ModernBertModel",
}
PREFIX = "model."
RENAMED: Mapping[str, str] = {}
TIED_COPIES: Mapping[str, str] = {"decoder.weight": "model.embeddings.tok_embeddings.weight"}
# ours -> theirs
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
DEFAULTS: dict[str, Any] = {
    **{"norm_eps": 1e-5, "norm_bias": False, "attention_bias": False, "mlp_bias": False},
    **{"decoder_bias": True, "tie_word_embeddings": True},
    **{"embedding_dropout": 0.0, "attention_dropout": 0.0, "mlp_dropout": 0.0},
}
# read by `read_settings` itself: what differs from layer to layer, and the head's activation and bias
HANDLED = (
    *("hidden_activation", "classifier_activation", "classifier_bias", "classifier_pooling"),
    *("local_attention", "layer_types", "global_attn_every_n_layers", "global_rope_theta"),
    *("local_rope_theta", "rope_parameters", "rope_scaling"),
)
# transformers looks at none of these; `layer_norm_eps` and `position_embedding_type` are BERT's leftovers
IGNORED_KEYS = (
    *("classifier_dropout", "deterministic_flash_attn", "initializer_cutoff_factor"),
    *("layer_norm_eps", "position_embedding_type", "reference_compile", "repad_logits_with_grad"),
    *("sparse_prediction", "sparse_pred_ignore_index"),
)
MAX_LAYERS = 100_000  # a list of their kinds is made before the weights are looked at
GLOBAL_EVERY, WINDOW, GLOBAL_THETA, LOCAL_THETA = 3, 128, 160_000.0, 10_000.0
KINDS = ("full_attention", "sliding_attention")


def read_settings(foreign: Mapping[str, Any], where: str | Path) -> EncoderConfig:
    """`attention_bias` means all four matrices of the attention."""
    settings = read_keys(
        foreign,
        where,
        model_type=MODEL_TYPE,
        settings=SETTINGS,
        harmless=IGNORED_KEYS,
        handled=HANDLED,
        defaults=DEFAULTS,
    )
    settings["head_dim"] = read_head_dim(foreign, where, "hidden_size", "num_attention_heads")
    settings["n_kv_heads"] = settings["n_heads"]
    settings["attention_output_bias"] = settings["attention_bias"]
    settings["activation"] = read_activation(foreign, "hidden_activation", where, "gelu")
    if settings["attention_dropout"] == settings["dropout"]:
        settings["attention_dropout"] = None
    _check_head(foreign, where)
    settings |= _read_layers(foreign, settings["n_layers"], where) | _read_rope(foreign, where)
    if settings["sliding_window"] is None:
        settings["local_rope_theta"] = None
    config = parsed(EncoderConfig, settings, SETTINGS, where)
    check_lengths(config, where)
    return config


def write_settings(config: EncoderConfig) -> dict[str, Any]:
    """Our settings in ModernBERT's words; layers and rope bases under their old and their new keys."""
    full = write_rope(config)["rope_parameters"]
    local = full
    if config.local_rope_theta is not None:
        local = {"rope_theta": config.local_rope_theta, "rope_type": "default"}
    kinds = [KINDS[config.is_local(layer)] for layer in range(config.n_layers)]
    settings = {
        "model_type": MODEL_TYPE,
        **{theirs: getattr(config, ours) for ours, theirs in SETTINGS.items()},
        "attention_dropout": config.dropout if config.attention_dropout is None else config.attention_dropout,
        "hidden_activation": write_activation(config.activation),
        "classifier_activation": write_activation(config.activation),
        "classifier_bias": config.feed_forward_bias,
        "local_attention": WINDOW if config.sliding_window is None else config.sliding_window,
        "layer_types": kinds,
        "rope_parameters": dict(zip(KINDS, (full, local), strict=True)),
        "global_rope_theta": full["rope_theta"],
        "local_rope_theta": local["rope_theta"],
        "initializer_range": 0.02,
    }
    ids = ("pad", "bos", "eos", "cls", "sep")  # transformers' defaults lie beyond a small vocabulary
    every = [n for n in range(1, config.n_layers + 1) if kinds == _pattern(config.n_layers, n)]
    settings |= {f"{name}_token_id": None for name in ids}
    return settings | ({"global_attn_every_n_layers": every[0]} if every else {})


def read_classifier(foreign: Mapping[str, Any], level: str) -> dict[str, Any]:
    """Sequences and tokens alike pass the head that predicts masked tokens."""
    return {"pooling": foreign.get("classifier_pooling", "cls"), "head": "transform", "bias": True}


def write_classifier(classes: ClassifierConfig) -> dict[str, Any]:
    """How token vectors become one."""
    return {"classifier_pooling": classes.pooling}


def named_tensors(config: EncoderConfig, head: Head) -> Iterator[NamedTensor]:
    """Every tensor, layer by layer."""
    prefix = "" if head.kind == "embedder" else PREFIX
    d, vocab, bias = config.d_model, config.vocab_size, config.norm_bias
    yield table("trunk.token_embedding.weight", f"{prefix}embeddings.tok_embeddings.weight", vocab, d)
    yield from norm("trunk.embedding_norm", f"{prefix}embeddings.norm", d, bias)
    for layer in range(config.n_layers):
        ours, theirs = f"trunk.blocks.{layer}", f"{prefix}layers.{layer}"
        if layer > 0:
            yield from norm(f"{ours}.attention_norm", f"{theirs}.attn_norm", d, bias)
        yield from _block(config, ours, theirs)
    yield from norm("trunk.final_norm", f"{prefix}final_norm", d, bias)
    if head.kind != "embedder":
        yield from _head(config, head)


def is_ignorable(theirs: str) -> bool:
    """The tables of angles, which follow from the settings."""
    return theirs.endswith("rotary_emb.inv_freq")


def _block(config: EncoderConfig, ours: str, theirs: str) -> Iterator[NamedTensor]:
    d, f = config.d_model, config.d_ff
    parts = [f"{ours}.attention.{name}" for name in ("query", "key", "value")]
    yield from stacked(parts, f"{theirs}.attn.Wqkv", 3 * d, d, config.attention_bias)
    yield from linear(f"{ours}.attention.output", f"{theirs}.attn.Wo", d, d, config.attention_output_bias)
    yield from norm(f"{ours}.feed_forward_norm", f"{theirs}.mlp_norm", d, config.norm_bias)
    parts = [f"{ours}.feed_forward.{name}" for name in ("gate", "up")]
    yield from stacked(parts, f"{theirs}.mlp.Wi", 2 * f, d, config.feed_forward_bias)
    yield from linear(f"{ours}.feed_forward.down", f"{theirs}.mlp.Wo", d, f, config.feed_forward_bias)


def _head(config: EncoderConfig, head: Head) -> Iterator[NamedTensor]:
    d, ours = config.d_model, "transform" if head.classes is None else "dense"
    yield from linear(f"{ours}.dense", "head.dense", d, d, config.feed_forward_bias)
    yield from norm(f"{ours}.norm", "head.norm", d, config.norm_bias)
    if head.classes is not None:
        yield from linear("label_head", "classifier", len(head.classes.labels), d)
    else:
        output = linear("lm_head", "decoder", config.vocab_size, d, config.lm_head_bias)
        yield from (t for t in output if not (config.tie_embeddings and t.theirs == "decoder.weight"))


def _check_head(foreign: Mapping[str, Any], where: str | Path) -> None:
    """Our head before the last matrix has the feed-forward's activation and bias."""
    pairs = (
        ("classifier_activation", "gelu", "hidden_activation", "gelu"),
        ("classifier_bias", False, "mlp_bias", False),
    )
    for key, default, like, like_default in pairs:
        value, wanted = foreign.get(key, default), foreign.get(like, like_default)
        if value != wanted:
            raise UserError(
                f"{where}: `{key}` is {value!r} and `{like}` {wanted!r}: the head differs from the layers "
                f"below, which Parakit does not compute for {MODEL_TYPE}",
                f"it needs `{key}` = {wanted!r}",
            )


def _pattern(n_layers: int, every: int) -> list[str]:
    """The first layer is full, and every `every`-th from there."""
    return [KINDS[layer % every > 0] for layer in range(n_layers)]


def _read_layers(foreign: Mapping[str, Any], n_layers: Any, where: str | Path) -> dict[str, Any]:
    """`sliding_window` and `local_layers`, from a list of kinds (new) or a period (old)."""
    if type(n_layers) is not int or not 0 < n_layers <= MAX_LAYERS:
        raise UserError(
            f"{where}: `num_hidden_layers` is {n_layers!r}, not a count of layers",
            "fetch the model's config.json again",
        )
    every, kinds = foreign.get("global_attn_every_n_layers"), foreign.get("layer_types")
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
            "Parakit computes full and sliding-window attention only",
        )
    if every is not None and kinds != _pattern(n_layers, every):
        raise UserError(
            f"{where}: `layer_types` and `global_attn_every_n_layers` = {every} name different layers",
            "keep the one that the model was trained with",
        )
    local = tuple(layer for layer, kind in enumerate(kinds) if kind == KINDS[1])
    window = value_of(foreign, "local_attention", where, {"local_attention": WINDOW})
    if not local:
        return {"sliding_window": None}
    return {"sliding_window": window, "local_layers": None if len(local) == n_layers else local}


def _read_rope(foreign: Mapping[str, Any], where: str | Path) -> dict[str, Any]:
    """Bases and scaling of full and of local layers, from the new groups, or from the old keys."""
    groups = foreign.get("rope_parameters") or {}
    if not isinstance(groups, Mapping) or groups.keys() - set(KINDS):
        raise UserError(
            f"{where}: `rope_parameters` is {groups!r}, and must have one mapping for each of {', '.join(KINDS)}",
            "fetch the model's config.json again",
        )
    if foreign.get("rope_scaling") is not None:
        raise UserError(
            f"{where}: `rope_scaling` is {foreign['rope_scaling']!r}, which does not say for which layers",
            "write it into `rope_parameters`, under full_attention or sliding_attention",
        )
    found = []
    for kind, key, default in zip(
        KINDS, ("global_rope_theta", "local_rope_theta"), (GLOBAL_THETA, LOCAL_THETA), strict=True
    ):
        old, (new, scaling) = foreign.get(key), (None, None)
        if groups.get(kind) is not None:
            new, scaling = read_rope_group(groups[kind], foreign, where, f"rope_parameters.{kind}")
        if old is not None and new is not None and old != new:
            raise UserError(
                f"{where}: `{key}` is {old!r}, and `rope_parameters` has {new!r}",
                "keep the one that the model was trained with",
            )
        theta = new if new is not None else old
        found.append((default if theta is None else theta, scaling))
    (theta, scaling), local = found
    if local == (theta, scaling):
        return {"rope_theta": theta, "rope_scaling": scaling, "local_rope_theta": None}
    if local[1] is not None:
        raise UserError(
            f"{where}: `rope_parameters.sliding_attention` is scaled in another way than full_attention",
            "Parakit scales local layers like the others, or not at all",
        )
    return {"rope_theta": theta, "rope_scaling": scaling, "local_rope_theta": local[0]}
