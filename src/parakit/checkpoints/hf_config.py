"""Reading a Hugging Face `config.json`: what all architectures share. Torch-free.

A key is either translated, or must have a value that Parakit supports, or is without effect on the logits: listed, null,
or bookkeeping. All other keys are an error that names them, because they may change what the model computes; a user who
knows better accepts them by name at the import.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.settings import Config, closest_match
from parakit.model.config import ModelConfig
from parakit.model.transformer_config import Activation

ConfigT = TypeVar("ConfigT", bound=Config)

MAX_SEQ_LEN, MAX_LAYERS = 2**22, 10_000

# key -> the supported values, and what any other value would require
HFConfig = Mapping[str, Any]  # a published config.json
RequiredValues = Mapping[str, tuple[tuple[Any, ...], str]]
REQUIRED_VALUES: RequiredValues = {
    "auto_map": ((None, {}), "code of the publisher's own"),
    "is_causal": ((True, None), "attention to later tokens"),
    "is_encoder_decoder": ((False, None), "an encoder and a decoder"),
    "add_cross_attention": ((False, None), "cross-attention"),
    "cross_attention_hidden_size": ((None,), "cross-attention"),
    "quantization_config": ((None,), "quantized weights"),
    "quantization": ((None,), "quantized weights"),  # MLX
    "pruned_heads": (({}, None), "pruned heads"),
    "chunk_size_feed_forward": ((0, None), "a chunked feed-forward"),
    "partial_rotary_factor": ((1, None), "rotary positions on a part of the features"),
    "tie_encoder_decoder": ((False, None), "one set of weights for encoder and decoder"),
    "sliding_window": ((None,), "local attention"),
    "use_sliding_window": ((False, None), "local attention"),
    "rope_interleaved": ((False, None), "rotary positions on neighbouring features"),
    "use_mrope": ((False, None), "rotary positions of several dimensions"),
    "attention_bias": ((False, None), "biases in the attention"),
    "qkv_bias": ((False, None), "biases in the attention"),
    "mlp_bias": ((False, None), "biases in the feed-forward"),
    "use_qk_norm": ((False, None), "norms of queries and keys"),
    "qk_layernorm": ((False, None), "norms of queries and keys"),
    "shared_expert_intermediate_size": ((0, None), "an expert that is always active"),
    "n_shared_experts": ((0, None), "an expert that is always active"),
    "parallel_attn": ((False, None), "attention and feed-forward side by side"),
    "use_parallel_residual": ((False, None), "attention and feed-forward side by side"),
    "logit_scale": ((1, None), "scaled logits"),
    "final_logit_softcapping": ((None,), "bounded logits"),
    "attn_logit_softcapping": ((None,), "bounded attention scores"),
}
# No effect on the logits at inference. Dropout acts in training only, where the recipe sets it; settings of generation
# are no part of a model.
IGNORED_KEYS = frozenset(
    {
        *("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"),
        *("tokenizer_class", "use_cache", "id2label", "label2id", "num_labels", "_num_labels"),
        *("problem_type", "finetuning_task", "task_specific_params", "bos_token_id", "eos_token_id"),
        *("pad_token_id", "sep_token_id", "cls_token_id", "mask_token_id", "unk_token_id"),
        *("decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id", "prefix"),
        *("attention_dropout", "initializer_range", "initializer_factor", "gradient_checkpointing"),
        *("output_attentions", "output_hidden_states", "output_past", "return_dict", "torchscript"),
        *("use_bfloat16", "tf_legacy_loss", "max_length", "min_length", "do_sample"),
        *("early_stopping", "num_beams", "num_beam_groups", "diversity_penalty", "temperature"),
        *("top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty"),
        *("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids"),
        *("num_return_sequences", "output_scores", "return_dict_in_generate"),
        *("remove_invalid_values", "suppress_tokens", "begin_suppress_tokens"),
        *("exponential_decay_length_penalty", "force_bos_token_to_be_generated", "max_new_tokens"),
        *("min_new_tokens", "min_p", "renormalize_logits", "epsilon_cutoff", "eta_cutoff", "penalty_alpha"),
        # of training
        *("neftune_noise_alpha", "use_reentrant_checkpointing", "router_jitter_noise"),
        *("output_router_logits", "router_aux_loss_coef"),
        # of other programs
        *("transformers.js_config", "sentence_transformers", "sbert_ce_default_activation_function"),
        *("is_llama_config", "max_sequence_length", "model_max_length", "dual_chunk_attention_config"),
        *("reorder_and_upcast_attn", "pretraining_tp"),
    }
)
_IGNORED_PREFIXES = ("unsloth_",)

ACTIVATIONS: dict[str, Activation] = {
    **{"silu": "silu", "swish": "silu", "relu": "relu", "relu2": "squared_relu"},
    **{"gelu": "gelu", "gelu_python": "gelu"},
    **{"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh"},
}
_FETCH = "the model's config.json is incomplete: fetch it again"


class UnknownKeys(UserError):
    """A config.json has keys that may change what the model computes: `keys`."""

    def __init__(self, where: str | Path, model_type: str, keys: Sequence[str], known: Iterable[str]) -> None:
        self.keys = tuple(keys)
        close = {key: closest_match(key, known) for key in keys} if len(keys) < 10 else {}
        meant = [f"did its publisher mean `{name}` by {key}?" for key, name in close.items() if name]
        many = len(keys) > 1
        super().__init__(
            f"{where}: {', '.join(f'`{key}`' for key in keys)} {'are not keys' if many else 'is not a key'} that "
            f"Parakit knows for {model_type}; {'they' if many else 'it'} may change what the model computes",
            f"without effect on the model? Then import it with --accept-config {' '.join(keys)}"
            f"{'; ' + ' '.join(meant) if meant else ''}",
        )


def is_bookkeeping(key: str) -> bool:
    """Whether a key describes the file and not the model: `_name_or_path`, `transformers_version`."""
    return key.startswith(("_", *_IGNORED_PREFIXES)) or key.endswith("_version")


def read_keys(
    hf_config: HFConfig,
    where: str | Path,
    *,
    model_type: str,
    settings: Mapping[str, str],
    required: RequiredValues | None = None,
    ignored: Iterable[str] = (),
    handled: Iterable[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> JsonObject:
    """The values of `settings` (name -> key in the file), after checking every key of `hf_config`.

    `required` extends and overrides `REQUIRED_VALUES`, `ignored` extends `IGNORED_KEYS`, `handled` are keys that the
    caller reads itself; `REQUIRED_VALUES` says nothing about keys in `settings`, `ignored` and `handled`. `defaults`
    (key -> value) is what transformers uses where a key is absent; a key without a default must be present. Raises
    `UserError` naming the file, every such key and its value, `UnknownKeys` naming every unknown one.
    """
    own = {*settings.values(), *ignored, *handled}
    rules = {key: rule for key, rule in REQUIRED_VALUES.items() if key not in own}
    rules |= {"model_type": ((model_type,), "another architecture"), **(required or {})}
    faults = [
        f"{where}: `{key}` is {hf_config[key]!r}, which means {meaning}; Parakit does not support that "
        f"for {model_type}"
        for key, (allowed, meaning) in rules.items()
        if key in hf_config and not any(hf_config[key] == value for value in allowed)
    ]
    if faults:
        wrong = [key for key in rules if f"`{key}`" in "".join(faults)]
        allowed = ", ".join(f"{key} {rules[key][0][0]!r}" for key in wrong)
        raise UserError("\n".join(faults), f"supported: {allowed}")
    known = {*own, *rules, *IGNORED_KEYS}
    unknown = [
        key
        for key, value in hf_config.items()
        if key not in known and value is not None and not is_bookkeeping(key)
    ]
    if unknown:
        raise UnknownKeys(where, model_type, unknown, known)
    values = {name: read_value(hf_config, key, where, defaults) for name, key in settings.items()}
    n_layers = values.get("n_layers", 0)
    if type(n_layers) is int and n_layers > MAX_LAYERS:  # before lists of that length are made
        raise UserError(
            f"{where}: `{settings['n_layers']}` is {n_layers}; {MAX_LAYERS} is the limit",
            "fetch the model's config.json again",
        )
    return values


def read_value(
    hf_config: HFConfig, key: str, where: str | Path, defaults: Mapping[str, Any] | None = None
) -> Any:
    """One key's value, or its default; a key that has neither is an error that names it."""
    defaults = defaults or {}
    value = hf_config.get(key, defaults.get(key))
    if value is None and defaults.get(key, ...) is not None:
        raise UserError(f"{where}: lacks `{key}`", _FETCH)
    return value


