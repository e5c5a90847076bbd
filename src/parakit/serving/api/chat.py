"""`/v1/chat/completions`: answers to conversations, whole or streamed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from parakit.inference.config import SamplingSettings
from parakit.inference.tool_calls.reasoning import ReasoningDelta
from parakit.serving.api.answers import token_logprob, truncation_headers, usage_json
from parakit.serving.api.messages import MAX_MESSAGES, ChatMessage, template_messages
from parakit.serving.api.prompts import PromptReference, read_prompt_reference
from parakit.serving.api.sampling import MAX_TOKENS, SamplingFields
from parakit.serving.api.streaming import DONE, EventStream, cancelling, closing, event
from parakit.serving.api.tools import ToolFields, call_delta_json, call_json
from parakit.serving.config import MAX_TOP_LOGPROBS
from parakit.serving.context import Account, Context, RequestId, client_name
from parakit.serving.generation.call import GenerationCall
from parakit.serving.generation.generation import Generation, GenerationEvent
from parakit.serving.generation.turns import AssistantTurn

if TYPE_CHECKING:
    from parakit.assistants.prompts.prompt import PromptTemplate

router = APIRouter(tags=["generate"])


class ChatRequest(SamplingFields, ToolFields):
    """The body of a chat request."""

    messages: Annotated[list[ChatMessage], Field(max_length=MAX_MESSAGES)]
    prompt: PromptReference | None = None
    max_completion_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)

    def sampling(self) -> SamplingSettings:
        settings = super().sampling()
        if self.max_completion_tokens is not None:
            settings["max_new_tokens"] = self.max_completion_tokens
        if self.logprobs:
            settings["log_probabilities"] = self.top_logprobs or 0
        return settings


@router.post("/v1/chat/completions")
async def chat_completions(
    body: ChatRequest, request: Request, context: Context, account: Account, request_id: RequestId
) -> Response:
    """Answer a conversation."""
    tools, tool_choice = body.read_tools()
    call = GenerationCall(
        **read_prompt_reference(context, body.model, body.prompt),
        messages=template_messages(body.messages),
        sampling=body.sampling(),
        n=body.n or 1,
        tools=tools,
        tool_choice=tool_choice,
        when_full=body.when_full,
        account=account,
        client=client_name(account, body.user),
        request_id=request_id,
    )
    generation = await context.service.start(call, watched=partial(cancelling, request.receive))
    prompt = context.registry.prompt_of(call.model)
    headers = truncation_headers(generation)
    if body.stream:
        return EventStream(_chunks(generation, body, prompt), generation, headers=headers)
    async with closing(request, generation):
        answers = [_Answer(generation, prompt) for _ in range(call.n)]
        async for one in generation:
            answers[one.number].add(one, generation)
        return JSONResponse(_whole(generation, body, answers), headers=headers)


class _Answer:
    """One completion as far as it is."""

    def __init__(self, generation: Generation, prompt: PromptTemplate | None = None) -> None:
        self.turn, self._prompt = AssistantTurn(generation), prompt
        self.logprobs: list[dict[str, Any]] = []

    def add(self, one: GenerationEvent, generation: Generation) -> None:
        self.turn.read(one)
        if not self.turn.is_reasoning:
            self.logprobs += _logprobs(one, generation)

    @property
    def message(self) -> dict[str, Any]:
        """The assistant's message."""
        turn = self.turn
        message = {"role": "assistant", "content": turn.text, "refusal": None}
        message |= _answer_in(turn.text, self._prompt)
        if turn.reasoning:
            message["reasoning_content"] = turn.reasoning
        if not turn.calls:
            return message
        return message | {
            "content": turn.text or None,
            "tool_calls": [call_json(call) for call in turn.calls],
        }


def _answer_in(text: str, prompt: PromptTemplate | None) -> dict[str, Any]:
    """The answer in a reply, where the prompt's file states where it is; null where the reply has not this form."""
    if prompt is None or (prompt.answer_after is None and prompt.answer_key is None):
        return {}
    return {"answer": prompt.answer_in(text)}


def _logprobs(one: GenerationEvent, generation: Generation) -> list[dict[str, Any]]:
    """Of the event's token; control tokens have no part in the text."""
    tokenizer = generation.served.tokenizer
    if one.choice is None or one.token_id in tokenizer.control_ids:
        return []
    return [token_logprob(tokenizer, one.choice)]


def _content_logprobs(logprobs: list[dict[str, Any]]) -> dict[str, Any] | None:
    return {"content": logprobs, "refusal": None} if logprobs else None


def _head(generation: Generation, body: ChatRequest, kind: str) -> dict[str, Any]:
    return {
        "id": generation.call.request_id.replace("req-", "chatcmpl-"),
        "object": kind,
        "created": generation.created,
        "model": body.model,
    }


def _whole(generation: Generation, body: ChatRequest, answers: list[_Answer]) -> dict[str, Any]:
    choices = [
        {
            "index": index,
            "message": answer.message,
            "logprobs": {"content": answer.logprobs, "refusal": None} if body.logprobs else None,
            "finish_reason": answer.turn.finish_reason,
        }
        for index, answer in enumerate(answers)
    ]
    head = _head(generation, body, "chat.completion")
    n_reasoning = sum(answer.turn.n_reasoning_tokens for answer in answers)
    return head | {"choices": choices, "usage": usage_json(generation.usage, n_reasoning)}


async def _chunks(
    generation: Generation, body: ChatRequest, prompt: PromptTemplate | None
) -> AsyncIterator[bytes]:
    """The answer as events: the role first, then the text, the reason to stop, and the usage where it is wanted."""
    head = _head(generation, body, "chat.completion.chunk")
    wants_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    extra: dict[str, Any] = {"usage": None} if wants_usage else {}

    def chunk(index: int, delta: dict[str, Any], reason: str | None = None, logprobs: Any = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return event(head | {"choices": [choice]} | extra)

    for index in range(generation.call.n):
        yield chunk(index, {"role": "assistant", "content": "", "refusal": None})
    turns = [AssistantTurn(generation) for _ in range(generation.call.n)]
    async for one in generation:
        turn = turns[one.number]
        events = turn.read(one)
        logprobs = _logprobs(one, generation) if body.logprobs and not turn.is_reasoning else []
        for found in events:
            if isinstance(found, ReasoningDelta):
                yield chunk(one.number, {"reasoning_content": found.text})
            elif isinstance(found, str):
                yield chunk(one.number, {"content": found}, None, _content_logprobs(logprobs))
                logprobs = []
            else:
                yield chunk(one.number, {"tool_calls": [call_delta_json(found)]})
        if logprobs:
            yield chunk(one.number, {"content": ""}, None, _content_logprobs(logprobs))
        if one.finish_reason is not None:
            yield chunk(one.number, _answer_in(turn.text, prompt), turn.finish_reason)
    if wants_usage:
        n_reasoning = sum(turn.n_reasoning_tokens for turn in turns)
        yield event(head | {"choices": [], "usage": usage_json(generation.usage, n_reasoning)})
    yield DONE
