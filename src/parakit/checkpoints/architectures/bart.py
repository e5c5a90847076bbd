"""BART (Lewis et al. 2020): the 2017 Transformer with learned positions, GELU and a norm on the embedding.

Its positions begin at row 2 of their tables. The output matrix is the shared embedding; what is added to the logits is stored
as a buffer (`final_logits_bias`), in shape (1, vocabulary). Marian's layers have the same names.
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
    read_head_dim,
    read_keys,
    write_activation,
)
from parakit.checkpoints.mapping import Head, NamedTensor, Piece
from parakit.model.config import (
    ClassifierConfig,
    DecoderConfig,
    EncoderConfig,
    EncoderDecoderConfig,
    TransformerConfig,
)

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
# ours -> theirs, of both sides and of each
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
PAIR_FIXED: Fixed = {
    "is_encoder_decoder": ((True, None), "one side alone"),
    "is_decoder": ((False, None), "the decoder alone"),
    "tie_word_embeddings": ((True, None), "an output matrix and embeddings of their own"),
    "normalize_before": ((False, None), "norms before the layers"),
    "scale_embedding": ((False, True, None), "another scale of the embedding"),
    "add_final_layer_norm": ((False, None), "a norm behind the last layer"),
}
REQUIRED_VALUES: Fixed = {
    "normalize_embedding": ((True, None), "no norm on the embedding"),
    "static_position_embeddings": ((False, None), "sinusoidal positions"),
    "extra_pos_embeddings": ((2, None), "another first row of the positions"),
}
# of training and generation, and leftovers that transformers does not look at
IGNORED_KEYS = (
    *("add_bias_logits", "classif_dropout", "classifier_dropout", "encoder_layerdrop"),
    *("decoder_layerdrop", "force_bos_token_to_be_generated", "init_std"),
)
BIASES = {"attention_bias": True, "attention_output_bias": True, "feed_forward_bias": True, "norm_bias": True}
SHAPE = {"positions": "learned", "position_offset": 2, "embedding_norm": True}
PAIR_SHAPE = {
    **{"norm": "layer", "norm_eps": 1e-5, "post_norm": True, "final_norm": False, "query_key_norm": False},
    **{"gated": False, "head_transform": False, **BIASES},
}


def read_settings(foreign: Mapping[str, Any], where: str | Path) -> EncoderDecoderConfig:
    """Whether anything is added to the logits, only the tensors tell: see `settled`."""
    return read_pair(
        foreign,
        where,
        model_type=MODEL_TYPE,
        shape=SHAPE,
        fixed=REQUIRED_VALUES,
        defaults=DEFAULTS | {"decoder_start_token_id": 2},
    )


def settled(config: EncoderDecoderConfig, stored: Collection[str]) -> EncoderDecoderConfig:
    """`config`, with a bias on the logits where one is stored."""
    bias = LOGITS_BIAS in stored
    return config.replace(decoder=config.decoder.replace(lm_head_bias=bias))


def write_settings(config: EncoderDecoderConfig) -> dict[str, Any]:
    """Our settings in BART's words."""
    return write_pair(config, MODEL_TYPE) | {"normalize_embedding": True}


def read_classifier(foreign: Mapping[str, Any], level: str) -> dict[str, Any]:
    """There is no classifier among `CLASSES`: theirs has a decoder."""
    return {}


def write_classifier(classes: ClassifierConfig) -> dict[str, Any]:
    """See `read_classifier`."""
    return {}


def named_tensors(config: EncoderDecoderConfig, head: Head) -> Iterator[NamedTensor]:
    """Every tensor, layer by layer."""
    for side in (config.encoder, config.decoder):
        ours, theirs = f"trunk.{side.family}", f"{PREFIX}{side.family}"
        rows = side.max_seq_len + side.position_offset
        yield table(f"{ours}.positions.weight", f"{theirs}.embed_positions.weight", rows, side.d_model)
        yield from norm(f"{ours}.embedding_norm", f"{theirs}.layernorm_embedding", side.d_model)
    yield from pair_tensors(config)


def is_ignorable(theirs: str) -> bool:
    """The version that fairseq's files carry."""
    return theirs.endswith(("encoder.version", "decoder.version"))


