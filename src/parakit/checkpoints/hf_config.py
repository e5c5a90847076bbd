"""Reading a Hugging Face `config.json`: what all architectures share. Torch-free.

A key is either translated, or must have the one value that Parakit supports, or is listed as without effect on the
logits. Any other key is an error that names it, because it may change what the model computes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
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
    "is_encoder_decoder": ((False, None), "an encoder and a decoder"),
    "add_cross_attention": ((False, None), "cross-attention"),
    "cross_attention_hidden_size": ((None,), "cross-attention"),
    "quantization_config": ((None,), "quantized weights"),
    "pruned_heads": (({}, None), "pruned heads"),
    "chunk_size_feed_forward": ((0, None), "a chunked feed-forward"),
    "partial_rotary_factor": ((1, None), "rotary positions on a part of the features"),
    "tie_encoder_decoder": ((False, None), "one set of weights for encoder and decoder"),
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
        *("exponential_decay_length_penalty",),
    }
)

ACTIVATIONS: dict[str, Activation] = {
    **{"silu": "silu", "swish": "silu", "relu": "relu", "relu2": "squared_relu"},
    **{"gelu": "gelu", "gelu_python": "gelu"},
    **{"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh"},
}
_FETCH = "the model's config.json is incomplete: fetch it again"


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
    caller reads itself. `defaults` (key -> value) is what transformers uses where a key is absent; a key without a
    default must be present. Raises `UserError` naming the file, the key and the value.
    """
    rules = {**REQUIRED_VALUES, "model_type": ((model_type,), "another architecture"), **(required or {})}
    for key, (allowed, meaning) in rules.items():
        if key in hf_config and not any(hf_config[key] == value for value in allowed):
            raise UserError(
                f"{where}: `{key}` is {hf_config[key]!r}, which means {meaning}; Parakit does not support that "
                f"for {model_type}",
                f"supported: {allowed[0]!r}",
            )
    known = {*settings.values(), *rules, *IGNORED_KEYS, *ignored, *handled}
    for key in hf_config:
        if key not in known:
            close = closest_match(key, known)
            raise UserError(
                f"{where}: `{key}` is not a key that Parakit knows for {model_type}; it may change what the "
                f"model computes",
                f"remove it if it has no effect on the model"
                f"{f' (did its publisher mean `{close}`?)' if close else ''}",
            )
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
