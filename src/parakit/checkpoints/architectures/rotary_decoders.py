"""What Llama and its descendants share: names of settings and of tensors. Each descendant's own file says how it
differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from parakit.checkpoints.hf_config import (
    Fixed,
    check_lengths,
    parsed,
    read_activation,
    read_head_dim,
    read_keys,
    write_activation,
)
from parakit.checkpoints.mapping import Head, NamedTensor, Piece
from parakit.checkpoints.rope_config import ROPE, read_rope, write_rope
from parakit.common.errors import UserError
from parakit.model.config import ClassifierConfig, DecoderConfig

PREFIX = "model."
RENAMED: Mapping[str, str] = {}
TIED_COPIES: Mapping[str, str] = {"lm_head.weight": "model.embed_tokens.weight"}
# ours -> theirs
SETTINGS: Mapping[str, str] = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "d_ff": "intermediate_size",
    "max_seq_len": "max_position_embeddings",
    "norm_eps": "rms_norm_eps",
    "tie_embeddings": "tie_word_embeddings",
}
# What transformers takes where a key is absent. Sizes have no default here: a folder that does not say them
# is not whole.
DEFAULTS: Mapping[str, Any] = {"rms_norm_eps": 1e-6, "tie_word_embeddings": False, "rope_theta": 10_000.0}
QWEN_EXPERTS: Mapping[str, str] = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
IGNORED_KEYS = ("is_decoder", "pretraining_tp")


def classes(name: str) -> dict[str, str]:
    """transformers' class for each head, for an architecture called `name` there."""
    return {
        "language_model": f"{name}ForCausalLM",
        "classifier": f"{name}ForSequenceClassification",
        "token_classifier": f"{name}ForTokenClassification",
        "reward_model": f"{name}ForSequenceClassification",
        "embedder": f"{name}Model",
    }


