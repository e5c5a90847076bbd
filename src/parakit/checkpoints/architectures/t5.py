"""T5 (Raffel et al. 2020): relative positions in buckets, RMSNorm, no biases, scores that are not scaled.

Version 1.0 has ReLU and an output matrix tied to the embedding, whose inputs it scales; version 1.1 (Shazeer 2020;
Flan-T5) has a gated GELU and a separate output matrix. A folder with the encoder alone becomes an `Embedder`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from parakit.checkpoints.architectures.layer_tensors import linear, norm, tensor
from parakit.checkpoints.hf_config import (
    HFConfig,
    RequiredValues,
    check_lengths,
    parse_config,
    read_activation,
    read_keys,
    write_activation,
)
from parakit.checkpoints.mapping import Head, HFTensor
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.model.config import ClassifierConfig, DecoderConfig, EncoderConfig, EncoderDecoderConfig
from parakit.model.transformer_config import TransformerConfig

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
# name -> key in config.json
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
    "n_positions": 512,  # the training length; the model has no limit
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "dropout_rate": 0.1,
}
REQUIRED_VALUES: RequiredValues = {
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


def read_settings(hf_config: HFConfig, where: str | Path) -> EncoderDecoderConfig | EncoderConfig:
    """transformers 5 always writes `tie_word_embeddings` and marks version 1.1 by `scale_decoder_outputs`; whether such a
    folder has a separate output matrix depends on its tensors: see `finalize`.
    """
    tied = hf_config.get("tie_word_embeddings")
    scaled = hf_config.get("scale_decoder_outputs", tied is None or bool(tied))
    return read_stacks(hf_config, where, MODEL_TYPE, CLASSES, scaled=bool(scaled))


def read_stacks(
    hf_config: HFConfig,
    where: str | Path,
    model_type: str,
    classes: Mapping[str, str],
    *,
    scaled: bool,
    shape: Mapping[str, Any] = SHAPE,
    projection: str = "relu",
    ignored: tuple[str, ...] = (),
) -> EncoderDecoderConfig | EncoderConfig:
    """Both sides, or the encoder alone. `scaled`: what the output matrix reads is multiplied by d_model ** -0.5;
    `projection` is the default of `feed_forward_proj`. In these settings T5, mT5 and UMT5 differ.
    """
    settings = read_keys(
        hf_config,
        where,
        model_type=model_type,
        settings=SETTINGS,
        required=REQUIRED_VALUES,
        ignored=("classifier_dropout", "n_positions", *ignored),
        handled=HANDLED,
        defaults=DEFAULTS,
    )
    settings |= {**shape, **_read_feed_forward(hf_config, where, projection)}
    settings |= {"n_kv_heads": settings["n_heads"], "feed_forward_dropout": settings["dropout"]}
    encoder = parse_config(EncoderConfig, settings, SETTINGS, where)
    check_lengths(encoder, where, "n_positions")
    alone = hf_config.get("architectures") == [classes["embedder"]]
    if alone or hf_config.get("is_encoder_decoder") is False:
        return encoder
    tied = hf_config.get("tie_word_embeddings")
    layers = hf_config.get("num_decoder_layers")
    decoder = {
        "n_layers": settings["n_layers"] if layers is None else layers,
        "tie_embeddings": tied is None or bool(tied),
        "logit_scale": encoder.d_model**-0.5 if scaled else 1.0,
    }
    start = hf_config.get("decoder_start_token_id")
    return EncoderDecoderConfig.parse(
        {
            "encoder": encoder.model_dump(),
            "decoder": parse_config(
                DecoderConfig, settings | decoder, {**SETTINGS, **DECODER}, where
            ).model_dump(),
            "decoder_start_id": (hf_config.get("pad_token_id") or 0) if start is None else start,
        },
        where=str(where),
    )


def finalize(
    config: EncoderDecoderConfig | EncoderConfig, stored: Collection[str]
) -> EncoderDecoderConfig | EncoderConfig:
    """`config`, untied where an output matrix is stored."""
    if isinstance(config, EncoderDecoderConfig) and config.decoder.logit_scale == 1.0:
        tied = "lm_head.weight" not in stored
        return config.replace(decoder=config.decoder.replace(tie_embeddings=tied))
    return config


def write_settings(config: EncoderDecoderConfig | EncoderConfig) -> JsonObject:
    """The settings as T5's keys. A tied matrix without the scale needs transformers 5 or newer."""
    settings = write_stacks(config, MODEL_TYPE)
    if isinstance(config, EncoderDecoderConfig):
        settings["scale_decoder_outputs"] = config.decoder.logit_scale != 1.0
    return settings


def write_stacks(config: EncoderDecoderConfig | EncoderConfig, model_type: str) -> JsonObject:
    """The keys that T5, mT5 and UMT5 share."""
    encoder = config.encoder if isinstance(config, EncoderDecoderConfig) else config
    settings = {
        "model_type": model_type,
        **{hf_name: getattr(encoder, name) for name, hf_name in SETTINGS.items()},
        **_write_feed_forward(encoder),
        "is_encoder_decoder": isinstance(config, EncoderDecoderConfig),
        "initializer_factor": 1.0,
        "pad_token_id": None,
        "eos_token_id": None,
    }
    if isinstance(config, EncoderDecoderConfig):
        settings |= {
            "num_decoder_layers": config.decoder.n_layers,
            "tie_word_embeddings": config.decoder.tie_embeddings,
            "decoder_start_token_id": config.decoder_start_id,
        }
    return settings


