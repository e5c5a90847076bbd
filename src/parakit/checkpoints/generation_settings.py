"""How a model's publisher generates with it: `generation_config.json`, or the generation keys of an older `config.json`.

`published_generation` reads them into one typed object under Parakit's names. Values that make no sense are refused with
the file and the key. Keys for which Parakit has no name are listed in `other`, so that nobody takes them for honoured.
Never imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from parakit.checkpoints.folder_safety import read_small_json
from parakit.checkpoints.hf_config import is_bookkeeping
from parakit.checkpoints.multimodal import language_model_config
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.settings import Config

GENERATION = "generation_config.json"
Count = Annotated[int, Field(strict=True, ge=0, le=2**31)]
TokenId = Annotated[int, Field(strict=True, ge=0, le=2**31)]
FiniteFloat = Annotated[float, Field(strict=True, allow_inf_nan=False)]
# our name -> key in the file
KEYS: Mapping[str, str] = {
    "do_sample": "do_sample",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "penalty_alpha": "penalty_alpha",
    "sequence_bias": "sequence_bias",
    "repetition_penalty": "repetition_penalty",
    "encoder_repetition_penalty": "encoder_repetition_penalty",
    "no_repeat_ngram_size": "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size": "encoder_no_repeat_ngram_size",
    "n_beams": "num_beams",
    "n_beam_groups": "num_beam_groups",
    "diversity_penalty": "diversity_penalty",
    "early_stopping": "early_stopping",
    "length_penalty": "length_penalty",
    "renormalize_logits": "renormalize_logits",
    "max_length": "max_length",
    "max_new_tokens": "max_new_tokens",
    "min_length": "min_length",
    "min_new_tokens": "min_new_tokens",
    "forced_bos_id": "forced_bos_token_id",
    "forced_eos_ids": "forced_eos_token_id",
    "suppress_ids": "suppress_tokens",
    "begin_suppress_ids": "begin_suppress_tokens",
    "bad_word_ids": "bad_words_ids",
    "stop_strings": "stop_strings",
    "eos_ids": "eos_token_id",
    "bos_id": "bos_token_id",
    "pad_id": "pad_token_id",
    "decoder_start_id": "decoder_start_token_id",
}
_TOKEN_IDS = ("eos_ids", "bos_id", "pad_id", "decoder_start_id")
# What transformers takes for "not set"; old config.json files repeat these values.
_NEUTRAL: Mapping[str, Any] = {
    **{"do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "min_p": None, "num_beams": 1},
    **{"repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "no_repeat_ngram_size": 0},
    **{"encoder_no_repeat_ngram_size": 0, "early_stopping": False, "length_penalty": 1.0, "max_length": 20},
    **{"min_length": 0, "renormalize_logits": False, "typical_p": 1.0, "epsilon_cutoff": 0.0},
    **{"eta_cutoff": 0.0, "diversity_penalty": 0.0, "num_beam_groups": 1, "num_return_sequences": 1},
    **{"penalty_alpha": None, "guidance_scale": 1.0, "token_healing": False, "constraints": None},
}
# Keys of generation in a config.json for which there is no name here.
_OTHER = (
    *("epsilon_cutoff", "eta_cutoff", "num_return_sequences", "exponential_decay_length_penalty"),
    *("guidance_scale", "forced_decoder_ids", "constraints", "force_words_ids", "max_time"),
)
GENERATION_KEYS = frozenset({*KEYS.values(), *_OTHER}) - {KEYS[name] for name in _TOKEN_IDS}
# No effect on the generated text.
_WITHOUT_EFFECT = frozenset(
    {
        *(
            "transformers_version",
            "chat",
            "use_cache",
            "cache_implementation",
            "cache_config",
            "max_cache_len",
        ),
        *("output_attentions", "output_hidden_states", "output_scores", "output_logits", "low_memory"),
        *("return_dict_in_generate", "return_legacy_cache", "remove_invalid_values", "compile_config"),
        *("disable_compile", "prefill_chunk_size", "num_assistant_tokens", "num_assistant_tokens_schedule"),
        *("assistant_confidence_threshold", "assistant_early_exit", "assistant_lookbehind", "is_assistant"),
        *("target_lookbehind", "assistant_ensemble_weight", "max_matching_ngram_size", "use_mtp"),
        *("prompt_lookup_num_tokens", "speculation_type", "trust_remote_code", "model_type"),
        *("sep_token_id", "cls_token_id", "mask_token_id", "unk_token_id"),
    }
)


class GenerationSettings(Config):
    """A publisher's settings; None (or empty) where they set nothing. Ids are token ids."""

    do_sample: bool | None = None
    temperature: Annotated[FiniteFloat, Field(ge=0, le=100)] | None = None
    top_k: Count | None = None
    top_p: Annotated[FiniteFloat, Field(ge=0, le=1)] | None = None
    min_p: Annotated[FiniteFloat, Field(ge=0, le=1)] | None = None
    typical_p: Annotated[FiniteFloat, Field(gt=0, le=1)] | None = None
    penalty_alpha: Annotated[FiniteFloat, Field(ge=0, le=1)] | None = None
    """Of contrastive search: the weight of the likeness to earlier tokens."""
    sequence_bias: tuple[tuple[Annotated[tuple[TokenId, ...], Field(min_length=1)], FiniteFloat], ...] = ()
    """Sequences of ids, and what is added to the score of the last id behind the others."""
    repetition_penalty: Annotated[FiniteFloat, Field(gt=0, le=100)] | None = None
    encoder_repetition_penalty: Annotated[FiniteFloat, Field(gt=0, le=100)] | None = None
    """Rewards tokens of the source: the inverse of `repetition_penalty`, over the encoder's inputs."""
    no_repeat_ngram_size: Count | None = None
    """No n-gram of this many tokens occurs twice in an output."""
    encoder_no_repeat_ngram_size: Count | None = None
    """No n-gram of this many tokens of the source occurs in its output."""
    n_beams: Annotated[Count, Field(ge=1, le=10_000)] | None = None
    n_beam_groups: Annotated[Count, Field(ge=1, le=10_000)] | None = None
    """Diverse beam search: the beams are split into so many groups."""
    diversity_penalty: Annotated[FiniteFloat, Field(ge=0, le=1000)] | None = None
    early_stopping: bool | Literal["never"] | None = None
    """Stop at as many finished beams as there are beams (True), by a heuristic (False), by an exact bound ("never")."""
    length_penalty: Annotated[FiniteFloat, Field(ge=-100, le=100)] | None = None
    """Scores of beams are divided by length ** length_penalty."""
    renormalize_logits: bool | None = None
    """Log-probabilities are normalized again after the filters."""
    max_length: Count | None = None
    """Prompt and completion of a decoder; the output of an encoder-decoder, its start token included."""
    max_new_tokens: Count | None = None
    min_length: Count | None = None
    """Counts as `max_length` does."""
    min_new_tokens: Count | None = None
    forced_bos_id: TokenId | None = None
    """The first token behind the start token of an encoder-decoder."""
    forced_eos_ids: tuple[TokenId, ...] = ()
    """The last token of an output that reaches its maximal length."""
    suppress_ids: tuple[TokenId, ...] = ()
    begin_suppress_ids: tuple[TokenId, ...] = ()
    """Suppressed at the first position only."""
    bad_word_ids: tuple[Annotated[tuple[TokenId, ...], Field(min_length=1)], ...] = ()
    """Sequences that no output contains."""
    stop_strings: tuple[Annotated[str, Field(min_length=1, max_length=1000)], ...] = ()
    eos_ids: tuple[TokenId, ...] = ()
    """Every one of them ends an output."""
    bos_id: TokenId | None = None
    pad_id: TokenId | None = None
    decoder_start_id: TokenId | None = None
    other: Mapping[str, Any] = Field(default_factory=dict)
    """Settings under the file's keys, for which Parakit has no name: they are not honoured."""

    def sampling(self) -> JsonObject:
        """What sampling without beams uses, under the names of `SamplingConfig`: temperature 0 where the publisher does
        not sample. Empty where nothing is set.
        """
        names = ("temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty")
        settings = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.do_sample is False:
            return {"temperature": 0.0} | {k: v for k, v in settings.items() if k == "repetition_penalty"}
        return ({"temperature": 1.0} if self.do_sample else {}) | settings