def read_shared(
    foreign: Mapping[str, Any],
    where: str | Path,
    model_type: str,
    *,
    also: Mapping[str, str] | None = None,
    fixed: Fixed | None = None,
    harmless: Iterable[str] = (),
    handled: Iterable[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The settings that all descendants have, and those of `also` (ours -> theirs), as a dictionary to add to."""
    defaults = {**DEFAULTS, **(defaults or {})}
    if foreign.get("num_key_value_heads", ...) is None:  # every head has its own
        foreign = {**foreign, "num_key_value_heads": foreign.get("num_attention_heads")}
    settings = read_keys(
        foreign,
        where,
        model_type=model_type,
        settings={**SETTINGS, **(also or {})},
        fixed=fixed,
        harmless={*IGNORED_KEYS, *harmless},
        handled={*ROPE, "head_dim", "hidden_act", *handled},
        defaults=defaults,
    )
    settings["head_dim"] = foreign.get("head_dim", defaults.get("head_dim"))
    if settings["head_dim"] is None:
        settings["head_dim"] = read_head_dim(foreign, where, "hidden_size", "num_attention_heads")
    settings["activation"] = read_activation(foreign, "hidden_act", where, "silu")
    return settings | read_rope(foreign, where, defaults["rope_theta"])


def finish(
    settings: Mapping[str, Any], where: str | Path, also: Mapping[str, str] | None = None
) -> DecoderConfig:
    """The settings, checked against each other; `also` as for `read_shared`."""
    names = {**SETTINGS, **(also or {})}
    if settings.get("n_experts") == 0:  # to us that means one dense layer, which such a folder does not hold
        raise UserError(
            f"{where}: `{names['n_experts']}` is 0, and a mixture has 1 expert at least",
            "fetch the model's config.json again",
        )
    config = parsed(DecoderConfig, settings, names, where)
    check_lengths(config, where)
    return config


def write_shared(config: DecoderConfig) -> dict[str, Any]:
    """The keys that all descendants have."""
    return {
        **{theirs: getattr(config, ours) for ours, theirs in SETTINGS.items()},
        "head_dim": config.head_dim,
        **write_rope(config),
        "hidden_act": write_activation(config.activation),
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
    }


def read_classifier(foreign: Mapping[str, Any], level: str) -> dict[str, Any]:
    """The last token decides; a bias only where every token is labelled."""
    return {"pooling": "last", "head": "linear", "bias": level == "token"}


def write_classifier(classes: ClassifierConfig) -> dict[str, Any]:
    """There is no choice to write down."""
    return {}


def decoder_tensors(
    config: DecoderConfig, head: Head, experts: tuple[str, Mapping[str, str]] = ("mlp", QWEN_EXPERTS)
) -> Iterator[NamedTensor]:
    """Every parameter of a model of this shape, layer by layer; biases and norms of queries and keys where the
    settings have them. `experts`: where in a layer they lie, and the file's words for their matrices.
    """
    prefix = "" if head.kind == "embedder" else PREFIX
    d, vocab = config.d_model, config.vocab_size
    yield plain("trunk.token_embedding.weight", f"{prefix}embed_tokens.weight", vocab, d)
    for layer in range(config.n_layers):
        ours, theirs = f"trunk.blocks.{layer}", f"{prefix}layers.{layer}"
        yield plain(f"{ours}.attention_norm.weight", f"{theirs}.input_layernorm.weight", d)
        yield from _attention(config, ours, theirs)
        yield plain(f"{ours}.feed_forward_norm.weight", f"{theirs}.post_attention_layernorm.weight", d)
        if not config.has_experts(layer):
            yield from _feed_forward(config, ours, theirs)
        else:
            yield from _experts(config, ours, f"{theirs}.{experts[0]}", experts[1])
    yield plain("trunk.final_norm.weight", f"{prefix}norm.weight", d)
    yield from head_tensors(config, head)


def head_tensors(config: DecoderConfig, head: Head, label_head: str = "score") -> Iterator[NamedTensor]:
    """The tensors of a head on a decoder; `label_head` is what its last matrix is called."""
    if head.kind == "language_model" and not config.tie_embeddings:
        yield plain("lm_head.weight", "lm_head.weight", config.vocab_size, config.d_model)
    elif head.kind == "reward_model":
        yield plain("reward_head.weight", f"{label_head}.weight", 1, config.d_model)
    elif head.classes is not None:
        n = len(head.classes.labels)
        yield plain("label_head.weight", f"{label_head}.weight", n, config.d_model)
        if head.classes.bias:
            yield plain("label_head.bias", f"{label_head}.bias", n)


def is_ignorable(theirs: str) -> bool:
    """Tensors that old files carry and that follow from the settings."""
    return theirs.endswith("rotary_emb.inv_freq")


def plain(ours: str, theirs: str, *shape: int) -> NamedTensor:
    """A foreign tensor that is one of our parameters as it stands."""
    return NamedTensor(theirs, shape, (Piece(ours),))


def _attention(config: DecoderConfig, ours: str, theirs: str) -> Iterator[NamedTensor]:
    d, ours, theirs = config.d_model, f"{ours}.attention", f"{theirs}.self_attn"
    queries, keys = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    for name, foreign, rows in (("query", "q", queries), ("key", "k", keys), ("value", "v", keys)):
        yield plain(f"{ours}.{name}.weight", f"{theirs}.{foreign}_proj.weight", rows, d)
        if config.attention_bias:
            yield plain(f"{ours}.{name}.bias", f"{theirs}.{foreign}_proj.bias", rows)
    yield plain(f"{ours}.output.weight", f"{theirs}.o_proj.weight", d, queries)
    if config.attention_output_bias:
        yield plain(f"{ours}.output.bias", f"{theirs}.o_proj.bias", d)
    if config.query_key_norm:
        yield plain(f"{ours}.query_norm.weight", f"{theirs}.q_norm.weight", config.head_dim)
        yield plain(f"{ours}.key_norm.weight", f"{theirs}.k_norm.weight", config.head_dim)


def _feed_forward(config: DecoderConfig, ours: str, theirs: str) -> Iterator[NamedTensor]:
    d, f = config.d_model, config.d_ff
    for name, rows, columns in (("gate", f, d), ("up", f, d), ("down", d, f)):
        place, foreign = f"{ours}.feed_forward.{name}", f"{theirs}.mlp.{name}_proj"
        yield plain(f"{place}.weight", f"{foreign}.weight", rows, columns)
        if config.feed_forward_bias:
            yield plain(f"{place}.bias", f"{foreign}.bias", rows)


def _experts(
    config: DecoderConfig, ours: str, theirs: str, names: Mapping[str, str]
) -> Iterator[NamedTensor]:
    """A layer's router and its experts: a tensor each in the file, one stack of all in our model."""
    d, width = config.d_model, config.d_expert or config.d_ff
    yield plain(f"{ours}.feed_forward.router.weight", f"{theirs}.gate.weight", config.n_experts, d)
    for expert in range(config.n_experts):
        for name, foreign in names.items():
            shape = (d, width) if name == "down" else (width, d)
            piece = Piece(f"{ours}.feed_forward.{name}", expert=expert)
            yield NamedTensor(f"{theirs}.experts.{expert}.{foreign}.weight", shape, (piece,))
