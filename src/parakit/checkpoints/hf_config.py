"""Reading a stranger's `config.json`: what every architecture's file shares. Torch-free.

What a foreign config says is either translated, or must have the one value that we compute, or is listed as
without effect on the logits. Anything else is refused by name: a key that we do not know may change what the
model computes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from parakit.common.errors import UserError
from parakit.common.settings import Config, closest_match
from parakit.model.config import Activation, ModelConfig

AnyConfig = TypeVar("AnyConfig", bound=Config)

MAX_SEQ_LEN, MAX_LAYERS = 2**22, 10_000

# theirs -> the only values we compute, and what another would ask of us
Fixed = Mapping[str, tuple[tuple[Any, ...], str]]
REQUIRED_VALUES: Fixed = {
    "is_encoder_decoder": ((False, None), "an encoder and a decoder"),
    "add_cross_attention": ((False, None), "cross-attention"),
    "cross_attention_hidden_size": ((None,), "cross-attention"),
    "quantization_config": ((None,), "quantized weights"),
    "pruned_heads": (({}, None), "pruned heads"),
    "chunk_size_feed_forward": ((0, None), "a chunked feed-forward"),
    "partial_rotary_factor": ((1, None), "rotary positions on a part of the features"),
    "tie_encoder_decoder": ((False, None), "one set of weights for encoder and decoder"),
}
# No effect on the logits at inference. Dropout is among them: it acts in training only, where the recipe sets
# it. So are the settings of generation, which are no part of a model.
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
_FETCH = "the model's config.json is not whole: fetch it again"


def read_keys(
    foreign: Mapping[str, Any],
    where: str | Path,
    *,
    model_type: str,
    settings: Mapping[str, str],
    fixed: Fixed | None = None,
    harmless: Iterable[str] = (),
    handled: Iterable[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """`settings` (ours -> theirs) read from `foreign`, after every key in it was accounted for.

    `fixed` adds to `REQUIRED_VALUES` and may override it, `harmless` adds to `IGNORED_KEYS`, `handled` are keys that the caller
    reads itself. `defaults` (theirs -> value) is what transformers takes where a key is absent; a key without
    a default must be there. Raises `UserError` naming the file, the key and the value.
    """
    rules = {**REQUIRED_VALUES, "model_type": ((model_type,), "another architecture"), **(fixed or {})}
    for key, (allowed, meaning) in rules.items():
        if key in foreign and not any(foreign[key] == value for value in allowed):
            raise UserError(
                f"{where}: `{key}` is {foreign[key]!r}: that asks for {meaning}, which Parakit does not "
                f"compute for {model_type}",
                f"it needs {allowed[0]!r}",
            )
    known = {*settings.values(), *rules, *IGNORED_KEYS, *harmless, *handled}
    for key in foreign:
        if key not in known:
            close = closest_match(key, known)
            raise UserError(
                f"{where}: `{key}` is not a key that Parakit knows for {model_type}; it may change what the "
                f"model computes",
                f"remove it if it has no effect on the model"
                f"{f' (did its publisher mean `{close}`?)' if close else ''}",
            )
    found = {ours: value_of(foreign, theirs, where, defaults) for ours, theirs in settings.items()}
    n_layers = found.get("n_layers", 0)
    if type(n_layers) is int and n_layers > MAX_LAYERS:  # before lists of that length are made
        raise UserError(
            f"{where}: `{settings['n_layers']}` says {n_layers} layers; {MAX_LAYERS} is the limit",
            "fetch the model's config.json again",
        )
    return found


def value_of(
    foreign: Mapping[str, Any], key: str, where: str | Path, defaults: Mapping[str, Any] | None = None
) -> Any:
    """One key's value, or its default; a key that has neither is an error that names it."""
    defaults = defaults or {}
    value = foreign.get(key, defaults.get(key))
    if value is None and defaults.get(key, ...) is not None:
        raise UserError(f"{where}: lacks `{key}`", _FETCH)
    return value


def parsed(
    config_class: type[AnyConfig], settings: Mapping[str, Any], names: Mapping[str, str], where: str | Path
) -> AnyConfig:
    """`settings` as a config; what is wrong with them is said in the file's words too, `names` being ours -> theirs."""
    try:
        return config_class.parse(settings, where=str(where))
    except UserError as error:
        words = set(re.findall(r"\w+", error.message.replace(str(where), "")))
        meant = [
            f"{ours} is `{theirs}`" for ours, theirs in names.items() if ours in words and ours != theirs
        ]
        hint = [error.hint] if error.hint else []
        told = [f"in this file {', '.join(meant)}"] if meant else ["fetch the model's config.json again"]
        raise UserError(error.message, "; ".join(hint + told)) from None


def read_activation(foreign: Mapping[str, Any], key: str, where: str | Path, default: str) -> Activation:
    """The activation that `foreign[key]` names."""
    name = foreign.get(key, default)
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise UserError(
            f"{where}: `{key}` is {name!r}, an activation that Parakit does not compute",
            f"known: {', '.join(ACTIVATIONS)}",
        )
    return ACTIVATIONS[name]


def write_activation(activation: Activation) -> str:
    """The name that transformers has for one of our activations."""
    names = {"gelu_tanh": "gelu_new", "squared_relu": "relu2"}
    return names.get(activation, activation)


def read_head_dim(foreign: Mapping[str, Any], where: str | Path, width: str, heads: str) -> int:
    """d_model // n_heads, from the keys `width` and `heads`, for architectures that do not say it."""
    d_model, n_heads = value_of(foreign, width, where), value_of(foreign, heads, where)
    for key, value in ((width, d_model), (heads, n_heads)):
        if type(value) is not int or value < 1:
            raise UserError(f"{where}: `{key}` is {value!r}, not a count", _FETCH)
    if d_model % n_heads:
        raise UserError(
            f"{where}: `{width}` = {d_model} is not a multiple of `{heads}` = {n_heads}",
            "the width is shared out among the heads: one of the two is wrong",
        )
    return int(d_model // n_heads)


def check_lengths(config: ModelConfig, where: str | Path, key: str = "max_position_embeddings") -> None:
    """Refuse a length whose tables of positions alone would fill a machine."""
    if config.max_seq_len > MAX_SEQ_LEN:
        raise UserError(
            f"{where}: `{key}` is {config.max_seq_len}; {MAX_SEQ_LEN} is the limit",
            "set it to the length the model was made for",
        )