def published_generation(folder: str | Path) -> GenerationSettings:
    """The settings in the files of a model folder.

    generation_config.json where there is one; without it the generation keys of config.json that differ from
    transformers' defaults, as transformers reads them. Token ids that the first lacks are taken from the second. Raises
    `UserError` naming file, key and value.
    """
    folder = Path(folder)
    where = folder / "config.json"
    model = language_model_config(read_small_json(where), where) if where.is_file() else {}
    settings = parse_generation(generation_in_config(model), where)
    if not (folder / GENERATION).is_file():
        return settings
    own = parse_generation(read_small_json(folder / GENERATION), folder / GENERATION)
    ids = {name: getattr(settings, name) for name in _TOKEN_IDS}
    missing = {name: value for name, value in ids.items() if getattr(own, name) in (None, ())}
    return own.model_copy(update=missing)


def generation_in_config(hf_config: Mapping[str, Any]) -> JsonObject:
    """The generation keys of a parsed config.json whose values are not transformers' defaults, and its token ids."""
    ids = {KEYS[name] for name in _TOKEN_IDS}
    found = {
        key: value
        for key, value in hf_config.items()
        if value is not None and (key in ids or (key in GENERATION_KEYS and value != _NEUTRAL.get(key, ...)))
    }
    if hf_config.get("force_bos_token_to_be_generated") is True and "forced_bos_token_id" not in found:
        found["forced_bos_token_id"] = hf_config.get("bos_token_id")  # the first BART models
    return found


def parse_generation(values: Mapping[str, Any], where: str | Path) -> GenerationSettings:
    """The settings in a mapping under transformers' keys; `UserError` names `where`, the key and its value."""
    settings: JsonObject = {}
    for name, key in KEYS.items():
        value = values.get(key)
        if value is None or (name.endswith("_id") and value == -1):  # -1: none, in files of 2023
            continue
        many = name in ("eos_ids", "forced_eos_ids", "suppress_ids", "begin_suppress_ids", "stop_strings")
        settings[name] = [value] if many and not isinstance(value, list) else value
    known = {*KEYS.values(), *_WITHOUT_EFFECT}
    settings["other"] = {
        key: value
        for key, value in values.items()
        if key not in known
        and value is not None
        and value != _NEUTRAL.get(key, ...)
        and not is_bookkeeping(key)
    }
    try:
        return GenerationSettings.model_validate(settings)
    except ValidationError as error:
        fault = error.errors()[0]
        key = KEYS.get(str(fault["loc"][0]), str(fault["loc"][0]))
        raise UserError(
            f"{where}: `{key}` is {values.get(key)!r}: {fault['msg'].lower()}",
            "fetch the file again, or correct the value",
        ) from None


def published_sampling(folder: str | Path) -> JsonObject:
    """`GenerationSettings.sampling` of a model folder."""
    return published_generation(folder).sampling()
