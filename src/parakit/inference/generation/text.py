"""Generating text: a prompt or a conversation in, a completion out; whole, streamed, or many at a time.

A plain prompt becomes BOS and its tokens, as documents are stored; a conversation is compiled by the one
chat template that tuning used. All three ways give the same text: what a stream shows is what `generate`
returns.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from parakit.common.errors import UserError
from parakit.inference.batching import MICRO_BATCH_SIZE
from parakit.inference.capabilities import require_capability
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.decoding import check_prompt, generate_ids, stream_ids
from parakit.inference.generation.text_stream import StopStringCheck, TextStream
from parakit.model.heads import LanguageModel
from parakit.tokens.chat.template import answer_lead, compile_chat, stop_ids
from parakit.tokens.tokenizer.tokenizer import Tokenizer


class Message(Protocol):
    """One turn of a conversation, whichever class holds it."""

    @property
    def role(self) -> str: ...
    @property
    def content(self) -> str: ...


Prompt = str | Sequence[Message]
FinishReason = Literal["stop", "length", "interrupted"]


@dataclass(frozen=True)
class Completion:
    """What a model said. `token_ids` holds everything it generated, stop tokens included; `text` only
    what may be shown.
    """

    text: str
    token_ids: tuple[int, ...]
    n_prompt_tokens: int
    finish_reason: FinishReason
    """stop: the model ended, or a stop string did; length: `max_new_tokens` or the context window did."""
    seconds: float
    """From the prompt's first token to the completion's last; in a batch, of the whole batch."""

    @property
    def n_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def tokens_per_second(self) -> float:
        return self.n_tokens / self.seconds if self.seconds > 0 else 0.0


def prompt_ids(tokenizer: Tokenizer, prompt: Prompt) -> list[int]:
    """The ids a model is given: BOS and the text's tokens, or the conversation's template up to the
    assistant's turn.
    """
    if isinstance(prompt, str):
        token_ids = tokenizer.encode(prompt)
        if tokenizer.bos_id is not None:
            return [tokenizer.bos_id, *token_ids]
        return token_ids or ([] if tokenizer.eos_id is None else [tokenizer.eos_id])
    return list(compile_chat(tokenizer, prompt, add_generation_prompt=True).token_ids)


class CompletionStream:
    """One completion as it grows. Iterate for pieces of text; `completion` tells the rest, also after an
    early stop.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        prompt: Prompt,
        config: SamplingConfig,
        *,
        seed: int | None = None,
    ) -> None:
        require_capability(model, "generate")
        self._ends = frozenset(stop_ids(tokenizer))
        lead = "" if isinstance(prompt, str) else answer_lead(tokenizer)
        self._text = TextStream(tokenizer, config.stop, lead)
        self._pieces: list[str] = []
        self._token_ids: list[int] = []
        self._reason: FinishReason = "interrupted"
        self._started = self._stopped = time.perf_counter()
        prompt_token_ids = prompt_ids(tokenizer, prompt)
        check_prompt(len(prompt_token_ids), model.config.max_seq_len)
        self.n_prompt_tokens = len(prompt_token_ids)
        self._ids = stream_ids(model, prompt_token_ids, config, self._ends, seed=seed)

    def __iter__(self) -> Iterator[str]:
        try:
            for token_id in self._ids:
                self._token_ids.append(token_id)
                piece = self._text.push(token_id)
                ended = token_id in self._ends or self._text.stopped
                self._stopped = time.perf_counter()
                if piece:
                    self._pieces.append(piece)
                    yield piece
                if ended:
                    self._reason = "stop"
                    break
            else:
                self._reason = "length"
        finally:
            self._ids.close()
        if piece := self._text.finish():
            self._pieces.append(piece)
            yield piece

    @property
    def completion(self) -> Completion:
        """The completion so far."""
        return Completion(
            "".join(self._pieces),
            tuple(self._token_ids),
            self.n_prompt_tokens,
            self._reason,
            self._stopped - self._started,
        )


def stream(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: Prompt,
    config: SamplingConfig,
    *,
    seed: int | None = None,
) -> CompletionStream:
    """Complete a prompt piece by piece, whole characters only, never any part of a stop string.

    Raises `UserError` when the prompt is empty or over the model's `max_seq_len`.
    """
    return CompletionStream(model, tokenizer, prompt, config, seed=seed)


def generate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: Prompt,
    config: SamplingConfig,
    *,
    seed: int | None = None,
) -> Completion:
    """Complete one prompt (a text, or the messages of a conversation). Errors as for `stream`."""
    pieces = stream(model, tokenizer, prompt, config, seed=seed)
    for _ in pieces:
        pass
    return pieces.completion


def generate_batch(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    config: SamplingConfig,
    *,
    seeds: Sequence[int] | None = None,
    micro_batch_size: int = MICRO_BATCH_SIZE,
) -> list[Completion]:
    """Complete many prompts at once, `micro_batch_size` in flight; greedy texts equal those of `generate`.

    Raises `UserError` naming the first prompt that is empty or over the model's `max_seq_len`.
    """
    started = time.perf_counter()
    ids = [prompt_ids(tokenizer, prompt) for prompt in prompts]
    for number, prompt_token_ids in enumerate(ids, 1):
        try:
            check_prompt(len(prompt_token_ids), model.config.max_seq_len)
        except UserError as error:
            raise UserError(f"prompt {number} of {len(ids)}: {error.message}", error.hint) from None
    ends = frozenset(stop_ids(tokenizer))
    talks = [not isinstance(prompt, str) for prompt in prompts]
    lead = answer_lead(tokenizer) if any(talks) else ""
    leads = [lead if in_turns else "" for in_turns in talks]
    check = StopStringCheck(tokenizer, config.stop, lead) if config.stop else None
    completions = generate_ids(
        model, ids, config, ends, seeds=seeds, stop_check=check, micro_batch_size=micro_batch_size
    )
    seconds = time.perf_counter() - started
    return [
        _completion(tokenizer, len(prompt_token_ids), token_ids, ends, config, seconds, lead)
        for prompt_token_ids, token_ids, lead in zip(ids, completions, leads, strict=True)
    ]


def _completion(
    tokenizer: Tokenizer,
    n_prompt_tokens: int,
    token_ids: Sequence[int],
    ends: frozenset[int],
    config: SamplingConfig,
    seconds: float,
    lead: str,
) -> Completion:
    text = TextStream(tokenizer, config.stop, lead)
    shown = [text.push(token_id) for token_id in token_ids] + [text.finish()]
    ended = text.stopped or (bool(token_ids) and token_ids[-1] in ends)
    return Completion(
        "".join(shown), tuple(token_ids), n_prompt_tokens, "stop" if ended else "length", seconds
    )
