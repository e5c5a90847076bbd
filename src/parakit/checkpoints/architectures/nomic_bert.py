"""NomicBERT (Nussbaum et al. 2024): BERT's order of norms and token types, with rotary positions and SwiGLU instead of learned
positions and GELU, and no biases in its blocks.

The publisher's own config.json has GPT-2's keys (`n_embd`); transformers' has BERT's. Both are read, transformers' is
written; the tensors have the same names in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parakit.checkpoints.architectures import bert_encoders
from parakit.checkpoints.architectures.bert_encoders import (
    REQUIRED_VALUES,
    first_token_classifier,
    is_unused,
    label_tensors,
    no_choice,
    read_encoder,
    write_encoder,
)
from parakit.checkpoints.architectures.layer_tensors import linear, norm, stacked, tensor
from parakit.checkpoints.hf_config import HFConfig, RequiredValues, check_lengths, parse_config, read_keys
from parakit.checkpoints.mapping import Head, HFTensor, TensorSlice
from parakit.checkpoints.rope_config import read_rope, write_rope
from parakit.common.files import JsonObject
from parakit.model.config import EncoderConfig

MODEL_TYPE = "nomic_bert"
CLASSES: Mapping[str, str] = {
    "masked_language_model": "NomicBertForMaskedLM",
    "classifier": "NomicBertForSequenceClassification",
    "token_classifier": "NomicBertForTokenClassification",
    "embedder": "NomicBertModel",
}
ALIASES: Mapping[str, str] = {"NomicBertForPreTraining": "masked_language_model"}
PREFIX = "nomic_bert."
RENAMED: Mapping[str, str] = bert_encoders.RENAMED
TIED_COPIES: Mapping[str, str] = {
    "cls.predictions.decoder.weight": "nomic_bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
SETTINGS = bert_encoders.SETTINGS
DEFAULTS = {
    **{"layer_norm_eps": 1e-12, "type_vocab_size": 2, "max_position_embeddings": 2048},
    **{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
}
SHAPE = {
    **{"positions": "rotary", "gated": True, "transform_bias": True},
    **{"attention_bias": False, "attention_output_bias": False, "feed_forward_bias": False},
}
ROPE_KEYS = ("rope_parameters", "rope_theta", "rope_scaling", "head_dim")
# key of the publisher's config.json -> key of transformers'
_PUBLISHED = {
    **{"n_embd": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads"},
    **{"n_inner": "intermediate_size", "n_positions": "max_position_embeddings"},
    **{"layer_norm_epsilon": "layer_norm_eps", "resid_pdrop": "hidden_dropout_prob"},
    **{"attn_pdrop": "attention_probs_dropout_prob", "rotary_emb_base": "rope_theta"},
}
_PUBLISHED_VALUES: RequiredValues = {
    "activation_function": (("swiglu",), "another feed-forward layer"),
    "rotary_emb_fraction": ((1.0, None), "rotary positions on a part of the features"),
    "rotary_emb_interleaved": ((False, None), "features rotated in other pairs"),
    "rotary_emb_scale_base": ((None,), "rotary positions with a decay"),
    "rotary_scaling_factor": ((None,), "scaled rotary positions"),
    "qkv_proj_bias": ((False,), "biases of the attention"),
    "mlp_fc1_bias": ((False,), "biases of the feed-forward layer"),
    "mlp_fc2_bias": ((False,), "biases of the feed-forward layer"),
    "prenorm": ((False,), "norms before the sublayers"),
    "parallel_block": ((False,), "parallel sublayers"),
    "causal": ((False,), "a decoder"),
    "use_rms_norm": ((False, None), "another norm"),
    "scale_attn_weights": ((True,), "scores without a scale"),
    "scale_attn_by_inverse_layer_idx": ((False,), "scores scaled by layer"),
}
_PUBLISHED_IGNORED = (
    *("dense_seq_output", "embd_pdrop", "fused_bias_fc", "fused_dropout_add_ln", "last_layer_subset"),
    *("max_trained_positions", "pad_vocab_size_multiple", "reorder_and_upcast_attn", "rotary_emb_scale_base"),
    *("summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type"),
    *("summary_use_proj", "use_flash_attn", "use_xentropy"),
)


def read_settings(hf_config: HFConfig, where: str | Path) -> EncoderConfig:
    """The publisher's keys, where `n_embd` is one, are checked and translated first."""
    if "n_embd" in hf_config:
        hf_config = _translate(hf_config, where)
    settings = read_encoder(
        hf_config,
        where,
        MODEL_TYPE,
        defaults=DEFAULTS,
        required={"tie_word_embeddings": REQUIRED_VALUES["tie_word_embeddings"]},
        ignored=("classifier_dropout",),
        handled=ROPE_KEYS,
        default_activation="silu",
    )
    head_dim = hf_config.get("head_dim")
    settings |= SHAPE | ({} if head_dim is None else {"head_dim": head_dim})
    settings |= read_rope(hf_config, where, 1000.0)
    config = parse_config(EncoderConfig, settings, SETTINGS, where)
    check_lengths(config, where)
    return config


