"""Where the drafts of speculative decoding come from: a smaller model, or the text so far.

A draft proposes the next tokens of a completion; the model itself decides (see `speculative`). Prompt look-up continues the
last n-gram as it went on where it occurred before, which pays where the completion repeats its prompt: summaries, edits,
code. A draft model has the vocabulary of the model.

Shapes: V vocabulary of the model.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.inference.batching import evaluation_mode
from parakit.inference.capabilities import require_capability
from parakit.inference.generation.filters import draw
from parakit.inference.generation.sampling import (
    LARGEST_UNIFORM,
    N_UNIFORMS,
    RequestSampler,
    choose_tokens,
    distribution,
)
from parakit.inference.generation.steps.model_steps import allocate_cache, make_decode_step, prefill
from parakit.model.heads import LanguageModel
from parakit.tokens.tokenizer.tokenizer import Tokenizer

MAX_DRAFT = 64  # tokens of one draft
DRAFT_MODEL_TOKENS = 8  # that a draft model proposes at most: each costs a pass of it
NGRAMS = (4, 3, 2)  # sizes that are looked up, longest first


class Draft(NamedTuple):
    """Proposed tokens, and for each the probabilities (V,) that it was drawn from; None where nothing was drawn."""

    token_ids: list[int]
    probabilities: list[Tensor] | None = None


class Drafter(Protocol):
    """A source of drafts for one completion."""

    max_tokens: int

    def propose(self, sampler: RequestSampler, n_tokens: int) -> Draft:
        """Up to `n_tokens` tokens that may follow `sampler.history`."""
        ...


@dataclass
class Uniforms:
    """Random numbers in [0, 1), a pure function of (the request's seed, the stream's name, the position)."""

    seed: int
    name: str
    _numbers: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._generator = rng(self.seed, self.name)

    def __getitem__(self, position: int) -> float:
        while position >= len(self._numbers):
            more = np.minimum(self._generator.random(N_UNIFORMS), LARGEST_UNIFORM)
            self._numbers += more.tolist()
        return self._numbers[position]


class PromptLookup:
    """Proposes what followed the latest earlier occurrence of the last tokens, in prompt and completion."""

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self._next: dict[tuple[int, ...], int] = {}  # n-gram to the place behind its latest occurrence
        self._n_read = 1

    def propose(self, sampler: RequestSampler, n_tokens: int) -> Draft:
        """The tokens that followed before; none where the last two tokens are new together."""
        tokens = sampler.history.token_ids
        for end in range(self._n_read, len(tokens)):  # an n-gram counts once something follows it
            for size in NGRAMS:
                if size <= end:
                    self._next[tuple(tokens[end - size : end])] = end
        self._n_read = max(self._n_read, len(tokens))
        for size in NGRAMS:
            place = self._next.get(tuple(tokens[-size:])) if size <= len(tokens) else None
            if place is not None:
                proposed: list[int] = []
                for i in range(place, place + n_tokens):  # text that repeats itself goes on with the draft
                    proposed.append(tokens[i] if i < len(tokens) else proposed[i - len(tokens)])
                return Draft(proposed)
        return Draft([])


class DraftModel:
    """Proposes tokens of a smaller model, by the request's own settings: greedy, or drawn from its filtered probabilities."""

    max_tokens = DRAFT_MODEL_TOKENS

    def __init__(
        self,
        model: LanguageModel,
        prompt_ids: Sequence[int],
        limit: int,
        vocab_size: int,
        seed: int,
        stop_ids: Collection[int] = (),
    ) -> None:
        self.model, self.vocab_size, self.stop_ids = model, vocab_size, stop_ids
        self._cache = allocate_cache(model, [prompt_ids], limit)
        self._read: list[int] = []  # tokens whose keys and values the cache holds
        self._step = make_decode_step(model)
        self._uniforms = Uniforms(seed, "draft")

    @torch.inference_mode()
    def propose(self, sampler: RequestSampler, n_tokens: int) -> Draft:
        """The draft model's continuation, up to its context window."""
        tokens = sampler.history.token_ids
        n_tokens = min(n_tokens, self.model.config.max_seq_len - len(tokens))
        if n_tokens < 1:
            return Draft([])
        follower, proposed = sampler.copy(), list[int]()
        probabilities: list[Tensor] = []
        new = self._forget(tokens)
        for _ in range(n_tokens):
            logits = self._fit(self._run(new))
            if sampler.greedy:
                choice = choose_tokens([follower], logits)[0]
                if choice.error is not None:
                    break
                token_id = choice.token_id
            else:
                try:
                    probabilities.append(distribution(follower, logits[0]))
                except UserError:  # the constraint's dead end is the model's to report
                    break
                uniform = torch.tensor([self._uniforms[follower.n_new]], dtype=torch.float64)
                token_id = int(draw(probabilities[-1].log()[None], uniform.to(logits.device)))
                follower.accept(token_id)
            proposed.append(token_id)
            new = [token_id]
            if token_id in self.stop_ids:
                break
        return Draft(proposed, None if sampler.greedy else probabilities)

    def _run(self, new: list[int]) -> Tensor:
        with evaluation_mode(self.model):
            self._read += new
            if len(new) > 1 or len(self._read) == 1:
                return prefill(self.model, self._cache, [new])
            return self._step(self._cache, torch.tensor(new, device=self._cache.keys[0].device))

    def _forget(self, tokens: Sequence[int]) -> list[int]:
        """Cut the cache back to what `tokens` begins with; the tokens that it lacks, at least one."""
        n = min(len(self._read), len(tokens) - 1)
        if self._read[:n] != tokens[:n]:
            n = next(i for i in range(n) if self._read[i] != tokens[i])
        del self._read[n:]
        self._cache.truncate([n])
        return list(tokens[n:])

    def _fit(self, logits: Tensor) -> Tensor:
        """Logits (1, V) of the model's vocabulary, which may be padded to another size."""
        missing = self.vocab_size - logits.shape[-1]  # negative: the last columns go
        return functional.pad(logits, (0, missing), value=float("-inf")) if missing else logits


