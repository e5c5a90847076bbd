"""What a publisher's generation settings mean for a loaded model: its rules for tokens, its defaults of beam search, and
which of its settings Parakit does not follow.
"""

from __future__ import annotations

from parakit.checkpoints.generation_settings import (
    GENERATION,
    GenerationSettings,
    generation_in_config,
    parse_generation,
)
from parakit.checkpoints.publisher import publisher_of
from parakit.inference.generation.rules import GenerationRules
from parakit.model.heads import SequenceToSequence, TransformerModel
from parakit.tokens.tokenizer.languages import language_ids
from parakit.tokens.tokenizer.tokenizer import Tokenizer


def published_settings_of(model: TransformerModel) -> GenerationSettings:
    """What the publisher of a loaded model set; nothing for a new one."""
    publisher = publisher_of(model)
    if publisher is None:
        return GenerationSettings()
    values = generation_in_config(publisher.config)
    if publisher.generation:
        values = {k: v for k, v in values.items() if k.endswith("_token_id")} | publisher.generation
        forced = ("forced_bos_token_id", "forced_eos_token_id")
        values = {k: v for k, v in values.items() if k not in forced or k in publisher.generation}
    name = GENERATION if publisher.generation else "config.json"
    return parse_generation(values, publisher.folder / name)


def lacks_target(model: TransformerModel, tokenizer: Tokenizer) -> bool:
    """Whether nothing says into which of its languages a multilingual model translates."""
    if not isinstance(model, SequenceToSequence):
        return False
    forced = published_settings_of(model).forced_bos_id
    codes = set(language_ids(tokenizer).values())
    return bool(codes) and forced is None and model.config.decoder_start_id not in codes


def generation_rules(model: TransformerModel, tokenizer: Tokenizer) -> GenerationRules | None:
    """The rules for a model's tokens; None where there are none."""
    settings, pair = published_settings_of(model), isinstance(model, SequenceToSequence)
    ends = dict.fromkeys((tokenizer.eos_id, *settings.eos_ids))
    eos_ids = tuple(i for i in ends if i is not None)
    suppressed = set(settings.suppress_ids)
    if isinstance(model, SequenceToSequence):
        never = {tokenizer.pad_id, settings.pad_id, model.config.decoder_start_id}
        suppressed |= {i for i in never if i is not None} - {*eos_ids, settings.forced_bos_id}
    rules = GenerationRules(
        sequence_bias=settings.sequence_bias,
        encoder_repetition_penalty=settings.encoder_repetition_penalty or 1.0,
        repetition_penalty=settings.repetition_penalty or 1.0 if pair else 1.0,
        no_repeat_ngram_size=settings.no_repeat_ngram_size or 0,
        encoder_no_repeat_ngram_size=settings.encoder_no_repeat_ngram_size or 0,
        bad_word_ids=settings.bad_word_ids,
        min_length=settings.min_length or 0,
        min_new_tokens=settings.min_new_tokens or 0,
        forced_bos_id=settings.forced_bos_id,
        forced_eos_ids=settings.forced_eos_ids,
        suppress_ids=tuple(sorted(suppressed)),
        begin_suppress_ids=settings.begin_suppress_ids,
        renormalize=bool(settings.renormalize_logits),
        eos_ids=eos_ids,
    )
    return None if rules == GenerationRules() else rules


def beam_settings(settings: GenerationSettings) -> dict[str, int | float | str]:
    """An encoder-decoder's values for the fields of `BeamConfig`; empty where nothing is set."""
    longest = settings.max_new_tokens or (
        settings.max_length and settings.max_length - 1
    )  # the start token counts
    return _beams(settings) | ({"max_new_tokens": longest} if longest else {})


def search_settings(settings: GenerationSettings) -> dict[str, int | float | str]:
    """A decoder's values for the fields of `BeamConfig` or `ContrastiveConfig` where the publisher searches with these;
    empty where it samples or is greedy.
    """
    if settings.do_sample:
        return {}
    if (settings.n_beams or 1) > 1:
        return _beams(settings)
    if settings.penalty_alpha and (settings.top_k or 0) > 1:
        return {"penalty_alpha": settings.penalty_alpha, "top_k": settings.top_k or 0}
    return {}


def _beams(settings: GenerationSettings) -> dict[str, int | float | str]:
    stop_when = {None: None, False: "unlikely", True: "full", "never": "impossible"}[settings.early_stopping]
    values = {
        "n_beams": settings.n_beams,
        "length_penalty": settings.length_penalty,
        "stop_when": stop_when,
        "n_beam_groups": settings.n_beam_groups,
        "diversity_penalty": settings.diversity_penalty,
    }
    return {name: value for name, value in values.items() if value is not None}


def not_honoured(settings: GenerationSettings, is_pair: bool) -> list[str]:
    """The keys of settings that Parakit does not follow, for a decoder or an encoder-decoder."""
    keys = sorted(settings.other)
    if is_pair and settings.do_sample:
        keys.append("do_sample")
    if is_pair and settings.penalty_alpha and not settings.do_sample and (settings.n_beams or 1) == 1:
        keys.append("penalty_alpha")
    if not is_pair and settings.do_sample and (settings.n_beams or 1) > 1:
        keys.append("num_beams")
    return keys
