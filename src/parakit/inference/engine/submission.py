"""From a request to rows that can run: its prompt as ids, its limits held against the cache, its samplers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from parakit.common.errors import UserError
from parakit.inference.engine.paged_cache import PagedCache
from parakit.inference.engine.requests import Request, RequestHandle, Row
from parakit.inference.generation.completion import check_prompt, max_completion, prompt_ids
from parakit.inference.generation.sampling import RequestSampler, completion_seeds, request_seeds
from parakit.inference.generation.text_stream import TextStream
from parakit.model.heads import LanguageModel
from parakit.tokens.chat.template import response_prefix, stop_ids
from parakit.tokens.tokenizer.tokenizer import Tokenizer

MAX_COMPLETIONS = 10_000  # of one request


def make_handle(
    request: Request, model: LanguageModel, tokenizer: Tokenizer | None, cache: PagedCache
) -> RequestHandle:
    """The handle with its rows. Raises `UserError` for what can never run, naming the value and the limit."""
    if not 1 <= request.n <= MAX_COMPLETIONS:
        raise UserError(
            f"n = {request.n}: a request has 1 to {MAX_COMPLETIONS} completions", "set n within these"
        )
    if tokenizer is None and request.sampling.stop:
        raise UserError(
            "stop strings need a tokenizer, and this engine has none", "give it one, or use stop_ids"
        )
    token_ids = _token_ids(request, model, tokenizer)
    window = model.config.max_seq_len
    check_prompt(len(token_ids), window)
    limit = max_completion(len(token_ids), request.sampling, window)
    _check_memory(cache, len(token_ids), limit)
    ends = request.stop_ids
    if ends is None:
        ends = frozenset() if tokenizer is None else frozenset(stop_ids(tokenizer))
    is_chat = request.prompt is not None and not isinstance(request.prompt, str)
    prefix = response_prefix(tokenizer) if tokenizer is not None and is_chat else ""
    handle = RequestHandle(replace(request, token_ids=None, prompt=None), token_ids)
    for index, seed in enumerate(_seeds(request)):
        constraint = None if request.constraint is None else request.constraint()
        sampler = RequestSampler(
            request.sampling, token_ids, seed, request.rules, limit, constraint, stop_ids=ends
        )
        text = None if tokenizer is None else TextStream(tokenizer, request.sampling.stop, prefix)
        handle.rows.append(Row(handle, index, limit, sampler, ends, text, request.adapter))
    return handle


def _token_ids(request: Request, model: LanguageModel, tokenizer: Tokenizer | None) -> list[int]:
    if (request.prompt is None) == (request.token_ids is None):
        raise UserError("a request has either a prompt or token_ids", "set one of the two")
    if request.token_ids is None:
        if tokenizer is None:
            raise UserError("a prompt of text needs a tokenizer, and this engine has none", "give token_ids")
        assert request.prompt is not None
        return prompt_ids(tokenizer, request.prompt)
    token_ids, n_ids = [int(i) for i in request.token_ids], model.config.vocab_size
    outside = next((i for i in token_ids if not 0 <= i < n_ids), None)
    if outside is not None:
        raise UserError(f"token id {outside}, and the model's vocabulary has {n_ids}", "ids count from 0")
    return token_ids


def _seeds(request: Request) -> Sequence[int]:
    if request.seed is None:
        return completion_seeds(request_seeds(request.sampling.seed, 1)[0], request.n)
    if isinstance(request.seed, int):
        return completion_seeds(request.seed, request.n)
    if len(request.seed) != request.n:
        raise UserError(f"{len(request.seed)} seeds for {request.n} completions", "give one seed for each")
    return request.seed


def _check_memory(cache: PagedCache, n_prompt: int, limit: int) -> None:
    """`UserError` where one row alone could outgrow the cache."""
    for group in cache.groups:
        needed = cache.n_pages_alone(group, n_prompt + limit)
        if needed > group.pool.n_pages:
            raise UserError(
                f"a prompt of {n_prompt} tokens with up to {limit} new ones needs {needed * group.page_bytes:,} bytes"
                f" of cache, and the engine has {group.pool.n_pages * group.page_bytes:,}",
                "lower max_new_tokens, shorten the prompt, raise memory_bytes, or choose cache_dtype: int8",
            )
