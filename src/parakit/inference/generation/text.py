"""Generating text: a prompt or a conversation in, a completion out; at once, streamed, or many in a batch; sampled,
or searched by beams or contrast.

A plain prompt gets what its tokenizer puts around a text (BOS, or nothing); a conversation is compiled by the chat
template that tuning used. Sampled at once, streamed or in a batch the text is the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from parakit.common.errors import UserError
from parakit.inference.batching import MICRO_BATCH_SIZE
from parakit.inference.capabilities import require_capability
from parakit.inference.config import BeamConfig, DecodingConfig, DecodingMethod, SamplingConfig
from parakit.inference.engine.engine import Engine
from parakit.inference.generation.beam_search import beam_search
from parakit.inference.generation.completion import Completion as Completion
from parakit.inference.generation.completion import FinishReason as FinishReason
from parakit.inference.generation.completion import Prompt as Prompt
from parakit.inference.generation.completion import SpeculationStatistics, resolve_logit_bias
from parakit.inference.generation.completion import context_ids as context_ids
from parakit.inference.generation.completion import prompt_ids as prompt_ids
from parakit.inference.generation.constraints import request_constraint
from parakit.inference.generation.context_window import FittedPrompt, fit_prompt
from parakit.inference.generation.contrastive_search import contrastive_search
from parakit.inference.generation.decoding import generate_choices, stream_choices
from parakit.inference.generation.drafts import Speculation
from parakit.inference.generation.published_rules import generation_rules
from parakit.inference.generation.sampling import Choice, completion_seeds, request_seeds
from parakit.inference.generation.speculative import speculative_choices
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
        prompt: Prompt | FittedPrompt,
        config: SamplingConfig,
        *,
        seed: int | None = None,
        engine: Engine | None = None,
        speculation: Speculation | None = None,
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
        fitted = prompt
        if not isinstance(fitted, FittedPrompt):
            fitted = fit_prompt(tokenizer, fitted, config, model.config.max_seq_len)
        self.n_prompt_tokens, self.n_dropped_tokens = len(fitted.token_ids), fitted.n_dropped_tokens
        self._statistics = None if speculation is None else SpeculationStatistics()
        settings: dict[str, Any] = {"seed": seed, "rules": generation_rules(model, tokenizer)}
        settings["constraint"] = request_constraint(config, tokenizer, prefix)
        choices: Callable[..., Generator[Choice, None, None]] = partial(stream_choices, engine=engine)
        if speculation is not None:
            choices = partial(speculative_choices, speculation=speculation, statistics=self._statistics)
        self._stream = choices(model, fitted.token_ids, config, stop_ids=self._stop_ids, **settings)

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
    def token_ids(self) -> list[int]:
        """The ids so far, with one that ends the text."""
        return [choice.token_id for choice in self._choices]

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
            n_dropped_tokens=self.n_dropped_tokens,
            speculation=self._statistics,
        )


def stream(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: Prompt | FittedPrompt,
    config: SamplingConfig,
    *,
    seed: int | None = None,
    engine: Engine | None = None,
    speculation: Speculation | None = None,
) -> CompletionStream:
    """Complete a prompt, or a conversation that is encoded already, piece by piece; on an `engine` of this model what it read
    before is not read again. Where there is a `speculation`, drafts are checked instead, without the engine.

    Raises `UserError` for a prompt that is empty or over the model's `max_seq_len`, and for a model that generates no
    text.
    """
    return CompletionStream(
        model, tokenizer, prompt, config, seed=seed, engine=engine, speculation=speculation
    )


def generate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: Prompt,
    config: SamplingConfig,
    *,
    seed: int | None = None,
    speculation: Speculation | None = None,
) -> Completion:
    """Complete one prompt. Errors as for `stream`."""
    pieces = stream(model, tokenizer, prompt, config, seed=seed, speculation=speculation)
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
    fitted = _fitted(model, tokenizer, prompts, config)
    config = resolve_logit_bias(config, tokenizer, model.config.vocab_size)
    seeds = request_seeds(config.seed, len(fitted)) if seeds is None else seeds
    ends = frozenset(stop_ids(tokenizer))
    is_chat = [not isinstance(prompt, str) for prompt in prompts for _ in range(config.n)]
    prefix = response_prefix(tokenizer) if any(is_chat) else ""
    check = StopStringCheck(tokenizer, config.stop, prefix) if config.stop else None
    fitted = [one for one in fitted for _ in range(config.n)]
    constraints = {
        chat: request_constraint(config, tokenizer, prefix if chat else "") for chat in set(is_chat)
    }
    completions = generate_choices(
        model,
        [one.token_ids for one in fitted],
        config,
        ends,
        seeds=[one for seed in seeds for one in completion_seeds(seed, config.n)],
        stop_check=check,
        micro_batch_size=micro_batch_size,
        rules=generation_rules(model, tokenizer),
        constraints=[constraints[chat] for chat in is_chat],
    )
    seconds = time.perf_counter() - started
    has_log_probabilities = config.log_probabilities is not None
    return [
        replace(
            _completion(
                tokenizer,
                prompt,
                [choice.token_id for choice in choices],
                ends,
                seconds,
                prefix if chat else "",
                config.stop,
            ),
            log_probabilities=tuple(choices) if has_log_probabilities else (),
        )
        for prompt, choices, chat in zip(fitted, completions, is_chat, strict=True)
    ]


def complete(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    config: DecodingMethod,
    *,
    micro_batch_size: int = MICRO_BATCH_SIZE,
    speculation: Speculation | None = None,
) -> list[list[Completion]]:
    """The completions of each prompt by any way of decoding: `config.n` samples, the beams, best first, or one.

    With a `speculation` samples are drawn one by one. Errors as for `generate_batch`.
    """
    if speculation is not None:
        return _complete_with_drafts(model, tokenizer, prompts, config, speculation)
    if isinstance(config, SamplingConfig):
        flat = generate_batch(model, tokenizer, prompts, config, micro_batch_size=micro_batch_size)
        return [flat[i : i + config.n] for i in range(0, len(flat), config.n)]
    started = time.perf_counter()
    fitted = _fitted(model, tokenizer, prompts, config)
    ids = [one.token_ids for one in fitted]
    ends, rules = frozenset(stop_ids(tokenizer)), generation_rules(model, tokenizer)
    resolved = resolve_logit_bias(config, tokenizer, model.config.vocab_size)
    found: list[list[tuple[list[int], float | None]]]
    if isinstance(resolved, BeamConfig):
        searched = beam_search(model, ids, resolved, ends, micro_batch_size=micro_batch_size, rules=rules)
        found = [[(beam.token_ids, beam.score) for beam in beams] for beams in searched]
    else:
        found = [[(one, None)] for one in contrastive_search(model, ids, resolved, ends, rules=rules)]
    seconds = time.perf_counter() - started
    prefixes = ["" if isinstance(prompt, str) else response_prefix(tokenizer) for prompt in prompts]
    return [
        [
            replace(_completion(tokenizer, prompt, token_ids, ends, seconds, prefix), score=score)
            for token_ids, score in some
        ]
        for prompt, some, prefix in zip(fitted, found, prefixes, strict=True)
    ]


def _complete_with_drafts(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    config: DecodingMethod,
    speculation: Speculation,
) -> list[list[Completion]]:
    if not isinstance(config, SamplingConfig):
        raise UserError(
            "drafts speed up sampling and greedy decoding only", "leave out the drafts, or the search"
        )
    _fitted(model, tokenizer, prompts, config)
    alone = config.replace(n=1)
    return [
        [
            generate(model, tokenizer, prompt, alone, seed=one, speculation=speculation)
            for one in completion_seeds(seed, config.n)
        ]
        for prompt, seed in zip(prompts, request_seeds(config.seed, len(prompts)), strict=True)
    ]


def _fitted(
    model: LanguageModel, tokenizer: Tokenizer, prompts: Sequence[Prompt], config: DecodingConfig
) -> list[FittedPrompt]:
    """The prompts as ids that the model can read."""
    fitted = []
    for number, prompt in enumerate(prompts, 1):
        try:
            fitted.append(fit_prompt(tokenizer, prompt, config, model.config.max_seq_len))
        except UserError as error:
            if len(prompts) == 1:
                raise
            raise UserError(f"prompt {number} of {len(prompts)}: {error.message}", error.hint) from None
    return fitted


def _completion(
    tokenizer: Tokenizer,
    prompt: FittedPrompt,
    token_ids: Sequence[int],
    ends: frozenset[int],
    seconds: float,
    prefix: str,
    stop: Sequence[str] = (),
) -> Completion:
    text = TextStream(tokenizer, stop, prefix)
    shown = [text.push(token_id) for token_id in token_ids] + [text.finish()]
    ended = text.stopped or (bool(token_ids) and token_ids[-1] in ends)
    reason: FinishReason = "stop" if ended else "length"
    return Completion(
        "".join(shown),
        tuple(token_ids),
        len(prompt.token_ids),
        reason,
        seconds,
        n_dropped_tokens=prompt.n_dropped_tokens,
    )
