"""BART (Lewis et al. 2020): the 2017 Transformer with learned positions, GELU and a norm on the embedding.

Its positions begin at row 2 of their tables. The output matrix is the shared embedding; the bias of the logits
is stored as a buffer (`final_logits_bias`) of shape (1, vocabulary). The layers of Marian, mBART, Pegasus and M2M100 have
the same names.
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
    read_head_dim,
    read_keys,
    write_activation,
)
from parakit.checkpoints.mapping import Head, HFTensor, TensorSlice
from parakit.common.files import JsonObject
from parakit.model.config import ClassifierConfig, DecoderConfig, EncoderConfig, EncoderDecoderConfig
from parakit.model.transformer_config import TransformerConfig

MODEL_TYPE = "bart"
CLASSES: Mapping[str, str] = {"sequence_to_sequence": "BartForConditionalGeneration"}
ALIASES: Mapping[str, str] = {"BartModel": "sequence_to_sequence"}
PREFIX = "model."
RENAMED: Mapping[str, str] = {}
TIED_COPIES: Mapping[str, str] = {
    "model.encoder.embed_tokens.weight": "model.shared.weight",
    "model.decoder.embed_tokens.weight": "model.shared.weight",
    "lm_head.weight": "model.shared.weight",
}
LOGITS_BIAS = "final_logits_bias"
# settings of both sides, then of each: name -> key in config.json
SETTINGS = {
    "vocab_size": "vocab_size",
    "d_model": "d_model",
    "max_seq_len": "max_position_embeddings",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "feed_forward_dropout": "activation_dropout",
}
SIDE = {"n_layers": "layers", "n_heads": "attention_heads", "d_ff": "ffn_dim"}
DEFAULTS = {"dropout": 0.1, "attention_dropout": 0.0, "activation_dropout": 0.0}
PAIR_FIXED: RequiredValues = {
    "is_encoder_decoder": ((True, None), "one side alone"),
    "is_decoder": ((False, None), "the decoder alone"),
    "tie_word_embeddings": ((True, None), "an output matrix and embeddings of their own"),
    "normalize_before": ((False, None), "norms before the layers"),
    "scale_embedding": ((False, True, None), "another scale of the embedding"),
    "add_final_layer_norm": ((False, None), "a norm behind the last layer"),
}
REQUIRED_VALUES: RequiredValues = {
    "normalize_embedding": ((True, None), "no norm on the embedding"),
    "static_position_embeddings": ((False, None), "sinusoidal positions"),
    "extra_pos_embeddings": ((2, None), "another first row of the positions"),
}
# of training and generation, and keys that transformers does not read
IGNORED_KEYS = (
    *("add_bias_logits", "classif_dropout", "classifier_dropout", "encoder_layerdrop"),
    *("decoder_layerdrop", "force_bos_token_to_be_generated", "init_std"),
    *("replacing_rate", "student_encoder_layers", "student_decoder_layers", "save_step"),
)
BIASES = {"attention_bias": True, "attention_output_bias": True, "feed_forward_bias": True, "norm_bias": True}
SHAPE = {"positions": "learned", "position_offset": 2, "embedding_norm": True}
PRE_NORM = {"post_norm": False, "final_norm": True, "first_attention_norm": True}
PRE_NORM_REQUIRED: RequiredValues = {
    "normalize_before": ((True, None), "norms behind the layers"),
    "add_final_layer_norm": ((True, None), "no norm behind the last layer"),
}
PAIR_SHAPE = {
    **{"norm": "layer", "norm_eps": 1e-5, "post_norm": True, "final_norm": False, "query_key_norm": False},
    **{"gated": False, "head_transform": False, **BIASES},
}


def read_settings(hf_config: HFConfig, where: str | Path) -> EncoderDecoderConfig:
    """Whether the logits have a bias depends on the stored tensors: see `finalize`."""
    return read_pair(
        hf_config,
        where,
        model_type=MODEL_TYPE,
        shape=SHAPE,
        required=REQUIRED_VALUES,
        defaults=DEFAULTS | {"decoder_start_token_id": 2},
    )


def finalize(config: EncoderDecoderConfig, stored: Collection[str]) -> EncoderDecoderConfig:
    """`config`, with a bias of the logits where one is stored."""
    bias = LOGITS_BIAS in stored
    return config.replace(decoder=config.decoder.replace(lm_head_bias=bias))


def write_settings(config: EncoderDecoderConfig) -> JsonObject:
    """The settings as BART's keys."""
    return write_pair(config, MODEL_TYPE) | {"normalize_embedding": True}


def read_classifier(hf_config: HFConfig, level: str) -> JsonObject:
    """Unused: `CLASSES` has no classifier, because transformers' has a decoder."""
    return {}


def write_classifier(classes: ClassifierConfig) -> JsonObject:
    """See `read_classifier`."""
    return {}


