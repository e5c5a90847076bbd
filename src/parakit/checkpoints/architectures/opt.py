"""OPT (Zhang et al. 2022), and Galactica: learned positions behind two unused rows, ReLU, LayerNorm. The 350M model has
its norms after the residual sum and a narrower embedding with projections.
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
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.common.files import JsonObject
from parakit.model.config import DecoderConfig

MODEL_TYPE = "opt"
CLASSES: Mapping[str, str] = {
    "language_model": "OPTForCausalLM",
    "classifier": "OPTForSequenceClassification",
    "reward_model": "OPTForSequenceClassification",
    "embedder": "OPTModel",
}
PREFIX = "model."
RENAMED: Mapping[str, str] = {}
TIED_COPIES: Mapping[str, str] = {"lm_head.weight": "model.decoder.embed_tokens.weight"}
read_classifier, write_classifier = shared.read_classifier, shared.write_classifier
SETTINGS = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "d_ff": "ffn_dim",
    "max_seq_len": "max_position_embeddings",
    "tie_embeddings": "tie_word_embeddings",
    "attention_bias": "enable_bias",
    "norm_weight": "layer_norm_elementwise_affine",
    "d_embedding": "word_embed_proj_dim",
}
DEFAULTS = {
    **{"tie_word_embeddings": True, "enable_bias": True, "layer_norm_elementwise_affine": True},
    "word_embed_proj_dim": None,
}
IGNORED_KEYS = ("is_decoder", "dropout", "activation_dropout", "layerdrop", "init_std")
SHAPE = {
    **{"positions": "learned", "position_offset": 2, "query_key_norm": False, "norm": "layer"},
    **{"norm_eps": 1e-5, "gated": False},
}


def read_settings(hf_config: HFConfig, where: str | Path) -> DecoderConfig:
    """`_remove_final_layer_norm` marks models that were tuned when transformers lacked the last norm."""
    settings = read_keys(
        hf_config,
        where,
        model_type=MODEL_TYPE,
        settings=SETTINGS,
        ignored=IGNORED_KEYS,
        handled=("activation_function", "do_layer_norm_before", "_remove_final_layer_norm"),
        defaults=DEFAULTS,
    )
    settings["head_dim"] = read_head_dim(hf_config, where, "hidden_size", "num_attention_heads")
    settings["n_kv_heads"] = settings["n_heads"]
    settings["attention_output_bias"] = settings["feed_forward_bias"] = settings["attention_bias"]
    settings["norm_bias"] = settings["norm_weight"]
    settings["activation"] = read_activation(hf_config, "activation_function", where, "relu")
    settings["post_norm"] = not hf_config.get("do_layer_norm_before", True)
    removed = hf_config.get("_remove_final_layer_norm", False)
    settings["final_norm"] = not settings["post_norm"] and not removed
    if settings["d_embedding"] == settings["d_model"]:
        settings["d_embedding"] = None
    config = parse_config(DecoderConfig, settings | SHAPE, SETTINGS, where)
    check_lengths(config, where)
    return config


def write_settings(config: DecoderConfig) -> JsonObject:
    """The settings as OPT's keys."""
    return {
        "model_type": MODEL_TYPE,
        **{hf_name: getattr(config, name) for name, hf_name in SETTINGS.items()},
        "word_embed_proj_dim": config.d_output,
        "activation_function": write_activation(config.activation),
        "do_layer_norm_before": not config.post_norm,
        "_remove_final_layer_norm": not config.post_norm and not config.final_norm,
        **{"dropout": 0.0, "attention_dropout": 0.0, "layerdrop": 0.0},
        "init_std": 0.02,
        "use_cache": True,
    }


def hf_tensors(config: DecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor, layer by layer."""
    prefix = "decoder." if head.kind == "embedder" else f"{PREFIX}decoder."
    d, f, bias, width = config.d_model, config.d_ff, config.attention_bias, config.d_output
    yield tensor("trunk.token_embedding.weight", f"{prefix}embed_tokens.weight", config.vocab_size, width)
    n_rows = config.max_seq_len + config.position_offset
    yield tensor("trunk.positions.weight", f"{prefix}embed_positions.weight", n_rows, d)
    if config.d_embedding is not None:
        yield tensor("trunk.output_projection.weight", f"{prefix}project_out.weight", width, d)
        yield tensor("trunk.input_projection.weight", f"{prefix}project_in.weight", d, width)
    if config.final_norm and config.norm_weight:
        yield from norm("trunk.final_norm", f"{prefix}final_layer_norm", d)
    for layer in range(config.n_layers):
        name, hf_name = f"trunk.blocks.{layer}", f"{prefix}layers.{layer}"
        for part, hf_part in (("key", "k"), ("value", "v"), ("query", "q"), ("output", "out")):
            yield from linear(f"{name}.attention.{part}", f"{hf_name}.self_attn.{hf_part}_proj", d, d, bias)
        if config.norm_weight:
            yield from norm(f"{name}.attention_norm", f"{hf_name}.self_attn_layer_norm", d)
            yield from norm(f"{name}.feed_forward_norm", f"{hf_name}.final_layer_norm", d)
        yield from linear(f"{name}.feed_forward.up", f"{hf_name}.fc1", f, d, bias)
        yield from linear(f"{name}.feed_forward.down", f"{hf_name}.fc2", d, f, bias)
    yield from shared.head_tensors(config, head)


def is_ignorable(hf_name: str) -> bool:
    """Nothing in OPT's files is without use."""
    return False