def read_classifier(hf_config: HFConfig, level: str) -> JsonObject:
    """Unused: `CLASSES` has no classifier, because transformers' has a decoder."""
    return {}


def write_classifier(classes: ClassifierConfig) -> JsonObject:
    """See `read_classifier`."""
    return {}


def hf_tensors(config: EncoderDecoderConfig | EncoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor, layer by layer; the first layer's buckets serve all layers, unless each has its own (UMT5)."""
    if isinstance(config, EncoderConfig):
        yield tensor("trunk.token_embedding.weight", "shared.weight", config.vocab_size, config.d_model)
        yield from _stack(config, "trunk", "encoder")
        return
    yield tensor("trunk.encoder.token_embedding.weight", "shared.weight", config.vocab_size, config.d_model)
    yield from _stack(config.encoder, "trunk.encoder", "encoder")
    yield from _stack(config.decoder, "trunk.decoder", "decoder")
    if not config.tie_embeddings:
        yield tensor("lm_head.weight", "lm_head.weight", config.vocab_size, config.d_model)


def is_ignorable(hf_name: str) -> bool:
    """Buckets for cross-attention in old files, which nothing uses."""
    return hf_name.endswith("EncDecAttention.relative_attention_bias.weight")


def _stack(config: TransformerConfig, name: str, hf_name: str) -> Iterator[HFTensor]:
    d, each = config.d_model, config.bias_per_layer
    for layer in range(config.n_layers if each else 1):
        buckets = f"{hf_name}.block.{layer}.layer.0.SelfAttention.relative_attention_bias.weight"
        bias = f"{name}.blocks.{layer}.relative_bias" if each else f"{name}.positions"
        yield tensor(f"{bias}.bias.weight", buckets, config.n_relative_buckets, config.n_heads)
    for layer in range(config.n_layers):
        block, hf_block = f"{name}.blocks.{layer}", f"{hf_name}.block.{layer}.layer"
        sublayers = ["attention", "feed_forward"]
        if config.family == "decoder":
            sublayers.insert(1, "cross_attention")
        for number, sublayer in enumerate(sublayers):
            yield from norm(f"{block}.{sublayer}_norm", f"{hf_block}.{number}.layer_norm", d, bias=False)
            tensors = _feed_forward if sublayer == "feed_forward" else _attention
            yield from tensors(config, f"{block}.{sublayer}", f"{hf_block}.{number}")
    yield from norm(f"{name}.final_norm", f"{hf_name}.final_layer_norm", d, bias=False)


def _attention(config: TransformerConfig, name: str, hf_name: str) -> Iterator[HFTensor]:
    d, inner = config.d_model, config.n_heads * config.head_dim
    kind = "EncDecAttention" if name.endswith("cross_attention") else "SelfAttention"
    for part in ("query", "key", "value"):
        yield from linear(f"{name}.{part}", f"{hf_name}.{kind}.{part[0]}", inner, d, bias=False)
    yield from linear(f"{name}.output", f"{hf_name}.{kind}.o", d, inner, bias=False)


def _feed_forward(config: TransformerConfig, name: str, hf_name: str) -> Iterator[HFTensor]:
    dense, d, f = f"{hf_name}.DenseReluDense", config.d_model, config.d_ff
    parts = {"gate": "wi_0", "up": "wi_1"} if config.gated else {"up": "wi"}
    for part, hf_part in parts.items():
        yield from linear(f"{name}.{part}", f"{dense}.{hf_part}", f, d, bias=False)
    yield from linear(f"{name}.down", f"{dense}.wo", d, f, bias=False)


def _read_feed_forward(hf_config: HFConfig, where: str | Path, default: str) -> JsonObject:
    """`feed_forward_proj` is an activation, or "gated-" and one; "gated-gelu" means the tanh formula."""
    projection = hf_config.get("feed_forward_proj", default)
    gated = isinstance(projection, str) and projection.startswith("gated-")
    name = projection.removeprefix("gated-") if gated else projection
    name = "gelu_new" if projection == "gated-gelu" else name
    for key, value in (("dense_act_fn", name), ("is_gated_act", gated)):
        if hf_config.get(key, value) != value:
            raise UserError(
                f"{where}: `{key}` is {hf_config[key]!r}, but `feed_forward_proj` {projection!r} means {value!r}",
                "keep the one that the model was trained with",
            )
    activation = read_activation({"feed_forward_proj": name}, "feed_forward_proj", where, "relu")
    return {"gated": gated, "activation": activation}


def _write_feed_forward(config: TransformerConfig) -> JsonObject:
    name = write_activation(config.activation)
    if config.gated:
        name = {"gelu_new": "gelu", "gelu": "gelu_python"}.get(name, name)
    return {"feed_forward_proj": f"gated-{name}" if config.gated else name}
