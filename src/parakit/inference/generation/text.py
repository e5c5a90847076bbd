"""Generating text: a prompt or a conversation in, a completion out; at once, streamed, or many in a batch.

A plain prompt gets what its tokenizer puts around a text (BOS, or nothing); a conversation is compiled by the chat
template that tuning used. All three ways give the same text.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Message
from parakit.inference.batching import MICRO_BATCH_SIZE
from parakit.inference.capabilities import require_capability
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.decoding import check_prompt, generate_ids, stream_ids
from parakit.inference.generation.rules import generation_rules
from parakit.inference.generation.text_stream import StopStringCheck, TextStream
from parakit.model.heads import LanguageModel
from parakit.tokens.chat.template import compile_chat, response_prefix, stop_ids
from parakit.tokens.tokenizer.special_tokens_template import text_boundaries
from parakit.tokens.tokenizer.tokenizer import Tokenizer

# A text to continue, or the messages of a conversation to answer.
Prompt = str | Sequence[Message | Mapping[str, str]]
FinishReason = Literal["stop", "length", "interrupted"]


@dataclass(frozen=True)
class Completion:
    """A generated text. `token_ids` holds all new ids, stop ids included; `text` is without stop strings."""

    text: str
    token_ids: tuple[int, ...]
    n_prompt_tokens: int
    finish_reason: FinishReason
    """stop: a stop id or stop string; length: `max_new_tokens` or the context window."""
    seconds: float
    """From the start of prefill to the last token; in a batch, of the whole batch."""
    seconds_to_first_token: float = 0.0
    """From the start of prefill to the first token; 0 in a batch."""

    @property
    def n_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def tokens_per_second(self) -> float:
        return self.n_tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def decode_tokens_per_second(self) -> float:
        """Of the tokens after the first, without the time that reading the prompt took; 0 where there are none."""
        seconds = self.seconds - self.seconds_to_first_token
        return (self.n_tokens - 1) / seconds if self.n_tokens > 1 and seconds > 0 else 0.0


def prompt_ids(tokenizer: Tokenizer, prompt: Prompt) -> list[int]:
    """The model's input: the text's tokens with what the tokenizer adds to a text, or the conversation in its template
    with the assistant's turn opened. A text without any tokens becomes BOS, or EOS without a BOS.
    """
    if isinstance(prompt, str):
        before, after = text_boundaries(tokenizer)
        return [*before, *tokenizer.encode(prompt), *after] or _first_ids(tokenizer)
    return list(compile_chat(tokenizer, prompt, add_generation_prompt=True).token_ids)


def context_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """A plain text as the beginning of a longer one: `prompt_ids` without what the tokenizer puts after a text."""
    return [*text_boundaries(tokenizer)[0], *tokenizer.encode(prompt)] or _first_ids(tokenizer)


def _first_ids(tokenizer: Tokenizer) -> list[int]:
    """What a text begins with of which nothing is known."""
    first = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
    return [] if first is None else [first]


class CompletionStream:
    """One completion while it grows: iterate for pieces of text; `completion` is the result so far.

    Pieces are whole characters without any part of a stop string. Errors as for `stream`.
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
        self._stop_ids = frozenset(stop_ids(tokenizer))
        prefix = "" if isinstance(prompt, str) else response_prefix(tokenizer)
        self._text = TextStream(tokenizer, config.stop, prefix)
        self._pieces: list[str] = []
        self._token_ids: list[int] = []
        self._reason: FinishReason = "interrupted"
        self._started = self._first = self._stopped = time.perf_counter()
        prompt_token_ids = prompt_ids(tokenizer, prompt)
        check_prompt(len(prompt_token_ids), model.config.max_seq_len)
        self.n_prompt_tokens = len(prompt_token_ids)
        rules = generation_rules(model, tokenizer)
        self._ids = stream_ids(model, prompt_token_ids, config, self._stop_ids, seed=seed, rules=rules)

    def __iter__(self) -> Iterator[str]:
        try:
            for token_id in self._ids:
                self._token_ids.append(token_id)
                piece = self._text.push(token_id)
                ended = token_id in self._stop_ids or self._text.stopped
                self._stopped = time.perf_counter()
                if len(self._token_ids) == 1:
                    self._first = self._stopped
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
            self._first - self._started,
        )


def stream(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: Prompt,
    config: SamplingConfig,
    *,
    seed: int | None = None,
) -> CompletionStream:
    """Complete a prompt piece by piece.

    Raises `UserError` for a prompt that is empty or over the model's `max_seq_len`, and for a model that generates no
    text.
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
    """Complete one prompt. Errors as for `stream`."""
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

    The `UserError` for a prompt that is empty or over the model's `max_seq_len` has the prompt's number.
    """
    started = time.perf_counter()
    ids = [prompt_ids(tokenizer, prompt) for prompt in prompts]
    for number, prompt_token_ids in enumerate(ids, 1):
        try:
            check_prompt(len(prompt_token_ids), model.config.max_seq_len)
        except UserError as error:
            raise UserError(f"prompt {number} of {len(ids)}: {error.message}", error.hint) from None
    ends = frozenset(stop_ids(tokenizer))
    is_chat = [not isinstance(prompt, str) for prompt in prompts]
    prefix = response_prefix(tokenizer) if any(is_chat) else ""
    check = StopStringCheck(tokenizer, config.stop, prefix) if config.stop else None
    completions = generate_ids(
        model,
        ids,
        config,
        ends,
        seeds=seeds,
        stop_check=check,
        micro_batch_size=micro_batch_size,
        rules=generation_rules(model, tokenizer),
    )
    seconds = time.perf_counter() - started
    return [
        _completion(
            tokenizer, len(prompt_token_ids), token_ids, ends, config, seconds, prefix if chat else ""
        )
        for prompt_token_ids, token_ids, chat in zip(ids, completions, is_chat, strict=True)
    ]


def _completion(
    tokenizer: Tokenizer,
    n_prompt_tokens: int,
    token_ids: Sequence[int],
    ends: frozenset[int],
    config: SamplingConfig,
    seconds: float,
    prefix: str,
) -> Completion:
    text = TextStream(tokenizer, config.stop, prefix)
    shown = [text.push(token_id) for token_id in token_ids] + [text.finish()]
    ended = text.stopped or (bool(token_ids) and token_ids[-1] in ends)
    return Completion(
        "".join(shown), tuple(token_ids), n_prompt_tokens, "stop" if ended else "length", seconds
    )
