"""`/v1/completions`: texts, or token ids, continued as they are, without a chat template; several prompts in one request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from parakit.inference.config import SamplingSettings
from parakit.serving.api.answers import truncation_headers, usage_json
from parakit.serving.api.errors import ApiError
from parakit.serving.api.sampling import MAX_TOKENS, SamplingFields
from parakit.serving.api.streaming import DONE, EventStream, closing, event
from parakit.serving.config import MAX_COMPLETIONS, MAX_TOP_LOGPROBS
from parakit.serving.context import Account, Context, RequestId, client_name
from parakit.serving.generation.call import GenerationCall, Usage
from parakit.serving.generation.generation import Generation, GenerationEvent
from parakit.serving.generation.merging import merged

router = APIRouter(tags=["generate"])
MAX_PROMPTS = 128
MAX_PROMPT_CHARS = 32 * 2**20
DEFAULT_TOKENS = 16  # as OpenAI's API has it
TokenIds = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(max_length=MAX_TOKENS)]
PromptText = Annotated[str, Field(max_length=MAX_PROMPT_CHARS)]


class CompletionRequest(SamplingFields):
    """The body of a completion request."""

    prompt: (
        PromptText
        | TokenIds
        | Annotated[list[PromptText | TokenIds], Field(min_length=1, max_length=MAX_PROMPTS)]
    )
    echo: bool | None = None
    logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    best_of: int | None = Field(default=None, ge=1, le=MAX_COMPLETIONS)
    suffix: str | None = None

    def sampling(self) -> SamplingSettings:
        settings = super().sampling()
        settings.setdefault("max_new_tokens", DEFAULT_TOKENS)
        if self.logprobs is not None:
            settings["log_probabilities"] = self.logprobs
        return settings

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each prompt: a text or token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if not self.prompt or isinstance(self.prompt[0], int):
            return [self.prompt]  # type: ignore[list-item]
        return list(self.prompt)

    def check(self) -> None:
        """`ApiError` for what no model here does."""
        if self.suffix:
            raise ApiError("suffix: no model here fills gaps", "leave it out", param="suffix")
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise ApiError(
                f"best_of = {self.best_of}: it must equal n here",
                "set n, and choose among them",
                param="best_of",
            )
        if self.echo and self.logprobs is not None:
            raise ApiError(
                "echo and logprobs: a prompt has no log-probabilities here", "set one", param="echo"
            )
        if len(self.prompts) * (self.n or 1) > MAX_COMPLETIONS:
            raise ApiError(
                f"{len(self.prompts)} prompts with n = {self.n or 1}, and a request has {MAX_COMPLETIONS} completions at"
                " most",
                "send several requests",
                param="n",
            )


@router.post("/v1/completions")
async def completions(
    body: CompletionRequest, request: Request, context: Context, account: Account, request_id: RequestId
) -> Response:
    """Continue texts."""
    body.check()
    generations: list[Generation] = []
    try:
        for number, prompt in enumerate(body.prompts):
            call = GenerationCall(
                model=body.model,
                prompt=prompt if isinstance(prompt, str) else None,
                token_ids=None if isinstance(prompt, str) else tuple(prompt),
                sampling=body.sampling(),
                n=body.n or 1,
                when_full=body.when_full,
                account=account,
                client=client_name(account, body.user),
                request_id=request_id if number == 0 else f"{request_id}-{number}",
            )
            generations.append(await context.service.start(call))
    except BaseException:
        for generation in generations:
            await generation.close()
        raise
    headers = truncation_headers(*generations)
    if body.stream:
        return EventStream(_chunks(generations, body), *generations, headers=headers)
    async with closing(request, *generations):
        n = body.n or 1
        texts = [_TextSoFar(generation) for generation in generations for _ in range(n)]
        choices: list[dict[str, Any]] = [
            {"text": _echoed(texts[i].generation, body)} for i in range(len(texts))
        ]
        async for number, one in merged(generations):
            place = number * n + one.number
            for key, value in texts[place].choice(one, place, body).items():
                choices[place][key] = _joined(choices[place].get(key), value)
        whole = _head(generations[0], body) | {"choices": choices, "usage": usage_json(_usage(generations))}
        return JSONResponse(whole, headers=headers)


class _TextSoFar:
    """One completion: how long its text is."""

    def __init__(self, generation: Generation) -> None:
        self.generation, self.n_chars = generation, 0

    def choice(self, one: GenerationEvent, place: int, body: CompletionRequest) -> dict[str, Any]:
        """The event as a `choice`."""
        logprobs = None if body.logprobs is None else self._logprobs(one, body.logprobs)
        self.n_chars += len(one.text)
        return {"index": place, "text": one.text, "logprobs": logprobs, "finish_reason": one.finish_reason}

    def _logprobs(self, one: GenerationEvent, n_alternatives: int) -> dict[str, list[Any]]:
        tokenizer, choice = self.generation.served.tokenizer, one.choice
        if choice is None or choice.token_id in tokenizer.control_ids:
            return {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        top = {tokenizer.decode([other.token_id]): other.log_probability for other in choice.alternatives}
        return {
            "tokens": [tokenizer.decode([choice.token_id])],
            "token_logprobs": [choice.log_probability],
            "top_logprobs": [top if n_alternatives else None],
            "text_offset": [self.n_chars],
        }


def _joined(before: Any, value: Any) -> Any:
    """What a key of a choice is after one more event: texts and log-probabilities grow, the rest is replaced."""
    if isinstance(before, str) and isinstance(value, str):
        return before + value
    if isinstance(before, dict) and isinstance(value, dict):
        return {key: before[key] + value[key] for key in before}
    return value


def _head(generation: Generation, body: CompletionRequest) -> dict[str, Any]:
    return {
        "id": generation.call.request_id.replace("req-", "cmpl-"),
        "object": "text_completion",
        "created": generation.created,
        "model": body.model,
    }


def _echoed(generation: Generation, body: CompletionRequest) -> str:
    """The prompt, where the request wants it repeated."""
    if not body.echo:
        return ""
    call = generation.call
    return (
        generation.served.tokenizer.decode(list(call.token_ids or ())) if call.prompt is None else call.prompt
    )


def _usage(generations: list[Generation]) -> Usage:
    return sum((generation.usage for generation in generations), Usage())


async def _chunks(generations: list[Generation], body: CompletionRequest) -> AsyncIterator[bytes]:
    head, n = _head(generations[0], body), body.n or 1
    wants_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    extra: dict[str, Any] = {"usage": None} if wants_usage else {}
    texts = [_TextSoFar(generation) for generation in generations for _ in range(n)]
    if body.echo:
        for place, text in enumerate(texts):
            choice: dict[str, Any] = {
                "index": place,
                "text": _echoed(text.generation, body),
                "logprobs": None,
                "finish_reason": None,
            }
            yield event(head | {"choices": [choice]} | extra)
    async for number, one in merged(generations):
        place = number * n + one.number
        choice = texts[place].choice(one, place, body)
        has_logprobs = choice["logprobs"] is not None and choice["logprobs"]["tokens"]
        if one.text or one.finish_reason is not None or has_logprobs:
            yield event(head | {"choices": [choice]} | extra)
    if wants_usage:
        yield event(head | {"choices": [], "usage": usage_json(_usage(generations))})
    yield DONE
