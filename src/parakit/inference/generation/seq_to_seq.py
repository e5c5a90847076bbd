"""Generation with an encoder-decoder: sources as ids in, targets out.

The encoder runs once over a batch of sources; every decoder layer computes its keys and values of them once and the
cache holds them. `DecoderView` then behaves like a language model whose prompt is the start id, so that `decoding` runs
unchanged. Sources of any lengths share a batch, padded and masked, sorted by length.

Shapes: B rows, S source tokens, T target tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import torch

from parakit.common.errors import UserError
from parakit.inference.batching import MICRO_BATCH_SIZE, evaluation_mode, pad_rows, rows_by_length
from parakit.inference.capabilities import require_capability
from parakit.inference.config import BeamConfig, DecodingConfig, SamplingConfig
from parakit.inference.generation.beam_search import Beam, beam_search_batch
from parakit.inference.generation.decoding import generate_ids
from parakit.inference.generation.kv_cache import KVCache
from parakit.inference.generation.published_rules import generation_rules
from parakit.inference.generation.rules import GenerationRules
from parakit.inference.generation.sampling import request_seeds
from parakit.inference.prediction.batches import encode_texts
from parakit.model.heads import SequenceToSequence
from parakit.tokens.config import TooLong
from parakit.tokens.tokenizer.languages import language_tokens
from parakit.tokens.tokenizer.tokenizer import Tokenizer


class DecoderView:
    """An encoder-decoder with its sources, as a `decoding.NextTokenModel`: one row per source."""

    def __init__(
        self, model: SequenceToSequence, sources: Sequence[Sequence[int]], start_id: int | None = None
    ) -> None:
        self.model, self.sources = model, sources
        self.start_id = model.config.decoder_start_id if start_id is None else start_id
        self.config, self.lm_head, self.training = model.config.decoder, model.lm_head, model.training

    @property
    def prompts(self) -> list[list[int]]:
        """The start id, once per source."""
        return [[self.start_id] for _ in self.sources]

    def hidden(self, input_ids: torch.Tensor, *, cache: KVCache, **context: Any) -> torch.Tensor:
        """New target tokens (B, T) -> vectors (B, T, d_model). The first call encodes the sources."""
        source = None
        if cache.source(0) is None:
            source_ids, cache.source_mask = pad_rows(self.sources, input_ids.device)
            source = self.model.encode(source_ids, attention_mask=cache.source_mask)  # (B, S, d_model)
        return self.model.hidden(
            input_ids, cache=cache, source=source, source_mask=cache.source_mask, **context
        )

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Vectors (..., d_model) to logits (..., vocab_size)."""
        return self.model.logits(hidden)

    def train(self, mode: bool = True) -> DecoderView:
        """Switch dropout on or off, in encoder and decoder."""
        self.model.train(mode)
        self.training = mode
        return self


def generate_sequences(
    model: SequenceToSequence,
    sources: Sequence[Sequence[int]],
    config: SamplingConfig,
    stop_ids: Collection[int] = (),
    *,
    seeds: Sequence[int] | None = None,
    micro_batch_size: int = MICRO_BATCH_SIZE,
    rules: GenerationRules | None = None,
    start_id: int | None = None,
) -> list[list[int]]:
    """The target of each source, as new ids without the start id, in the order of the sources. `start_id` replaces the
    model's own.

    A target ends as in `generate_ids`: with a stop id (which is included), or at a limit. Raises `UserError` for an
    empty source, one over the encoder's `max_seq_len`, and a model that is no encoder-decoder.
    """
    require_capability(model, "translate")
    check_sources(model, sources)
    seeds = request_seeds(config.seed, len(sources)) if seeds is None else seeds
    targets: list[list[int]] = [[] for _ in sources]
    with evaluation_mode(model):
        for rows in rows_by_length(sources, micro_batch_size):
            view = DecoderView(model, [sources[row] for row in rows], start_id)
            batch = generate_ids(
                view,
                view.prompts,
                config,
                stop_ids,
                seeds=[seeds[row] for row in rows],
                micro_batch_size=len(rows),
                rules=rules,
            )
            for row, target in zip(rows, batch, strict=True):
                targets[row] = target
    return targets