def hf_tensors(config: EncoderDecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor, layer by layer."""
    yield from learned_positions(config)
    yield from pair_tensors(config)


def learned_positions(config: EncoderDecoderConfig) -> Iterator[HFTensor]:
    """The positions of both sides, and the norms of their embeddings."""
    for side in (config.encoder, config.decoder):
        name, hf_name = f"trunk.{side.family}", f"{PREFIX}{side.family}"
        rows = side.max_seq_len + side.position_offset
        yield tensor(f"{name}.positions.weight", f"{hf_name}.embed_positions.weight", rows, side.d_model)
        yield from norm(f"{name}.embedding_norm", f"{hf_name}.layernorm_embedding", side.d_model)


def is_ignorable(hf_name: str) -> bool:
    """fairseq's version numbers."""
    return hf_name.endswith(("encoder.version", "decoder.version"))


def read_pair(
    hf_config: HFConfig,
    where: str | Path,
    *,
    model_type: str,
    shape: Mapping[str, Any],
    required: RequiredValues,
    defaults: Mapping[str, Any],
) -> EncoderDecoderConfig:
    """Both sides, which may differ in layers, heads and feed-forward width; `shape` and `required` are the settings in
    which BART, Marian, mBART, Pegasus and M2M100 differ.
    """
    keys = {
        f"{side}_{name}": f"{side}_{hf_name}"
        for side in ("encoder", "decoder")
        for name, hf_name in SIDE.items()
    }
    n_layers = ((hf_config.get("encoder_layers"), None), "another number of layers than `encoder_layers`")
    settings = read_keys(
        hf_config,
        where,
        model_type=model_type,
        settings={**SETTINGS, **keys, "decoder_start_id": "decoder_start_token_id"},
        required={**PAIR_FIXED, "num_hidden_layers": n_layers, **required},
        ignored=IGNORED_KEYS,
        handled=("activation_function",),
        defaults=defaults,
    )
    common = {name: settings[name] for name in SETTINGS} | PAIR_SHAPE | dict(shape)
    common["activation"] = read_activation(hf_config, "activation_function", where, "gelu")
    sides = {}
    for side in ("encoder", "decoder"):
        head_dim = read_head_dim(hf_config, where, "d_model", f"{side}_attention_heads")
        own = {name: settings[f"{side}_{name}"] for name in SIDE}
        sides[side] = common | own | {"head_dim": head_dim, "n_kv_heads": own["n_heads"]}
        sides[side]["embedding_scale"] = common["d_model"] ** 0.5 if hf_config.get("scale_embedding") else 1.0
    names = {side: SETTINGS | {name: keys[f"{side}_{name}"] for name in SIDE} for side in sides}
    encoder = parse_config(EncoderConfig, sides["encoder"] | {"lm_head_bias": False}, names["encoder"], where)
    decoder = parse_config(DecoderConfig, sides["decoder"] | {"lm_head_bias": True}, names["decoder"], where)
    check_lengths(encoder, where)
    return EncoderDecoderConfig.parse(
        {
            "encoder": encoder.model_dump(),
            "decoder": decoder.model_dump(),
            "decoder_start_id": settings["decoder_start_id"],
        },
        where=str(where),
    )


def write_pair(config: EncoderDecoderConfig, model_type: str) -> JsonObject:
    """The keys that BART, Marian, mBART, Pegasus and M2M100 share."""
    encoder, decoder = config.encoder, config.decoder
    dropout = decoder.dropout if decoder.attention_dropout is None else decoder.attention_dropout
    return {
        "model_type": model_type,
        **{hf_name: getattr(decoder, name) for name, hf_name in SETTINGS.items()},
        **{f"encoder_{hf_name}": getattr(encoder, name) for name, hf_name in SIDE.items()},
        **{f"decoder_{hf_name}": getattr(decoder, name) for name, hf_name in SIDE.items()},
        "attention_dropout": dropout,
        "activation_function": write_activation(decoder.activation),
        "scale_embedding": decoder.embedding_scale != 1.0,
        "normalize_before": not decoder.post_norm,
        "add_final_layer_norm": decoder.final_norm,
        "tie_word_embeddings": True,
        "is_encoder_decoder": True,
        "init_std": 0.02,
        "decoder_start_token_id": config.decoder_start_id,
        **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "forced_eos_token_id")),
    }


def pair_tensors(config: EncoderDecoderConfig) -> Iterator[HFTensor]:
    """The shared embedding, the blocks of both sides with their last norms, and the bias of the logits."""
    vocab, d = config.vocab_size, config.d_model
    yield tensor("trunk.encoder.token_embedding.weight", f"{PREFIX}shared.weight", vocab, d)
    for side in (config.encoder, config.decoder):
        for layer in range(side.n_layers):
            name, hf_name = f"trunk.{side.family}.blocks.{layer}", f"{PREFIX}{side.family}.layers.{layer}"
            yield from _block(side, name, hf_name)
        if side.final_norm:
            yield from norm(f"trunk.{side.family}.final_norm", f"{PREFIX}{side.family}.layer_norm", d)
    if config.decoder.lm_head_bias:
        yield HFTensor(LOGITS_BIAS, (1, vocab), (TensorSlice("lm_head.bias"),))


def _block(config: TransformerConfig, name: str, hf_name: str) -> Iterator[HFTensor]:
    d, f = config.d_model, config.d_ff
    sublayers = {"attention": "self_attn"}
    if config.family == "decoder":
        sublayers["cross_attention"] = "encoder_attn"
    for sublayer, hf_sublayer in sublayers.items():
        for part, letter in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "out")):
            yield from linear(f"{name}.{sublayer}.{part}", f"{hf_name}.{hf_sublayer}.{letter}_proj", d, d)
        yield from norm(f"{name}.{sublayer}_norm", f"{hf_name}.{hf_sublayer}_layer_norm", d)
    yield from linear(f"{name}.feed_forward.up", f"{hf_name}.fc1", f, d)
    yield from linear(f"{name}.feed_forward.down", f"{hf_name}.fc2", d, f)
    yield from norm(f"{name}.feed_forward_norm", f"{hf_name}.final_layer_norm", d)
