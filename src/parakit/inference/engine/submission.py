"""From a request to rows that can run: its prompt as ids, its limits held against the cache, its samplers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from parakit.common.errors import UserError
from parakit.inference.cache_dtype import resolve_cache_dtype
from parakit.inference.config import SamplingConfig
from parakit.inference.engine.adapters import RowAdapters, require_adapters
from parakit.inference.engine.paged_cache import PagedCache
from parakit.inference.engine.requests import Request, RequestHandle, Row
from parakit.inference.generation.completion import (
    check_prompt,
    max_completion,
    resolve_logit_bias,
)
from parakit.inference.generation.constraints import request_constraint
from parakit.inference.generation.context_window import FittedPrompt, fit_prompt
from parakit.inference.generation.published_rules import generation_rules
from parakit.inference.generation.sampling import (
    RequestSampler,
    TokenConstraint,
    completion_seeds,
    request_seeds,
)
from parakit.inference.generation.text_stream import TextStream
from parakit.model.heads import LanguageModel
from parakit.tokens.chat.template import response_prefix, stop_ids
from parakit.tokens.tokenizer.tokenizer import Tokenizer

MAX_COMPLETIONS = 10_000  # of one request


class RowMaker:
    """Makes the rows of requests to one model."""

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer | None,
        cache: PagedCache,
        adapters: RowAdapters | None,
    ) -> None:
        self.model, self.tokenizer, self.cache, self.adapters = model, tokenizer, cache, adapters
        self._rules = None if tokenizer is None else generation_rules(model, tokenizer)
        self._stop_ids = frozenset() if tokenizer is None else frozenset(stop_ids(tokenizer))

    def handle(self, request: Request) -> RequestHandle:
        """The request's handle with its rows. `UserError` for what can never run, naming the value and the limit."""
        n = request.sampling.n if request.n is None else request.n
        if not 1 <= n <= MAX_COMPLETIONS:
            raise UserError(
                f"n = {n}: a request has 1 to {MAX_COMPLETIONS} completions", "set n within these"
            )
        adapter = require_adapters(request.adapter, self.adapters)
        window = self._window(adapter)
        fitted = self._fitted(request, window)
        token_ids = fitted.token_ids
        limit = max_completion(len(token_ids), request.sampling, window)
        self._check_memory(len(token_ids), limit)
        ends = self._stop_ids if request.stop_ids is None else request.stop_ids
        rules = self._rules if request.rules == "published" else request.rules
        self._check_cache(request.sampling)
        sampling = self._sampling(request.sampling)
        is_chat = request.prompt is not None and not isinstance(request.prompt, str)
        prefix = request.response_prefix
        if self.tokenizer is not None and is_chat:
            prefix = response_prefix(self.tokenizer)
        make_constraint = request.constraint or self._make_constraint(sampling, prefix)
        handle = RequestHandle(
            replace(request, token_ids=None, prompt=None), token_ids, fitted.n_dropped_tokens
        )
        for index, seed in enumerate(_seeds(request, n)):
            constraint = None if make_constraint is None else make_constraint()
            sampler = RequestSampler(sampling, token_ids, seed, rules, limit, constraint, stop_ids=ends)
            text = None if self.tokenizer is None else TextStream(self.tokenizer, sampling.stop, prefix)
            handle.rows.append(Row(handle, index, limit, sampler, ends, text, adapter))
        return handle

    def _window(self, adapter: str | None) -> int:
        window = self.model.config.max_seq_len
        if self.adapters is not None:
            window = self.model.trunk.config.max_seq_len - self.adapters.n_prompt_tokens(adapter)
        return min(window, self.cache.max_seq_len)

    def _sampling(self, sampling: SamplingConfig) -> SamplingConfig:
        if self.tokenizer is not None:
            return resolve_logit_bias(sampling, self.tokenizer, self.model.config.vocab_size)
        for name in ("stop", "json_schema", "regex", "grammar"):
            if getattr(sampling, name) not in (None, ()):
                raise UserError(f"{name} needs a tokenizer, and the engine has none", "use stop_ids")
        return sampling

    def _check_cache(self, sampling: SamplingConfig) -> None:
        wanted = resolve_cache_dtype(self.model, sampling.cache_dtype)
        if sampling.cache_dtype != "auto" and wanted != self.cache.dtype:
            names = [str(dtype).removeprefix("torch.") for dtype in (wanted, self.cache.dtype)]
            raise UserError(
                f"a request wants a cache in {names[0]}, and the engine's is in {names[1]}",
                "set cache_dtype of the engine, and leave it out of the request",
            )

    def _make_constraint(self, sampling: SamplingConfig, prefix: str) -> Callable[[], TokenConstraint] | None:
        """What makes the constraint that the settings name; None without one."""
        if self.tokenizer is None:
            return None
        constraint = request_constraint(sampling, self.tokenizer, prefix)
        return None if constraint is None else constraint.start

    def _fitted(self, request: Request, window: int) -> FittedPrompt:
        if (request.prompt is None) == (request.token_ids is None):
            raise UserError("a request has either a prompt or token_ids", "set one of the two")
        if request.prompt is not None:
            if self.tokenizer is None:
                raise UserError("a text needs a tokenizer, and the engine has none", "give token_ids")
            return fit_prompt(self.tokenizer, request.prompt, request.sampling, window)
        assert request.token_ids is not None
        token_ids, n_ids = [int(i) for i in request.token_ids], self.model.config.vocab_size
        outside = next((i for i in token_ids if not 0 <= i < n_ids), None)
        if outside is not None:
            raise UserError(f"token id {outside}, and the vocabulary has {n_ids} ids", "they count from 0")
        check_prompt(len(token_ids), window)
        return FittedPrompt(token_ids)

    def _check_memory(self, n_prompt: int, limit: int) -> None:
        """`UserError` where one row alone could outgrow the cache."""
        for group in self.cache.groups:
            needed = self.cache.n_pages_alone(group, n_prompt + limit)
            if needed > group.pool.n_pages:
                raise UserError(
                    f"a prompt of {n_prompt} tokens with up to {limit} new ones needs"
                    f" {needed * group.page_bytes:,} bytes of cache, and the engine has"
                    f" {group.pool.n_pages * group.page_bytes:,}",
                    "lower max_new_tokens, shorten the prompt, raise memory_bytes, or set cache_dtype to int8",
                )


def _seeds(request: Request, n: int) -> Sequence[int]:
    if request.seed is None:
        return completion_seeds(request_seeds(request.sampling.seed, 1)[0], n)
    if isinstance(request.seed, int):
        return completion_seeds(request.seed, n)
    if len(request.seed) != n:
        raise UserError(f"{len(request.seed)} seeds for {n} completions", "give one seed for each")
    return request.seed
