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
from parakit.inference.generation.completion import check_prompt, resolve_logit_bias
from parakit.inference.generation.completion import context_ids as context_ids
from parakit.inference.generation.completion import prompt_ids as prompt_ids
from parakit.inference.generation.decoding import generate_choices, stream_choices
from parakit.inference.generation.published_rules import generation_rules
from parakit.inference.generation.sampling import Choice, completion_seeds, request_seeds
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
        if config.n > 1:
            raise UserError(
                f"n = {config.n}: one completion is generated here",
                "take `completions`, which returns several",
            )
        config = resolve_logit_bias(config, tokenizer, model.config.vocab_size)
        self._stop_ids = frozenset(stop_ids(tokenizer))
        prefix = "" if isinstance(prompt, str) else response_prefix(tokenizer)
        self._text = TextStream(tokenizer, config.stop, prefix)
        self._has_log_probabilities = config.log_probabilities is not None
        self._pieces: list[str] = []
        self._choices: list[Choice] = []
        self._reason: FinishReason = "interrupted"
        self._started = self._first = self._stopped = time.perf_counter()
        prompt_token_ids = prompt_ids(tokenizer, prompt)
        check_prompt(len(prompt_token_ids), model.config.max_seq_len)
        self.n_prompt_tokens = len(prompt_token_ids)
        rules = generation_rules(model, tokenizer)
        self._stream = stream_choices(model, prompt_token_ids, config, self._stop_ids, seed=seed, rules=rules)

    def __iter__(self) -> Iterator[str]:
        try:
            for choice in self._stream:
                self._choices.append(choice)
                piece = self._text.push(choice.token_id)
                ended = choice.token_id in self._stop_ids or self._text.stopped
                self._stopped = time.perf_counter()
                if len(self._choices) == 1:
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
            self._stream.close()
        if piece := self._text.finish():
            self._pieces.append(piece)
            yield piece

    @property
    def completion(self) -> Completion:
        """The completion so far."""
        return Completion(
            "".join(self._pieces),
            tuple(choice.token_id for choice in self._choices),
            self.n_prompt_tokens,
            self._reason,
            self._stopped - self._started,
            self._first - self._started,
            tuple(self._choices) if self._has_log_probabilities else (),
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

    With `config.n` over 1 the completions of one prompt follow one another, and the first is the one of `n` = 1.
    The `UserError` for a prompt that is empty or over the model's `max_seq_len` has the prompt's number.
    """
    started = time.perf_counter()
    ids = [prompt_ids(tokenizer, prompt) for prompt in prompts]
    for number, prompt_token_ids in enumerate(ids, 1):
        try:
            check_prompt(len(prompt_token_ids), model.config.max_seq_len)
        except UserError as error:
            raise UserError(f"prompt {number} of {len(ids)}: {error.message}", error.hint) from None
    config = resolve_logit_bias(config, tokenizer, model.config.vocab_size)
    seeds = request_seeds(config.seed, len(ids)) if seeds is None else seeds
    ends = frozenset(stop_ids(tokenizer))
    is_chat = [not isinstance(prompt, str) for prompt in prompts for _ in range(config.n)]
    prefix = response_prefix(tokenizer) if any(is_chat) else ""
    check = StopStringCheck(tokenizer, config.stop, prefix) if config.stop else None
    ids = [one for one in ids for _ in range(config.n)]
    completions = generate_choices(
        model,
        ids,
        config,
        ends,
        seeds=[one for seed in seeds for one in completion_seeds(seed, config.n)],
        stop_check=check,
        micro_batch_size=micro_batch_size,
        rules=generation_rules(model, tokenizer),
    )
    seconds = time.perf_counter() - started
    return [
        _completion(tokenizer, len(prompt_token_ids), choices, ends, config, seconds, prefix if chat else "")
        for prompt_token_ids, choices, chat in zip(ids, completions, is_chat, strict=True)
    ]


def _completion(
    tokenizer: Tokenizer,
    n_prompt_tokens: int,
    choices: Sequence[Choice],
    ends: frozenset[int],
    config: SamplingConfig,
    seconds: float,
    prefix: str,
) -> Completion:
    text = TextStream(tokenizer, config.stop, prefix)
    token_ids = tuple(choice.token_id for choice in choices)
    shown = [text.push(token_id) for token_id in token_ids] + [text.finish()]
    ended = text.stopped or (bool(token_ids) and token_ids[-1] in ends)
    return Completion(
        "".join(shown),
        token_ids,
        n_prompt_tokens,
        "stop" if ended else "length",
        seconds,
        log_probabilities=tuple(choices) if config.log_probabilities is not None else (),
    )
