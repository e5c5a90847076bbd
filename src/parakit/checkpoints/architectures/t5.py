"""T5 (Raffel et al. 2020): relative positions in buckets, RMSNorm, no biases, scores that are not scaled.

Version 1.0 has ReLU and ties its output matrix to the embedding, which it makes up for by scaling what goes into
it; version 1.1 (Shazeer 2020; Flan-T5) has a gated GELU and an output matrix of its own. A folder with the encoder alone
becomes an `Embedder`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from parakit.checkpoints.architectures.layer_tensors import linear, norm, table
from parakit.checkpoints.hf_config import (
    Fixed,
    check_lengths,
    parsed,
    read_activation,
    read_keys,
    write_activation,
)
from parakit.checkpoints.mapping import Head, NamedTensor
from parakit.common.errors import UserError
from parakit.model.config import (
    ClassifierConfig,
    DecoderConfig,
    EncoderConfig,
    EncoderDecoderConfig,
    TransformerConfig,
)

MODEL_TYPE = "t5"
CLASSES: Mapping[str, str] = {
    "sequence_to_sequence": "T5ForConditionalGeneration",
    "embedder": "T5EncoderModel",
}
ALIASES: Mapping[str, str] = {"T5WithLMHeadModel": "sequence_to_sequence"}
PREFIX = ""
RENAMED: Mapping[str, str] = {}
TIED_COPIES: Mapping[str, str] = {
    "encoder.embed_tokens.weight": "shared.weight",
    "decoder.embed_tokens.weight": "shared.weight",
    "lm_head.weight": "shared.weight",
}
# ours -> theirs
SETTINGS = {
    "vocab_size": "vocab_size",
    "d_model": "d_model",
    "n_layers": "num_layers",
    "n_heads": "num_heads",
    "head_dim": "d_kv",
    "d_ff": "d_ff",
    "max_seq_len": "n_positions",
    "n_relative_buckets": "relative_attention_num_buckets",
    "max_relative_distance": "relative_attention_max_distance",
    "norm_eps": "layer_norm_epsilon",
    "dropout": "dropout_rate",
}
DECODER = {"n_layers": "num_decoder_layers"}
DEFAULTS = {
    "n_positions": 512,  # what all were trained with; nothing in the model ends there
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "dropout_rate": 0.1,
}
REQUIRED_VALUES: Fixed = {
    "is_encoder_decoder": ((True, False), "something else"),
    "is_decoder": ((False, None), "the decoder alone"),
    "tie_word_embeddings": ((True, False, None), "something else"),
    "scale_decoder_outputs": ((True, False), "another scale"),
}
HANDLED = ("num_decoder_layers", "feed_forward_proj", "dense_act_fn", "is_gated_act")
SHAPE = {
    **{"positions": "relative", "attention_scale": 1.0, "query_key_norm": False, "norm": "rms"},
    **{"embedding_norm": False, "final_norm": True, "head_transform": False, "lm_head_bias": False},
}


def read_settings(foreign: Mapping[str, Any], where: str | Path) -> EncoderDecoderConfig | EncoderConfig:
    """transformers 5 always says `tie_word_embeddings` and tells version 1.1 by `scale_decoder_outputs`; whether
    such a folder has an output matrix of its own, only its tensors tell: see `settled`.
    """
    settings = read_keys(
        foreign,
        where,
        model_type=MODEL_TYPE,
        settings=SETTINGS,
        fixed=REQUIRED_VALUES,
        harmless=("classifier_dropout", "n_positions"),
        handled=HANDLED,
        defaults=DEFAULTS,
    )
    settings |= SHAPE | _read_feed_forward(foreign, where)
    settings |= {"n_kv_heads": settings["n_heads"], "feed_forward_dropout": settings["dropout"]}
    encoder = parsed(EncoderConfig, settings, SETTINGS, where)
    check_lengths(encoder, where, "n_positions")
    if foreign.get("architectures") == ["T5EncoderModel"] or foreign.get("is_encoder_decoder") is False:
        return encoder
    tied = foreign.get("tie_word_embeddings")
    tied = tied is None or bool(tied)
    scaled = foreign.get("scale_decoder_outputs", tied)
    layers = foreign.get("num_decoder_layers")
    decoder = {
        "n_layers": settings["n_layers"] if layers is None else layers,
        "tie_embeddings": tied,
        "logit_scale": encoder.d_model**-0.5 if scaled else 1.0,
    }
    start = foreign.get("decoder_start_token_id")
    return EncoderDecoderConfig.parse(
        {
            "encoder": encoder.model_dump(),
            "decoder": parsed(DecoderConfig, settings | decoder, {**SETTINGS, **DECODER}, where).model_dump(),
            "decoder_start_id": (foreign.get("pad_token_id") or 0) if start is None else start,
        },
        where=str(where),
    )


def settled(config: EncoderDecoderConfig | EncoderConfig, stored: Collection[str]) -> Any:
    """`config`, whose output matrix is its own where one is stored."""
    if isinstance(config, EncoderDecoderConfig) and config.decoder.logit_scale == 1.0:
        tied = "lm_head.weight" not in stored
        return config.replace(decoder=config.decoder.replace(tie_embeddings=tied))
    return config


def write_settings(config: EncoderDecoderConfig | EncoderConfig) -> dict[str, Any]:
    """Our settings in T5's words. A tied matrix without the scale is understood by transformers 5, not by those
    before it.
    """
    whole = isinstance(config, EncoderDecoderConfig)
    encoder = config.encoder if isinstance(config, EncoderDecoderConfig) else config
    settings = {
        "model_type": MODEL_TYPE,
        **{theirs: getattr(encoder, ours) for ours, theirs in SETTINGS.items()},
        **_write_feed_forward(encoder),
        "is_encoder_decoder": whole,
        "initializer_factor": 1.0,
        "pad_token_id": None,
        "eos_token_id": None,
    }
    if isinstance(config, EncoderDecoderConfig):
        settings |= {
            "num_decoder_layers": config.decoder.n_layers,
            "tie_word_embeddings": config.decoder.tie_embeddings,
            "scale_decoder_outputs": config.decoder.logit_scale != 1.0,
            "decoder_start_token_id": config.decoder_start_id,
        }
    return settings


def read_classifier(foreign: Mapping[str, Any], level: str) -> dict[str, Any]:
    """There is no classifier among `CLASSES`: theirs has a decoder."""
    return {}


def write_classifier(classes: ClassifierConfig) -> dict[str, Any]:
    """See `read_classifier`."""
    return {}


def named_tensors(config: EncoderDecoderConfig | EncoderConfig, head: Head) -> Iterator[NamedTensor]:
    """Every tensor, layer by layer; the buckets of all layers stand in the first."""
    if isinstance(config, EncoderConfig):
        yield table("trunk.token_embedding.weight", "shared.weight", config.vocab_size, config.d_model)
        yield from _stack(config, "trunk", "encoder")
        return
    yield table("trunk.encoder.token_embedding.weight", "shared.weight", config.vocab_size, config.d_model)
    yield from _stack(config.encoder, "trunk.encoder", "encoder")
    yield from _stack(config.decoder, "trunk.decoder", "decoder")
    if not config.tie_embeddings:
        yield table("lm_head.weight", "lm_head.weight", config.vocab_size, config.d_model)


def is_ignorable(theirs: str) -> bool:
    """Buckets for cross-attention, which old files carry and nothing uses."""
    return theirs.endswith("EncDecAttention.relative_attention_bias.weight")


def _stack(config: TransformerConfig, ours: str, theirs: str) -> Iterator[NamedTensor]:
    d, buckets = config.d_model, f"{theirs}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    yield table(f"{ours}.positions.bias.weight", buckets, config.n_relative_buckets, config.n_heads)
    for layer in range(config.n_layers):
        block, place = f"{ours}.blocks.{layer}", f"{theirs}.block.{layer}.layer"
        sublayers = ["attention", "feed_forward"]
        if config.family == "decoder":
            sublayers.insert(1, "cross_attention")
        for number, name in enumerate(sublayers):
            yield from norm(f"{block}.{name}_norm", f"{place}.{number}.layer_norm", d, bias=False)
            part = _feed_forward if name == "feed_forward" else _attention
            yield from part(config, f"{block}.{name}", f"{place}.{number}")
    yield from norm(f"{ours}.final_norm", f"{theirs}.final_layer_norm", d, bias=False)


def _attention(config: TransformerConfig, ours: str, theirs: str) -> Iterator[NamedTensor]:
    d, inner = config.d_model, config.n_heads * config.head_dim
    place = f"{theirs}.{'EncDecAttention' if ours.endswith('cross_attention') else 'SelfAttention'}"
    for name in ("query", "key", "value"):
        yield from linear(f"{ours}.{name}", f"{place}.{name[0]}", inner, d, bias=False)
    yield from linear(f"{ours}.output", f"{place}.o", d, inner, bias=False)


def _feed_forward(config: TransformerConfig, ours: str, theirs: str) -> Iterator[NamedTensor]:
    names = {"gate": "wi_0", "up": "wi_1"} if config.gated else {"up": "wi"}
    for name, foreign in names.items():
        place = f"{theirs}.DenseReluDense.{foreign}"
        yield from linear(f"{ours}.{name}", place, config.d_ff, config.d_model, bias=False)
    yield from linear(f"{ours}.down", f"{theirs}.DenseReluDense.wo", config.d_model, config.d_ff, bias=False)


def _read_feed_forward(foreign: Mapping[str, Any], where: str | Path) -> dict[str, Any]:
    """`feed_forward_proj` is an activation, or "gated-" and one; "gated-gelu" means the tanh formula."""
    said = foreign.get("feed_forward_proj", "relu")
    gated = isinstance(said, str) and said.startswith("gated-")
    name = said.removeprefix("gated-") if gated else said
    name = "gelu_new" if said == "gated-gelu" else name
    for key, value in (("dense_act_fn", name), ("is_gated_act", gated)):
        if foreign.get(key, value) != value:
            raise UserError(
                f"{where}: `{key}` is {foreign[key]!r}, and `feed_forward_proj` {said!r} says {value!r}",
                "keep the one that the model was trained with",
            )
    activation = read_activation({"feed_forward_proj": name}, "feed_forward_proj", where, "relu")
    return {"gated": gated, "activation": activation}


def _write_feed_forward(config: TransformerConfig) -> dict[str, Any]:
    name = write_activation(config.activation)
    if config.gated:
        name = {"gelu_new": "gelu", "gelu": "gelu_python"}.get(name, name)
    return {"feed_forward_proj": f"gated-{name}" if config.gated else name}
