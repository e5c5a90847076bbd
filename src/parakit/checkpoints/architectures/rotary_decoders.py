"""Settings and tensors that Llama and its descendants share; the module of each architecture adds the differences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from parakit.checkpoints.architectures.layer_tensors import equal_rows, linear, norm, tensor
from parakit.checkpoints.hf_config import (
    HFConfig,
    RequiredValues,
    check_lengths,
    parse_config,
    read_activation,
    read_head_dim,
    read_keys,
    write_activation,
)
from parakit.checkpoints.mapping import Head, HFTensor, TensorSlice
from parakit.checkpoints.rope_config import ROPE, read_rope, read_rotary_dim, write_rope
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.model.config import ClassifierConfig, DecoderConfig

PREFIX = "model."
RENAMED: Mapping[str, str] = {}
TIED_COPIES: Mapping[str, str] = {"lm_head.weight": "model.embed_tokens.weight"}
# name -> key in config.json
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
# transformers' defaults of absent keys. Dimensions have none here: a folder without them is incomplete.
DEFAULTS: Mapping[str, Any] = {"rms_norm_eps": 1e-6, "tie_word_embeddings": False, "rope_theta": 10_000.0}
# norms of a layer -> their names in the file
NORMS: Mapping[str, str] = {
    "attention_norm": "input_layernorm",
    "feed_forward_norm": "post_attention_layernorm",
}
OUTPUT_NORMS: Mapping[str, str] = {
    "attention_output_norm": "post_attention_layernorm",
    "feed_forward_output_norm": "post_feedforward_layernorm",
}
# the module of a layer's experts, and the names of an expert's matrices there; None: all experts are stacked
ExpertLayout = tuple[str, Mapping[str, str] | None]
EXPERTS: ExpertLayout = ("mlp", {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"})
IGNORED_KEYS = ("is_decoder",)
HAS_QK_NORM: RequiredValues = {"use_qk_norm": ((True, None), "no norms of queries and keys")}


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
    hf_config: HFConfig,
    where: str | Path,
    model_type: str,
    *,
    extra: Mapping[str, str] | None = None,
    required: RequiredValues | None = None,
    ignored: Iterable[str] = (),
    handled: Iterable[str] = (),
    defaults: Mapping[str, Any] | None = None,
    partial_rotary: float | None = None,
    activation: tuple[str, str] = ("hidden_act", "silu"),
    norm_eps: str = "rms_norm_eps",
) -> JsonObject:
    """The shared settings and those of `extra` (name -> key in config.json), as a dictionary to extend.

    `partial_rotary` is the default share of a head's features that are rotated; None: always all. `activation` is the
    activation's key and its default, `norm_eps` another key for that of the norms.
    """
    defaults = {**DEFAULTS, **(defaults or {})}
    if hf_config.get("num_key_value_heads", ...) is None:  # every head has its own
        hf_config = {**hf_config, "num_key_value_heads": hf_config.get("num_attention_heads")}
    settings = read_keys(
        hf_config,
        where,
        model_type=model_type,
        settings={**SETTINGS, "norm_eps": norm_eps, **(extra or {})},
        required=required,
        ignored={*IGNORED_KEYS, *ignored},
        handled={
            *(*ROPE, "head_dim", activation[0], *handled),
            *(() if partial_rotary is None else ("partial_rotary_factor",)),
        },
        defaults=defaults,
    )
    settings["head_dim"] = hf_config.get("head_dim", defaults.get("head_dim"))
    if settings["head_dim"] is None:
        settings["head_dim"] = read_head_dim(hf_config, where, "hidden_size", "num_attention_heads")
    settings["activation"] = read_activation(hf_config, activation[0], where, activation[1])
    if partial_rotary is not None:
        settings["rotary_dim"] = read_rotary_dim(hf_config, settings["head_dim"], where, partial_rotary)
    return settings | read_rope(hf_config, where, defaults["rope_theta"], partial_rotary is not None)


def finish(
    settings: Mapping[str, Any], where: str | Path, extra: Mapping[str, str] | None = None
) -> DecoderConfig:
    """The settings, checked against each other; `extra` as for `read_shared`."""
    names = {**SETTINGS, **(extra or {})}
    if settings.get("n_experts") == 0:  # here 0 means a dense layer, which such a folder does not contain
        raise UserError(
            f"{where}: `{names['n_experts']}` is 0, and a mixture has 1 expert at least",
            "fetch the model's config.json again",
        )
    config = parse_config(DecoderConfig, settings, names, where)
    check_lengths(config, where)
    return config


def write_shared(
    config: DecoderConfig, activation: str = "hidden_act", norm_eps: str = "rms_norm_eps"
) -> JsonObject:
    """The shared keys; `activation` and `norm_eps` as for `read_shared`."""
    names = {**SETTINGS, "norm_eps": norm_eps}
    return {
        **{hf_name: getattr(config, name) for name, hf_name in names.items()},
        "head_dim": config.head_dim,
        **write_rope(config),
        activation: write_activation(config.activation),
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
    }


def read_classifier(hf_config: HFConfig, level: str) -> JsonObject:
    """The last token is classified; a bias only where every token is."""
    return {"pooling": "last", "head": "linear", "bias": level == "token"}


def write_classifier(classes: ClassifierConfig) -> JsonObject:
    """Nothing to write: there is no choice."""
    return {}


def decoder_tensors(
    config: DecoderConfig,
    head: Head,
    experts: ExpertLayout = EXPERTS,
    norms: Mapping[str, str] = NORMS,
    query_key_norms: tuple[str, str] = ("q_norm", "k_norm"),
) -> Iterator[HFTensor]:
    """Every parameter of a model of this shape, layer by layer; biases and norms of queries and keys where the
    settings have them. `experts`: see `ExpertLayout`. `norms` and
    `query_key_norms`: those of a layer, and their names there.
    """
    prefix = "" if head.kind == "embedder" else PREFIX
    d, vocab = config.d_model, config.vocab_size
    yield tensor("trunk.token_embedding.weight", f"{prefix}embed_tokens.weight", vocab, d)
    for layer in range(config.n_layers):
        name, hf_name = f"trunk.blocks.{layer}", f"{prefix}layers.{layer}"
        for part, hf_part in norms.items():
            yield from norm(f"{name}.{part}", f"{hf_name}.{hf_part}", d, config.norm_bias)
        yield from _attention(config, name, hf_name, query_key_norms)
        yield from feed_forward_tensors(config, layer, name, hf_name, experts)
    yield from norm("trunk.final_norm", f"{prefix}norm", d, config.norm_bias)
    yield from head_tensors(config, head)


def feed_forward_tensors(
    config: DecoderConfig,
    layer: int,
    name: str,
    hf_name: str,
    experts: ExpertLayout = EXPERTS,
) -> Iterator[HFTensor]:
    """The feed-forward of a layer, or its experts; `experts` as for `decoder_tensors`."""
    if not config.has_experts(layer):
        yield from _feed_forward(config, f"{name}.feed_forward", f"{hf_name}.mlp", config.d_ff)
        return
    module = f"{hf_name}.{experts[0]}"
    yield from _experts(config, name, module, experts[1])
    if config.n_shared_experts:
        width = config.n_shared_experts * (config.d_expert or config.d_ff)
        yield from _feed_forward(config, f"{name}.feed_forward.shared", f"{module}.shared_expert", width)
    if config.shared_expert_gate:
        gate = f"{name}.feed_forward.shared.output_gate.weight"
        yield tensor(gate, f"{module}.shared_expert_gate.weight", 1, config.d_model)


def head_tensors(config: DecoderConfig, head: Head, label_head: str = "score") -> Iterator[HFTensor]:
    """The tensors of a head on a decoder; `label_head` is the name of its last matrix."""
    if head.kind == "language_model" and not config.tie_embeddings:
        yield tensor("lm_head.weight", "lm_head.weight", config.vocab_size, config.d_output)
    elif head.kind == "reward_model":
        yield tensor("reward_head.weight", f"{label_head}.weight", 1, config.d_output)
    elif head.classes is not None:
        n_labels = len(head.classes.labels)
        yield from linear("label_head", label_head, n_labels, config.d_output, head.classes.bias)


def is_ignorable(hf_name: str) -> bool:
    """Tables of rotary angles in old files, which follow from the settings."""
    return hf_name.endswith("rotary_emb.inv_freq")


def _attention(
    config: DecoderConfig, name: str, hf_name: str, query_key_norms: tuple[str, str]
) -> Iterator[HFTensor]:
    d, name, hf_name = config.d_model, f"{name}.attention", f"{hf_name}.self_attn"
    queries, keys = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    for part, letter, rows in (("query", "q", queries), ("key", "k", keys), ("value", "v", keys)):
        yield from linear(f"{name}.{part}", f"{hf_name}.{letter}_proj", rows, d, config.attention_bias)
    yield from linear(f"{name}.output", f"{hf_name}.o_proj", d, queries, config.attention_output_bias)
    if config.query_key_norm:
        for part, hf_part, width in zip(("query", "key"), query_key_norms, (queries, keys), strict=True):
            yield from _head_norm(config, f"{name}.{part}_norm.weight", f"{hf_name}.{hf_part}", width)


def _head_norm(config: DecoderConfig, name: str, hf_name: str, width: int) -> Iterator[HFTensor]:
    """The norm of queries or keys, of `width` features over all heads."""
    if config.query_key_norm_shape == "heads":  # a tensor for each head, one stacked parameter here
        for number in range(width // config.head_dim):
            slices = (TensorSlice(name, expert=number),)
            yield HFTensor(f"{hf_name}.norms.{number}.weight", (config.head_dim,), slices)
    else:
        shared = config.query_key_norm_shape == "head"
        yield tensor(name, f"{hf_name}.weight", config.head_dim if shared else width)


def _feed_forward(config: DecoderConfig, name: str, hf_name: str, width: int) -> Iterator[HFTensor]:
    d, f, bias = config.d_model, width, config.feed_forward_bias
    for part, rows, columns in (("gate", f, d), ("up", f, d), ("down", d, f)):
        yield from linear(f"{name}.{part}", f"{hf_name}.{part}_proj", rows, columns, bias)


def _experts(
    config: DecoderConfig, name: str, hf_name: str, parts: Mapping[str, str] | None
) -> Iterator[HFTensor]:
    """A layer's router and its experts, which are one stacked parameter here."""
    d, width, n, part_of = (
        config.d_model,
        config.d_expert or config.d_ff,
        config.n_experts,
        f"{name}.feed_forward",
    )
    yield tensor(f"{part_of}.router.weight", f"{hf_name}.gate.weight", n, d)
    if parts is None:
        rows = equal_rows(2 * width, 2)
        slices = (
            TensorSlice(f"{part_of}.{part}", one, stacked=True)
            for part, one in zip(("gate", "up"), rows, strict=True)
        )
        yield HFTensor(f"{hf_name}.experts.gate_up_proj", (n, 2 * width, d), tuple(slices))
        yield tensor(f"{part_of}.down", f"{hf_name}.experts.down_proj", n, d, width)
        return
    for expert in range(n):
        for part, hf_part in parts.items():
            shape = (d, width) if part == "down" else (width, d)
            slice_ = TensorSlice(f"{part_of}.{part}", expert=expert)
            yield HFTensor(f"{hf_name}.experts.{expert}.{hf_part}.weight", shape, (slice_,))
