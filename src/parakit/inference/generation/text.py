"""Generating text: a prompt or a conversation in, a completion out; at once, streamed, or many in a batch.

A plain prompt gets what its tokenizer puts around a text (BOS, or nothing); a conversation is compiled by the chat
template that tuning used. All three ways give the same text.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from parakit.common.errors import UserError
from parakit.inference.batching import MICRO_BATCH_SIZE
from parakit.inference.capabilities import require_capability
from parakit.inference.config import SamplingConfig
from parakit.inference.generation.completion import Completion as Completion
from parakit.inference.generation.completion import FinishReason as FinishReason
from parakit.inference.generation.completion import Prompt as Prompt
from parakit.inference.generation.completion import check_prompt
from parakit.inference.generation.completion import context_ids as context_ids
from parakit.inference.generation.completion import prompt_ids as prompt_ids
from parakit.inference.generation.decoding import generate_ids, stream_ids
from parakit.inference.generation.published_rules import generation_rules
from parakit.inference.generation.text_stream import StopStringCheck, TextStream
from parakit.model.heads import LanguageModel
from parakit.tokens.chat.template import response_prefix, stop_ids
from parakit.tokens.tokenizer.tokenizer import Tokenizer


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