def read_pair(
    foreign: Mapping[str, Any],
    where: str | Path,
    *,
    model_type: str,
    shape: Mapping[str, Any],
    fixed: Fixed,
    defaults: Mapping[str, Any],
) -> EncoderDecoderConfig:
    """Both sides, which may differ in layers, heads and feed-forward width; `shape` and `fixed` are what BART
    and Marian do not share.
    """
    keys = {
        f"{side}_{ours}": f"{side}_{theirs}"
        for side in ("encoder", "decoder")
        for ours, theirs in SIDE.items()
    }
    another = ((foreign.get("encoder_layers"), None), "another number of layers than `encoder_layers` does")
    settings = read_keys(
        foreign,
        where,
        model_type=model_type,
        settings={**SETTINGS, **keys, "decoder_start_id": "decoder_start_token_id"},
        fixed={**PAIR_FIXED, "num_hidden_layers": another, **fixed},
        harmless=IGNORED_KEYS,
        handled=("activation_function",),
        defaults=defaults,
    )
    common = {name: settings[name] for name in SETTINGS} | PAIR_SHAPE | dict(shape)
    common["activation"] = read_activation(foreign, "activation_function", where, "gelu")
    sides = {}
    for side in ("encoder", "decoder"):
        head_dim = read_head_dim(foreign, where, "d_model", f"{side}_attention_heads")
        own = {ours: settings[f"{side}_{ours}"] for ours in SIDE}
        sides[side] = common | own | {"head_dim": head_dim, "n_kv_heads": own["n_heads"]}
        sides[side]["embedding_scale"] = common["d_model"] ** 0.5 if foreign.get("scale_embedding") else 1.0
    names = {side: SETTINGS | {ours: keys[f"{side}_{ours}"] for ours in SIDE} for side in sides}
    encoder = parsed(EncoderConfig, sides["encoder"] | {"lm_head_bias": False}, names["encoder"], where)
    decoder = parsed(DecoderConfig, sides["decoder"] | {"lm_head_bias": True}, names["decoder"], where)
    check_lengths(encoder, where)
    return EncoderDecoderConfig.parse(
        {
            "encoder": encoder.model_dump(),
            "decoder": decoder.model_dump(),
            "decoder_start_id": settings["decoder_start_id"],
        },
        where=str(where),
    )


def write_pair(config: EncoderDecoderConfig, model_type: str) -> dict[str, Any]:
    """What BART's and Marian's settings have in common."""
    encoder, decoder = config.encoder, config.decoder
    dropout = decoder.dropout if decoder.attention_dropout is None else decoder.attention_dropout
    return {
        "model_type": model_type,
        **{theirs: getattr(decoder, ours) for ours, theirs in SETTINGS.items()},
        **{f"encoder_{theirs}": getattr(encoder, ours) for ours, theirs in SIDE.items()},
        **{f"decoder_{theirs}": getattr(decoder, ours) for ours, theirs in SIDE.items()},
        "attention_dropout": dropout,
        "activation_function": write_activation(decoder.activation),
        "scale_embedding": decoder.embedding_scale != 1.0,
        "normalize_before": False,
        "tie_word_embeddings": True,
        "is_encoder_decoder": True,
        "init_std": 0.02,
        "decoder_start_token_id": config.decoder_start_id,
        **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "forced_eos_token_id")),
    }


def pair_tensors(config: EncoderDecoderConfig) -> Iterator[NamedTensor]:
    """The shared embedding, the blocks of both sides, and what is added to the logits."""
    vocab, d = config.vocab_size, config.d_model
    yield table("trunk.encoder.token_embedding.weight", f"{PREFIX}shared.weight", vocab, d)
    for side in (config.encoder, config.decoder):
        for layer in range(side.n_layers):
            ours, theirs = f"trunk.{side.family}.blocks.{layer}", f"{PREFIX}{side.family}.layers.{layer}"
            yield from _block(side, ours, theirs)
    if config.decoder.lm_head_bias:
        yield NamedTensor(LOGITS_BIAS, (1, vocab), (Piece("lm_head.bias"),))


def _block(config: TransformerConfig, ours: str, theirs: str) -> Iterator[NamedTensor]:
    d, f = config.d_model, config.d_ff
    names = {"attention": "self_attn"}
    if config.family == "decoder":
        names["cross_attention"] = "encoder_attn"
    for name, foreign in names.items():
        for part, letter in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "out")):
            yield from linear(f"{ours}.{name}.{part}", f"{theirs}.{foreign}.{letter}_proj", d, d)
        yield from norm(f"{ours}.{name}_norm", f"{theirs}.{foreign}_layer_norm", d)
    yield from linear(f"{ours}.feed_forward.up", f"{theirs}.fc1", f, d)
    yield from linear(f"{ours}.feed_forward.down", f"{theirs}.fc2", d, f)
    yield from norm(f"{ours}.feed_forward_norm", f"{theirs}.final_layer_norm", d)