def parse_config(
    config_class: type[ConfigT], settings: Mapping[str, Any], names: Mapping[str, str], where: str | Path
) -> ConfigT:
    """`settings` as a config. Errors also name the file's keys; `names` maps a setting to its key."""
    try:
        return config_class.parse(settings, where=str(where))
    except UserError as error:
        words = set(re.findall(r"\w+", error.message.replace(str(where), "")))
        keys = [f"{name} is `{key}`" for name, key in names.items() if name in words and name != key]
        hints = [error.hint] if error.hint else []
        hints.append(f"in this file {', '.join(keys)}" if keys else "fetch the model's config.json again")
        raise UserError(error.message, "; ".join(hints)) from None


def read_activation(hf_config: HFConfig, key: str, where: str | Path, default: str) -> Activation:
    """The activation that `hf_config[key]` names."""
    name = hf_config.get(key, default)
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise UserError(
            f"{where}: `{key}` is {name!r}, an activation that Parakit does not support",
            f"known: {', '.join(ACTIVATIONS)}",
        )
    return ACTIVATIONS[name]


def write_activation(activation: Activation) -> str:
    """transformers' name of an activation."""
    names = {"gelu_tanh": "gelu_new", "squared_relu": "relu2"}
    return names.get(activation, activation)


def read_head_dim(hf_config: HFConfig, where: str | Path, width: str, heads: str) -> int:
    """d_model // n_heads, from the keys `width` and `heads`, for architectures whose files have no key for it."""
    d_model, n_heads = read_value(hf_config, width, where), read_value(hf_config, heads, where)
    for key, value in ((width, d_model), (heads, n_heads)):
        if type(value) is not int or value < 1:
            raise UserError(f"{where}: `{key}` is {value!r}, not a count", _FETCH)
    if d_model % n_heads:
        raise UserError(
            f"{where}: `{width}` = {d_model} is not a multiple of `{heads}` = {n_heads}",
            "every head has an equal share of the width: one of the two is wrong",
        )
    return int(d_model // n_heads)


def check_lengths(config: ModelConfig, where: str | Path, key: str = "max_position_embeddings") -> None:
    """Refuse a length whose position tables alone would not fit into memory."""
    if config.max_seq_len > MAX_SEQ_LEN:
        raise UserError(
            f"{where}: `{key}` is {config.max_seq_len}; {MAX_SEQ_LEN} is the limit",
            "set it to the length that the model was trained with",
        )
