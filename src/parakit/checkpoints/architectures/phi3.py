"""Phi-3 and Phi-4 (Abdin et al. 2024): Llama with queries, keys and values in one matrix, and gate and up in another;
rotary positions on a part of each head (Phi-4-mini), and two sets of their factors for long contexts ("longrope").
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from parakit.checkpoints.architectures import rotary_decoders as shared
from parakit.checkpoints.architectures.layer_tensors import linear, stacked, tensor
from parakit.checkpoints.hf_config import HFConfig
from parakit.checkpoints.mapping import Head, HFTensor, TensorSlice
from parakit.checkpoints.rope_config import write_rotary_share
from parakit.common.files import JsonObject
from parakit.model.config import DecoderConfig

MODEL_TYPE = "phi3"
CLASSES = shared.classes("Phi3")
PREFIX, RENAMED, TIED_COPIES = shared.PREFIX, shared.RENAMED, shared.TIED_COPIES
is_ignorable = shared.is_ignorable
read_classifier, write_classifier = shared.read_classifier, shared.write_classifier
DEFAULTS = {"rms_norm_eps": 1e-5}
ORIGINAL = "original_max_position_embeddings"


def read_settings(hf_config: HFConfig, where: str | Path) -> DecoderConfig:
    """Settings; the context of pre-training is a key of its own."""
    settings = shared.read_shared(
        {"num_key_value_heads": None, ORIGINAL: 4096, **hf_config},
        where,
        MODEL_TYPE,
        ignored=("resid_pdrop", "embd_pdrop"),
        handled=("sliding_window", ORIGINAL),
        defaults=DEFAULTS,
        partial_rotary=1.0,
    )
    settings |= {"sliding_window": hf_config.get("sliding_window"), "query_key_norm": False}
    return shared.finish(settings, where)


def write_settings(config: DecoderConfig) -> JsonObject:
    """The settings as this architecture's keys."""
    scaling = config.rope_scaling
    original = None if scaling is None else scaling.original_max_seq_len
    written = {
        "model_type": MODEL_TYPE,
        **shared.write_shared(config),
        "partial_rotary_factor": write_rotary_share(config),
        ORIGINAL: original or config.max_seq_len,
        "sliding_window": config.sliding_window,
        **{"embd_pdrop": 0.0, "resid_pdrop": 0.0},
        "pad_token_id": None,  # transformers' default is 32000, beyond a small vocabulary
    }
    if config.head_dim * config.n_heads == config.d_model:
        del written["head_dim"]  # implied, and older engines do not know the key
    return written


def hf_tensors(config: DecoderConfig, head: Head) -> Iterator[HFTensor]:
    """Every tensor, layer by layer."""
    prefix = "" if head.kind == "embedder" else PREFIX
    d, f, queries = config.d_model, config.d_ff, config.n_heads * config.head_dim
    yield tensor("trunk.token_embedding.weight", f"{prefix}embed_tokens.weight", config.vocab_size, d)
    for layer in range(config.n_layers):
        name, hf_name = f"trunk.blocks.{layer}", f"{prefix}layers.{layer}"
        yield tensor(f"{name}.attention_norm.weight", f"{hf_name}.input_layernorm.weight", d)
        yield _query_key_value(config, f"{name}.attention", f"{hf_name}.self_attn.qkv_proj.weight")
        yield from linear(f"{name}.attention.output", f"{hf_name}.self_attn.o_proj", d, queries, bias=False)
        yield tensor(f"{name}.feed_forward_norm.weight", f"{hf_name}.post_attention_layernorm.weight", d)
        parts = [f"{name}.feed_forward.{part}" for part in ("gate", "up")]
        yield from stacked(parts, f"{hf_name}.mlp.gate_up_proj", 2 * f, d, bias=False)
        yield from linear(f"{name}.feed_forward.down", f"{hf_name}.mlp.down_proj", d, f, bias=False)
    yield tensor("trunk.final_norm.weight", f"{prefix}norm.weight", d)
    yield from shared.head_tensors(config, head)


def _query_key_value(config: DecoderConfig, name: str, hf_name: str) -> HFTensor:
    """One matrix: the rows of the queries, then those of keys and values, of which there are fewer."""
    first, slices = 0, []
    for part, n_heads in (
        ("query", config.n_heads),
        ("key", config.n_kv_heads),
        ("value", config.n_kv_heads),
    ):
        last = first + n_heads * config.head_dim
        slices.append(TensorSlice(f"{name}.{part}.weight", (first, last)))
        first = last
    return HFTensor(hf_name, (first, config.d_model), tuple(slices))
