"""Our decoder in the words of Qwen3ForCausalLM, both ways: settings and tensor names. Torch-free.

What a foreign `config.json` says is either translated, or must have the one value that we compute, or is
listed here as without effect on the logits. Anything else is refused by name: a key that we do not know may
change what the model computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parakit.common.errors import UserError
from parakit.common.settings import nearest
from parakit.model.config import DecoderConfig

MODEL_TYPE, ARCHITECTURE = "qwen3", "Qwen3ForCausalLM"
MAX_SEQ_LEN = 2**22

# ours -> theirs
SETTINGS = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "d_ff": "intermediate_size",
    "max_seq_len": "max_position_embeddings",
    "norm_eps": "rms_norm_eps",
    "tie_embeddings": "tie_word_embeddings",
}
# What transformers takes where a key is absent. Sizes have no default here: a folder that does not say them
# is not whole.
DEFAULTS = {"head_dim": 128, "rms_norm_eps": 1e-6, "tie_word_embeddings": False}

# theirs -> the only values we compute, and what another would ask of us
FIXED: dict[str, tuple[tuple[Any, ...], str]] = {
    "model_type": ((MODEL_TYPE,), "another architecture"),
    "hidden_act": (("silu",), "another activation in the feed-forward"),
    "attention_bias": ((False, None), "biases in the attention"),
    "use_sliding_window": ((False, None), "sliding-window attention"),
    "is_encoder_decoder": ((False, None), "an encoder"),
    "add_cross_attention": ((False, None), "cross-attention"),
    "quantization_config": ((None,), "quantized weights"),
    "pruned_heads": (({}, None), "pruned heads"),
    "chunk_size_feed_forward": ((0, None), "a chunked feed-forward"),
    "partial_rotary_factor": ((1, None), "rotary positions on a part of the features"),
}
# No effect on the logits at inference. Dropout is among them: it acts in training only, where the recipe sets
# it.
HARMLESS = {
    *(
        "_name_or_path",
        "architectures",
        "attention_dropout",
        "bos_token_id",
        "dtype",
        "eos_token_id",
        "id2label",
    ),
    *(
        "initializer_range",
        "is_decoder",
        "label2id",
        "max_window_layers",
        "output_attentions",
        "pad_token_id",
    ),
    *(
        "output_hidden_states",
        "problem_type",
        "return_dict",
        "sep_token_id",
        "sliding_window",
        "tokenizer_class",
    ),
    *("torch_dtype", "transformers_version", "use_cache"),
}
ROPE = {"rope_theta", "rope_parameters", "rope_scaling"}


@dataclass(frozen=True, slots=True)
class NamedTensor:
    """One parameter: our name, theirs, and its shape."""

    ours: str
    theirs: str
    shape: tuple[int, ...]


def read_settings(foreign: Mapping[str, Any], where: str | Path) -> DecoderConfig:
    """A `config.json`, already parsed, as our settings. Raises `UserError` naming the key that we do not
    honour and why.
    """
    for key, (allowed, meaning) in FIXED.items():
        if key in foreign and not any(foreign[key] == value for value in allowed):
            raise UserError(
                f"{where}: `{key}` is {foreign[key]!r}: that asks for {meaning}, which Parakit's decoder "
                f"does not compute",
                f"it needs {allowed[0]!r}",
            )
    known = {*SETTINGS.values(), *FIXED, *HARMLESS, *ROPE, "layer_types"}
    for key in foreign:
        if key not in known:
            close = nearest(key, known)
            raise UserError(
                f"{where}: `{key}` is not a key that Parakit knows for {ARCHITECTURE}; it may change what "
                f"the model computes",
                f"remove it if it has no effect on the "
                f"model{f' (did its publisher mean `{close}`?)' if close else ''}",
            )
    settings = {ours: _value(foreign, theirs, where) for ours, theirs in SETTINGS.items()}
    settings["rope_theta"] = _rope_theta(foreign, where)
    config = DecoderConfig.parse(settings, where=str(where))
    if config.max_seq_len > MAX_SEQ_LEN:
        raise UserError(
            f"{where}: `max_position_embeddings` is {config.max_seq_len}; {MAX_SEQ_LEN} is the limit",
            "set it to the length the model was made for",
        )
    layer_types = foreign.get("layer_types")
    if layer_types is not None and layer_types != ["full_attention"] * config.n_layers:
        raise UserError(
            f"{where}: `layer_types` names layers that are not full attention, or not {config.n_layers}",
            "Parakit computes full attention only",
        )
    return config


def write_settings(config: DecoderConfig, dtype: str) -> dict[str, Any]:
    """Our settings as a `config.json`. The rope base is written under its old and its new key: engines of
    both ages read it.
    """
    return {
        "architectures": [ARCHITECTURE],
        "model_type": MODEL_TYPE,
        **{theirs: getattr(config, ours) for ours, theirs in SETTINGS.items()},
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "sliding_window": None,
        "max_window_layers": config.n_layers,
        "initializer_range": 0.02,
        "use_cache": True,
        "dtype": dtype,
        "torch_dtype": dtype,
    }


def named_tensors(config: DecoderConfig) -> Iterator[NamedTensor]:
    """Every parameter of a model of this shape, layer by layer; a tied output matrix is not a parameter of
    its own.
    """
    d, f = config.d_model, config.d_ff
    queries, keys = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    yield NamedTensor("decoder.token_embedding.weight", "model.embed_tokens.weight", (config.vocab_size, d))
    block: tuple[tuple[str, str, tuple[int, ...]], ...] = (
        ("attention_norm", "input_layernorm", (d,)),
        ("attention.query", "self_attn.q_proj", (queries, d)),
        ("attention.key", "self_attn.k_proj", (keys, d)),
        ("attention.value", "self_attn.v_proj", (keys, d)),
        ("attention.output", "self_attn.o_proj", (d, queries)),
        ("attention.query_norm", "self_attn.q_norm", (config.head_dim,)),
        ("attention.key_norm", "self_attn.k_norm", (config.head_dim,)),
        ("feed_forward_norm", "post_attention_layernorm", (d,)),
        ("feed_forward.gate", "mlp.gate_proj", (f, d)),
        ("feed_forward.up", "mlp.up_proj", (f, d)),
        ("feed_forward.down", "mlp.down_proj", (d, f)),
    )
    for layer in range(config.n_layers):
        for ours, theirs, shape in block:
            yield NamedTensor(
                f"decoder.blocks.{layer}.{ours}.weight", f"model.layers.{layer}.{theirs}.weight", shape
            )
    yield NamedTensor("decoder.final_norm.weight", "model.norm.weight", (d,))
    if not config.tie_embeddings:
        yield NamedTensor("lm_head.weight", "lm_head.weight", (config.vocab_size, d))


def is_ignorable(theirs: str) -> bool:
    """Tensors that old files carry and that follow from the settings."""
    return theirs.endswith("rotary_emb.inv_freq")


TIED_COPY = (
    "lm_head.weight",
    "model.embed_tokens.weight",
)  # some folders repeat the tied matrix: the first must equal the second


def _value(foreign: Mapping[str, Any], key: str, where: str | Path) -> Any:
    value = foreign.get(key, DEFAULTS.get(key))
    if value is None and key == "num_key_value_heads":
        value = foreign.get("num_attention_heads")
    if value is None:
        raise UserError(f"{where}: lacks `{key}`", "the model's config.json is not whole: fetch it again")
    return value


def _rope_theta(foreign: Mapping[str, Any], where: str | Path) -> float:
    """The rope base from its old key, its new one, or both where they agree; any scaling of the positions is
    refused.
    """
    found: list[Any] = [foreign["rope_theta"]] if foreign.get("rope_theta") is not None else []
    for key in ("rope_parameters", "rope_scaling"):
        group = foreign.get(key) or {}
        if not isinstance(group, Mapping):
            raise UserError(
                f"{where}: `{key}` is a {type(group).__name__}, not a mapping",
                "fetch the model's config.json again",
            )
        kinds = {group.get("rope_type"), group.get("type")} - {None}
        if (
            kinds - {"default"}
            or group.keys() - {"rope_theta", "rope_type", "type", "partial_rotary_factor"}
            or group.get("partial_rotary_factor", 1) != 1
        ):
            raise UserError(
                f"{where}: `{key}` is {dict(group)!r}: Parakit's decoder does not compute scaled rotary "
                f"positions",
                "it needs rope_type 'default'",
            )
        if group.get("rope_theta") is not None:
            found.append(group["rope_theta"])
    if any(value != found[0] for value in found):
        raise UserError(
            f"{where}: `rope_theta` stands there with different values: {found}",
            "keep the one that the model was trained with",
        )
    return found[0] if found else 10_000.0