@dataclass(frozen=True)
class Speculation:
    """How completions are drafted: by a model, or by looking up to `prompt_lookup` tokens up in the text so far."""

    draft: LanguageModel | None = None
    prompt_lookup: int = 0

    def __post_init__(self) -> None:
        if self.draft is not None and self.prompt_lookup:
            raise UserError(
                "drafts come from a draft model or from prompt look-up, and both are set", "set one"
            )
        if self.draft is None and not 1 <= self.prompt_lookup <= MAX_DRAFT:
            raise UserError(
                f"prompt_lookup = {self.prompt_lookup}: a draft has 1 to {MAX_DRAFT} tokens",
                "choose one of these",
            )

    def drafter(
        self,
        prompt_ids: Sequence[int],
        limit: int,
        vocab_size: int,
        seed: int,
        stop_ids: Collection[int] = (),
    ) -> Drafter:
        """A new source of drafts for one completion of at most `limit` tokens, which ends with a stop id."""
        if self.draft is None:
            return PromptLookup(self.prompt_lookup)
        return DraftModel(self.draft, prompt_ids, limit, vocab_size, seed, stop_ids)


class LoadedModel(Protocol):
    """What is compared of a model and its draft: `parakit.Model` has it."""

    network: Any
    path: Path

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer."""
        ...


def take_speculation(settings: Mapping[str, Any], model: LoadedModel) -> tuple[Speculation | None, Any]:
    """Where drafts come from by the settings `draft` and `prompt_lookup` (None: nowhere), and the other settings.

    Raises `UserError` for a draft that does not fit the model.
    """
    draft: LoadedModel | None = settings.get("draft")
    prompt_lookup = settings.get("prompt_lookup", 0)
    rest = {name: value for name, value in settings.items() if name not in ("draft", "prompt_lookup")}
    if draft is None and not prompt_lookup:
        return None, rest
    if draft is not None:
        require_capability(draft.network, "generate")
        check_draft(draft.network, draft.tokenizer, model.tokenizer, (str(draft.path), str(model.path)))
    return Speculation(None if draft is None else draft.network, prompt_lookup), rest


def check_draft(
    draft: LanguageModel, draft_tokenizer: Tokenizer, tokenizer: Tokenizer, names: tuple[str, str]
) -> None:
    """Raise `UserError` unless both tokenizers have the same tokens under the same ids, and the draft can be cut back.

    `names`: of the draft and of the model.
    """
    wanted, found = _by_id(tokenizer.vocabulary), _by_id(draft_tokenizer.vocabulary)
    for token_id in sorted(wanted.keys() | found.keys()):
        if wanted.get(token_id) != found.get(token_id):
            raise UserError(
                f"{names[0]} has another vocabulary than {names[1]}: token {token_id} is {found.get(token_id)!r} and"
                f" {wanted.get(token_id)!r} ({len(found):,} and {len(wanted):,} tokens)",
                "use a draft model with the tokenizer of the model, or prompt look-up",
            )
    require_no_recurrence(draft, names[0])


def require_no_recurrence(model: LanguageModel, name: str) -> None:
    """Raise `UserError` for a model with recurrent layers, whose state cannot be cut back to an earlier token."""
    if model.config.delta_rule is not None:
        raise UserError(
            f"{name} has recurrent layers, whose state cannot be taken back when a draft is rejected",
            "decode without drafts, or use a model with attention only",
        )


def _by_id(vocabulary: Mapping[str, int]) -> dict[int, str]:
    return {token_id: token for token, token_id in vocabulary.items()}
