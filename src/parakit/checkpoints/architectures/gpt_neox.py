"""GPT-NeoX (Black et al. 2022), the architecture of Pythia: attention and feed-forward in parallel, rotary positions on
a part of each head, LayerNorm, biases. Queries, keys and values are one matrix, whose rows are grouped by head.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from parakit.checkpoints.architectures import rotary_decoders as shared
from parakit.checkpoints.architectures.layer_tensors import linear, norm, tensor
from parakit.checkpoints.hf_config import (
    HFConfig,
    check_lengths,
    parse_config,
    read_activation,
    read_head_dim,
    read_keys,
    write_activation,
)
from parakit.checkpoints.mapping import Head, HFTensor, TensorSlice
from parakit.checkpoints.rope_config import (
    ROPE,
    read_rope,
    read_rotary_dim,
    write_rope,
    write_rotary_share,
)
from parakit.common.files import JsonObject
from parakit.model.config import DecoderConfig

MODEL_TYPE = "gpt_neox"
CLASSES = {**shared.classes("GPTNeoX")}
PREFIX = "gpt_neox."
RENAMED: Mapping[str, str] = {}
TIED_COPIES: Mapping[str, str] = {
    "lm_head.weight": "gpt_neox.embed_in.weight",
    "embed_out.weight": "gpt_neox.embed_in.weight",
}
read_classifier, write_classifier = shared.read_classifier, shared.write_classifier
SETTINGS = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "d_ff": "intermediate_size",
    "max_seq_len": "max_position_embeddings",
    "norm_eps": "layer_norm_eps",
    "tie_embeddings": "tie_word_embeddings",
    "parallel_residual": "use_parallel_residual",
    "attention_bias": "attention_bias",
}
DEFAULTS = {
    **{"layer_norm_eps": 1e-5, "tie_word_embeddings": False, "use_parallel_residual": True},
    "attention_bias": True,
}
IGNORED_KEYS = (
    *("is_decoder", "hidden_dropout", "classifier_dropout", "num_key_value_heads"),
    *("attention_probs_dropout_prob", "hidden_dropout_prob"),
)
SHAPE = {
    **{"query_key_norm": False, "norm": "layer", "norm_bias": True, "gated": False},
    "feed_forward_bias": True,
}


def read_settings(hf_config: HFConfig, where: str | Path) -> DecoderConfig:
    """Old files have `rotary_pct` and `rotary_emb_base`; a quarter of each head is the default."""
    settings = read_keys(
        hf_config,
        where,
        model_type=MODEL_TYPE,
        settings=SETTINGS,
        ignored=IGNORED_KEYS,
        handled=(*ROPE, "rotary_pct", "rotary_emb_base", "hidden_act", "partial_rotary_factor"),
        defaults=DEFAULTS,
    )
    settings["head_dim"] = read_head_dim(hf_config, where, "hidden_size", "num_attention_heads")
    settings["n_kv_heads"] = settings["n_heads"]
    settings["attention_output_bias"] = settings["attention_bias"]
    settings["activation"] = read_activation(hf_config, "hidden_act", where, "gelu")
    settings["rotary_dim"] = read_rotary_dim(hf_config, settings["head_dim"], where, 0.25, "rotary_pct")
    base = hf_config.get("rotary_emb_base")
    named = {} if base is None else {"rope_theta": base}
    settings |= read_rope({**named, **hf_config}, where, partial=True)
    config = parse_config(DecoderConfig, settings | SHAPE, SETTINGS, where)
    check_lengths(config, where)
    return config


def write_settings(config: DecoderConfig) -> JsonObject:
    """The settings under their old and their new keys."""
    rope = write_rope(config)
    rope["rope_parameters"]["partial_rotary_factor"] = share = write_rotary_share(config)
    return {
        "model_type": MODEL_TYPE,
        **{hf_name: getattr(config, name) for name, hf_name in SETTINGS.items()},
        **rope,
        **{"rotary_pct": share, "rotary_emb_base": rope["rope_theta"]},
        "hidden_act": write_activation(config.activation),
        **{"attention_dropout": 0.0, "hidden_dropout": 0.0, "classifier_dropout": 0.0},
        "initializer_range": 0.02,
        "use_cache": True,
    }


def hf_tensors(config: DecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor, layer by layer."""
    prefix = "" if head.kind == "embedder" else PREFIX
    d, f, bias = config.d_model, config.d_ff, config.attention_bias
    yield tensor("trunk.token_embedding.weight", f"{prefix}embed_in.weight", config.vocab_size, d)
    for layer in range(config.n_layers):
        name, hf_name = f"trunk.blocks.{layer}", f"{prefix}layers.{layer}"
        yield from norm(f"{name}.attention_norm", f"{hf_name}.input_layernorm", d)
        yield from _query_key_value(config, f"{name}.attention", f"{hf_name}.attention.query_key_value")
        yield from linear(f"{name}.attention.output", f"{hf_name}.attention.dense", d, d, bias)
        yield from norm(f"{name}.feed_forward_norm", f"{hf_name}.post_attention_layernorm", d)
        yield from linear(f"{name}.feed_forward.up", f"{hf_name}.mlp.dense_h_to_4h", f, d)
        yield from linear(f"{name}.feed_forward.down", f"{hf_name}.mlp.dense_4h_to_h", d, f)
    yield from norm("trunk.final_norm", f"{prefix}final_layer_norm", d)
    if head.kind == "language_model" and not config.tie_embeddings:
        yield tensor("lm_head.weight", "embed_out.weight", config.vocab_size, d)
    elif head.kind != "language_model":
        tokenwise = head.classes is not None and head.classes.level == "token"
        yield from shared.head_tensors(config, head, "classifier" if tokenwise else "score")


def is_ignorable(hf_name: str) -> bool:
    """The causal masks and tables of angles in old files."""
    return hf_name.endswith((".attention.bias", ".attention.masked_bias", "rotary_emb.inv_freq"))


def _query_key_value(config: DecoderConfig, name: str, hf_name: str) -> Iterator[HFTensor]:
    """One matrix, of whose rows each head has its queries, keys and values in turn; and its bias."""
    d, width = config.d_model, config.head_dim
    for kind, shape in (("weight", (3 * d, d)), ("bias", (3 * d,))):
        if kind == "weight" or config.attention_bias:
            slices = (
                TensorSlice(f"{name}.{part}.{kind}", (i * width, (i + 1) * width), groups=config.n_heads)
                for i, part in enumerate(("query", "key", "value"))
            )
            yield HFTensor(f"{hf_name}.{kind}", shape, tuple(slices))