def write_settings(config: EncoderConfig) -> JsonObject:
    """The settings as transformers' keys; its padding id is a number always."""
    written = write_encoder(config, MODEL_TYPE) | {"head_dim": config.head_dim, **write_rope(config)}
    return {key: value for key, value in written.items() if key != "pad_token_id"}


read_classifier, write_classifier = first_token_classifier("tanh"), no_choice


def hf_tensors(config: EncoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor, layer by layer."""
    prefix, d, vocab = "" if head.kind == "embedder" else PREFIX, config.d_model, config.vocab_size
    yield tensor("trunk.token_embedding.weight", f"{prefix}embeddings.word_embeddings.weight", vocab, d)
    if config.n_token_types:
        types = f"{prefix}embeddings.token_type_embeddings.weight"
        yield tensor("trunk.type_embedding.weight", types, config.n_token_types, d)
    yield from norm("trunk.embedding_norm", f"{prefix}emb_ln", d)
    for layer in range(config.n_layers):
        yield from _block(config, f"trunk.blocks.{layer}", f"{prefix}encoder.layers.{layer}")
    if head.kind == "masked_language_model":
        yield from linear("transform.dense", "cls.predictions.transform.dense", d, d)
        yield from norm("transform.norm", "cls.predictions.transform.layer_norm", d)
        yield HFTensor("cls.predictions.bias", (vocab,), (TensorSlice("lm_head.bias"),))
    elif head.classes is not None:
        yield from label_tensors(config, head.classes, f"{PREFIX}pooler.dense")


def is_ignorable(hf_name: str) -> bool:
    """Position ids, tables of rotary angles, and the pooler where no head uses it."""
    return is_unused(hf_name) or hf_name.endswith("inv_freq")


def _block(config: EncoderConfig, name: str, hf_name: str) -> Iterator[HFTensor]:
    d, f, inner = config.d_model, config.d_ff, config.n_heads * config.head_dim
    parts = [f"{name}.attention.{part}" for part in ("query", "key", "value")]
    yield from stacked(parts, f"{hf_name}.attn.Wqkv", 3 * inner, d, bias=False)
    yield from linear(f"{name}.attention.output", f"{hf_name}.attn.out_proj", d, inner, bias=False)
    yield from norm(f"{name}.attention_norm", f"{hf_name}.norm1", d)
    yield from linear(f"{name}.feed_forward.up", f"{hf_name}.mlp.fc11", f, d, bias=False)
    yield from linear(f"{name}.feed_forward.gate", f"{hf_name}.mlp.fc12", f, d, bias=False)
    yield from linear(f"{name}.feed_forward.down", f"{hf_name}.mlp.fc2", d, f, bias=False)
    yield from norm(f"{name}.feed_forward_norm", f"{hf_name}.norm2", d)


def _translate(hf_config: HFConfig, where: str | Path) -> dict[str, Any]:
    """transformers' keys for the publisher's."""
    names = {key: key for key in _PUBLISHED}
    values = read_keys(
        hf_config,
        where,
        model_type=MODEL_TYPE,
        settings=names,
        required=_PUBLISHED_VALUES,
        ignored=_PUBLISHED_IGNORED,
        handled=("type_vocab_size", "vocab_size", "tie_word_embeddings"),
        defaults={
            "layer_norm_epsilon": 1e-12,
            "resid_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "rotary_emb_base": 1000.0,
        },
    )
    kept = ("model_type", "vocab_size", "type_vocab_size", "tie_word_embeddings")
    translated = {_PUBLISHED[key]: value for key, value in values.items()}
    return translated | {key: hf_config[key] for key in kept if key in hf_config}
