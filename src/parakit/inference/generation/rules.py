"""What changes the scores of the next token before anything is chosen: biases, penalties over what was read, n-grams that
do not repeat, forbidden and forced ids, minimal lengths.

`GenerationRules` holds a publisher's settings and those of a request, each with the meaning and in the order of
transformers' logits processors; presence and frequency penalties as in vLLM, over the completion only. Sampling and greedy
search apply the rules to logits, beam search to log-probabilities. Rollouts of training do without a publisher's rules: they
need the policy's own probabilities.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from parakit.inference.config import DecodingConfig

NEG_INF = float("-inf")
Biases = tuple[tuple[tuple[int, ...], float], ...]


class TokenCounts:
    """The distinct tokens of a growing list, and how often each occurs."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}
        self._ids = np.empty(64, np.int64)
        self._counts = np.zeros(64, np.float32)
        self._n_read = 0

    def update(self, token_ids: Sequence[int], first: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The ids (N,) and counts (N,) of `token_ids[first:]`, of which earlier calls have seen the beginning."""
        for position in range(first + self._n_read, len(token_ids)):
            token_id = token_ids[position]
            place = self._places.setdefault(token_id, len(self._places))
            if place == len(self._ids):
                self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
                self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
            self._ids[place] = token_id
            self._counts[place] += 1
        self._n_read = len(token_ids) - first
        n = len(self._places)
        return self._ids[:n], self._counts[:n]


@dataclass
class TokenHistory:
    """One row: its tokens so far (prompt and completion; of an encoder-decoder the start token and the target), the length
    of its prompt, the longest completion, and what an encoder read (of a decoder its prompt). Tokens are only appended.
    """

    token_ids: list[int]
    n_prompt: int
    limit: int
    source: Sequence[int]
    _all: TokenCounts | None = field(default=None, init=False, repr=False, compare=False)
    _new: TokenCounts | None = field(default=None, init=False, repr=False, compare=False)
    _source_ids: np.ndarray | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def n_new(self) -> int:
        """Tokens of the completion so far."""
        return len(self.token_ids) - self.n_prompt

    def distinct_ids(self) -> np.ndarray:
        """Every token that occurred, once."""
        self._all = self._all or TokenCounts()
        return self._all.update(self.token_ids)[0]

    def new_counts(self) -> tuple[np.ndarray, np.ndarray]:
        """The completion's distinct tokens and how often each occurred."""
        self._new = self._new or TokenCounts()
        return self._new.update(self.token_ids, self.n_prompt)

    def source_ids(self) -> np.ndarray:
        """Every token of the source, once."""
        if self._source_ids is None:
            self._source_ids = np.array(sorted(set(self.source)), np.int64)
        return self._source_ids


@dataclass(frozen=True)
class GenerationRules:
    """What changes scores; the defaults change nothing."""

    sequence_bias: Biases = ()
    """(ids, number): added to the score of the last id where the others precede it."""
    encoder_repetition_penalty: float = 1.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
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
        on_cpu = scores.device.type == "cpu"
        changed = scores.clone() if on_cpu else scores.cpu()
        for row, history in zip(changed.numpy(), rows, strict=True):
            self.change(row, history)
        changed = changed.to(scores.device)
        return changed.log_softmax(-1) if self.renormalize else changed

    def change(self, row: np.ndarray, history: TokenHistory) -> None:
        """Change the scores (V,) of one row in place, all but `renormalize`. An array: a few numbers of many change, for
        which a tensor's operations cost more than the work.
        """
        self._bias(row, history)
        self._penalize(row, history)
        _ban(row, self._banned(history))
        self._force(row, history)
        _ban(row, self.suppress_ids)
        if self.begin_suppress_ids and len(history.token_ids) == self._begin(history):
            _ban(row, self.begin_suppress_ids)

    def _bias(self, row: np.ndarray, history: TokenHistory) -> None:
        ids = history.token_ids
        for (*before, last), bias in self.sequence_bias:
            if last < len(row) and ids[len(ids) - len(before) :] == before:
                row[last] += bias

    def _penalize(self, row: np.ndarray, history: TokenHistory) -> None:
        if self.encoder_repetition_penalty != 1.0:
            _divide(row, history.source_ids(), 1 / self.encoder_repetition_penalty)
        if self.repetition_penalty != 1.0:
            _divide(row, history.distinct_ids(), self.repetition_penalty)
        if self.frequency_penalty or self.presence_penalty:
            ids, counts = history.new_counts()
            row[ids] -= self.frequency_penalty * counts + self.presence_penalty

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

    def _force(self, row: np.ndarray, history: TokenHistory) -> None:
        if self.forced_bos_id is not None and len(history.token_ids) == 1:
            row.fill(NEG_INF)
            row[self.forced_bos_id] = 0.0
        if self.forced_eos_ids and history.n_new == history.limit - 1:
            row.fill(NEG_INF)
            row[list(self.forced_eos_ids)] = 0.0

    def _begin(self, history: TokenHistory) -> int:
        """Where the first free position is: behind a forced BOS."""
        return history.n_prompt + (history.n_prompt == 1 and self.forced_bos_id is not None)


def request_rules(
    rules: GenerationRules | None, config: DecodingConfig, stop_ids: Collection[int] = ()
) -> GenerationRules | None:
    """The publisher's rules (None: there are none) with what a request sets over them; None where nothing changes scores.

    `stop_ids`: what else `min_new_tokens` forbids.
    """
    assert all(isinstance(key, int) for key in config.logit_bias), "see resolve_logit_bias"
    if rules is None and not _changes_rules(config):
        return None
    rules = rules or GenerationRules()
    changes: dict[str, object] = {
        "sequence_bias": (*rules.sequence_bias, *(((key,), bias) for key, bias in config.logit_bias.items())),
        "frequency_penalty": config.frequency_penalty,
        "presence_penalty": config.presence_penalty,
    }
    if "repetition_penalty" in config.model_fields_set:
        changes["repetition_penalty"] = config.repetition_penalty
    if config.no_repeat_ngram_size is not None:
        changes["no_repeat_ngram_size"] = config.no_repeat_ngram_size
    if config.min_new_tokens is not None:
        changes["min_new_tokens"] = config.min_new_tokens
        changes["eos_ids"] = tuple(dict.fromkeys((*rules.eos_ids, *stop_ids)))
    rules = replace(rules, **changes)  # type: ignore[arg-type]
    return None if rules == GenerationRules() else rules


def _changes_rules(config: DecodingConfig) -> bool:
    settings = (config.no_repeat_ngram_size, config.min_new_tokens)
    return (
        bool(config.logit_bias or config.frequency_penalty or config.presence_penalty)
        or "repetition_penalty" in config.model_fields_set
        or any(setting is not None for setting in settings)
    )


def _divide(row: np.ndarray, ids: np.ndarray, penalty: float) -> None:
    """Positive scores of these tokens are divided, negative ones multiplied."""
    scores = row[ids]
    row[ids] = np.where(scores < 0, scores * penalty, scores / penalty)


def _ngram_ends(text: Sequence[int], ids: Sequence[int], size: int) -> Iterator[int]:
    """Tokens that would end `ids` with an n-gram that occurs in `text`."""
    if size < 1 or len(ids) + 1 < size:
        return
    if size == 1:
        yield from text
        return
    before, position = list(ids[len(ids) + 1 - size :]), size - 2
    while True:
        try:  # where the last token of `before` occurs: `index` runs in C
            position = text.index(before[-1], position, len(text) - 1)
        except ValueError:
            return
        if list(text[position + 2 - size : position + 1]) == before:
            yield text[position + 1]
        position += 1


def _ban(row: np.ndarray, token_ids: Iterable[int]) -> None:
    inside = [token_id for token_id in token_ids if token_id < len(row)]
    if inside:
        row[inside] = NEG_INF
