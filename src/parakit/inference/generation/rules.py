"""What a publisher's generation settings demand of every token: penalties over what was read, n-grams that do not repeat,
forbidden and forced ids, minimal lengths.

`GenerationRules.apply` changes the scores of the next token, with the meaning and in the order of transformers' logits
processors: sampling and greedy search apply it to logits, beam search to log-probabilities. An encoder-decoder writes
neither PAD nor its start token, whatever its settings are. Rollouts of training do without: they need the policy's own
probabilities.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

from parakit.checkpoints.generation_settings import (
    GENERATION,
    GenerationSettings,
    generation_in_config,
    parse_generation,
)
from parakit.checkpoints.publisher import publisher_of
from parakit.model.heads import SequenceToSequence, TransformerModel
from parakit.tokens.tokenizer.languages import language_ids
from parakit.tokens.tokenizer.tokenizer import Tokenizer

NEG_INF = float("-inf")


@dataclass
class TokenHistory:
    """One row: its tokens so far (prompt and completion; of an encoder-decoder the start token and the target), the length
    of its prompt, the longest completion, and what an encoder read (of a decoder its prompt).
    """

    token_ids: list[int]
    n_prompt: int
    limit: int
    source: Sequence[int]

    @property
    def n_new(self) -> int:
        """Tokens of the completion so far."""
        return len(self.token_ids) - self.n_prompt


@dataclass(frozen=True)
class GenerationRules:
    """The settings of `GenerationSettings` that change scores; the defaults change nothing."""

    encoder_repetition_penalty: float = 1.0
    repetition_penalty: float = 1.0
    """Of encoder-decoders; for decoders `SamplingConfig` has it."""
    no_repeat_ngram_size: int = 0
    encoder_no_repeat_ngram_size: int = 0
    bad_word_ids: tuple[tuple[int, ...], ...] = ()
    min_length: int = 0
    """Prompt included, as in transformers."""
    min_new_tokens: int = 0
    forced_bos_id: int | None = None
    forced_eos_ids: tuple[int, ...] = ()
    suppress_ids: tuple[int, ...] = ()
    begin_suppress_ids: tuple[int, ...] = ()
    renormalize: bool = False
    eos_ids: tuple[int, ...] = field(default=(), compare=False)

    def apply(self, scores: torch.Tensor, rows: Sequence[TokenHistory]) -> torch.Tensor:
        """The scores (B, V) of the next token of each row, changed; the input is not."""
        scores = scores.clone()
        for row, history in zip(scores, rows, strict=True):
            self._penalize(row, history)
            _ban(row, self._banned(history))
            self._force(row, history)
            _ban(row, self.suppress_ids)
            if self.begin_suppress_ids and len(history.token_ids) == self._begin(history):
                _ban(row, self.begin_suppress_ids)
        return scores.log_softmax(-1) if self.renormalize else scores

    def _penalize(self, row: torch.Tensor, history: TokenHistory) -> None:
        penalties = (
            (1 / self.encoder_repetition_penalty, history.source),
            (self.repetition_penalty, history.token_ids),
        )
        for penalty, token_ids in penalties:
            if penalty != 1.0 and token_ids:
                ids = torch.tensor(sorted(set(token_ids)), device=row.device)
                row[ids] = torch.where(row[ids] < 0, row[ids] * penalty, row[ids] / penalty)

    def _banned(self, history: TokenHistory) -> set[int]:
        ids = history.token_ids
        banned = set(_ngram_ends(ids, ids, self.no_repeat_ngram_size))
        banned.update(_ngram_ends(history.source, ids, self.encoder_no_repeat_ngram_size))
        for *before, last in self.bad_word_ids:
            if [*before, last] not in [[eos] for eos in self.eos_ids] and ids[
                len(ids) - len(before) :
            ] == before:
                banned.add(last)
        if len(ids) < self.min_length or history.n_new < self.min_new_tokens:
            banned.update(self.eos_ids)
        return banned

    def _force(self, row: torch.Tensor, history: TokenHistory) -> None:
        if self.forced_bos_id is not None and len(history.token_ids) == 1:
            row.fill_(NEG_INF)
            row[self.forced_bos_id] = 0.0
        if self.forced_eos_ids and history.n_new == history.limit - 1:
            row.fill_(NEG_INF)
            row[list(self.forced_eos_ids)] = 0.0

    def _begin(self, history: TokenHistory) -> int:
        """Where the first free position is: behind a forced BOS."""
        return history.n_prompt + (history.n_prompt == 1 and self.forced_bos_id is not None)


def _ngram_ends(text: Sequence[int], ids: Sequence[int], size: int) -> Iterable[int]:
    """Tokens that would end `ids` with an n-gram that occurs in `text`."""
    if size < 1 or len(ids) + 1 < size:
        return
    before = tuple(ids[len(ids) + 1 - size :])
    for i in range(len(text) - size + 1):
        if tuple(text[i : i + size - 1]) == before:
            yield text[i + size - 1]


def _ban(row: torch.Tensor, token_ids: Iterable[int]) -> None:
    inside = [token_id for token_id in token_ids if token_id < len(row)]
    if inside:
        row[inside] = NEG_INF


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
    """The publisher's values for the fields of `BeamConfig`; empty where nothing is set."""
    stop_when = {None: None, False: "unlikely", True: "full", "never": "impossible"}[settings.early_stopping]
    longest = settings.max_new_tokens or (
        settings.max_length and settings.max_length - 1
    )  # the start token counts
    values = {
        "n_beams": settings.n_beams,
        "length_penalty": settings.length_penalty,
        "stop_when": stop_when,
        "max_new_tokens": longest,
    }
    return {name: value for name, value in values.items() if value is not None}


def not_honoured(settings: GenerationSettings, is_pair: bool) -> list[str]:
    """The keys of settings that Parakit does not follow, for a decoder or an encoder-decoder."""
    keys = sorted(settings.other)
    if is_pair and settings.do_sample:
        keys.append("do_sample")
    if not is_pair and (settings.n_beams or 1) > 1:
        keys.append("num_beams")
    return keys