def beam_search_sequences(
    model: SequenceToSequence,
    sources: Sequence[Sequence[int]],
    config: BeamConfig,
    stop_ids: Collection[int] = (),
    *,
    micro_batch_size: int = MICRO_BATCH_SIZE,
    rules: GenerationRules | None = None,
    start_id: int | None = None,
) -> list[list[Beam]]:
    """The `n_beams` best targets of each source, best first; errors as for `generate_sequences`."""
    require_capability(model, "translate")
    check_sources(model, sources)
    results: list[list[Beam]] = [[] for _ in sources]
    with evaluation_mode(model):
        for rows in rows_by_length(sources, max(1, micro_batch_size // config.n_beams)):
            view = DecoderView(model, [sources[row] for row in rows], start_id)
            beams = beam_search_batch(view, view.prompts, config, stop_ids, rules)
            for row, best in zip(rows, beams, strict=True):
                results[row] = best
    return results


def check_sources(model: SequenceToSequence, sources: Sequence[Sequence[int]]) -> None:
    """Raise `UserError` for a source that is empty or longer than the encoder's context window."""
    limit = model.config.encoder.max_seq_len
    for number, source in enumerate(sources, 1):
        which = "the source" if len(sources) == 1 else f"source {number} of {len(sources)}"
        if len(source) > limit:
            raise UserError(
                f"{which} has {len(source)} tokens, and the encoder's context window holds {limit}",
                "shorten it, or use a model with a larger max_seq_len",
            )
        if not source:
            raise UserError(f"{which} has no tokens", "give a text with at least one token")


def translate(
    model: SequenceToSequence,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    config: SamplingConfig | BeamConfig | None = None,
    *,
    too_long: TooLong = "refuse",
    source_language: str | None = None,
    target_language: str | None = None,
    micro_batch_size: int = MICRO_BATCH_SIZE,
) -> list[str]:
    """The target for each source text: a translation, a summary, or whatever the model was trained for.

    Greedy without a config; with a `BeamConfig` the best beam. `too_long="truncate"` shortens a source that is over the
    encoder's context window. Languages are for models whose tokenizers have tokens for them; None: as the folder says. The
    publisher's rules for tokens hold: see `rules`. Other errors as for
    `generate_sequences`; stop strings are a `UserError`.
    """
    require_capability(model, "translate")
    if config is None:
        config = SamplingConfig(temperature=0.0)
    elif isinstance(config, BeamConfig) and config.n_beams == 1 and config.stop_when != "impossible":
        config = _as_greedy(config)  # the same, and cheaper
    if isinstance(config, SamplingConfig) and config.stop:
        raise UserError(f"stop = {list(config.stop)}: targets end at EOS only", "leave out the stop strings")
    stop_ids, rules = target_stop_ids(tokenizer), generation_rules(model, tokenizer)
    start_id = model.config.decoder_start_id
    languages = language_tokens(tokenizer, start_id, source_language, target_language)
    if languages.forced_bos_id is not None:
        rules = replace(rules or GenerationRules(), forced_bos_id=languages.forced_bos_id)
    encoded = [source.token_ids for source in encode_texts(tokenizer, texts, model.config, too_long)]
    sources = languages.apply(encoded, tokenizer)
    common: Any = {"micro_batch_size": micro_batch_size, "rules": rules, "start_id": languages.start_id}
    if isinstance(config, BeamConfig):
        results = beam_search_sequences(model, sources, config, stop_ids, **common)
        targets = [beams[0].token_ids for beams in results]
    else:
        targets = generate_sequences(model, sources, config, stop_ids, **common)
    return [tokenizer.decode(target) for target in targets]


def _as_greedy(config: BeamConfig) -> SamplingConfig:
    """What one beam does."""
    shared = {
        name: getattr(config, name) for name in config.model_fields_set & set(DecodingConfig.model_fields)
    }
    return SamplingConfig(temperature=0.0, **shared)


def target_stop_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """What ends a target: EOS, and the ids that the model's settings name."""
    published = () if tokenizer.published is None else tokenizer.published.stop_ids
    return frozenset(i for i in (tokenizer.eos_id, *published) if i is not None)
