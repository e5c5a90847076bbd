"""`/v1/messages`: an answer as content blocks, whole or streamed, and the count of a prompt's tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from parakit.common.files import JsonObject
from parakit.serving.api.answers import truncation_headers
from parakit.serving.api.anthropic_messages.errors import messages_error
from parakit.serving.api.anthropic_messages.events import MessageEvents, StopReason
from parakit.serving.api.anthropic_messages.request import (
    CountTokensRequest,
    MessagesRequest,
    read_messages,
    read_tools,
)
from parakit.serving.api.prompts import read_prompt_reference
from parakit.serving.api.streaming import EventStream, cancelling, closing, event, stream_error
from parakit.serving.context import Account, Context, RequestId
from parakit.serving.generation.call import GenerationCall
from parakit.serving.generation.generation import Generation, GenerationEvent
from parakit.serving.generation.turns import AssistantTurn

router = APIRouter(tags=["generate"])


@router.post("/v1/messages")
async def create_message(
    body: MessagesRequest, request: Request, context: Context, account: Account, request_id: RequestId
) -> Response:
    """Answer a conversation of content blocks."""
    tools, tool_choice = read_tools(body)
    call = GenerationCall(
        **read_prompt_reference(context, body.model, body.prompt),
        messages=tuple(message.to_row() for message in read_messages(body)),
        sampling=body.sampling(),
        tools=tuple(tools),
        tool_choice=tool_choice,
        when_full=body.when_full,
        account=account,
        client=str((body.metadata or {}).get("user_id") or "")[:1000],
        request_id=request_id,
    )
    generation = await context.service.start(call, watched=partial(cancelling, request.receive))
    answer = _Answer(generation)
    headers = truncation_headers(generation)
    if body.stream:
        return EventStream(answer.stream(), generation, headers=headers)
    async with closing(request, generation):
        async for one in generation:
            answer.read(one)
        answer.finish()
        return JSONResponse(answer.events.message, headers=headers)


@router.post("/v1/messages/count_tokens")
async def count_tokens(body: CountTokensRequest, context: Context, account: Account) -> JSONResponse:
    """The tokens that a conversation has as a prompt, tools and template included."""
    tools, tool_choice = read_tools(body)
    call = GenerationCall(
        **read_prompt_reference(context, body.model, body.prompt),
        messages=tuple(message.to_row() for message in read_messages(body)),
        tools=tuple(tools),
        tool_choice=tool_choice,
    )
    call = await context.service.filled(call)
    async with context.registry.open(call.model) as use:
        n_tokens = await asyncio.to_thread(use.served.n_prompt_tokens, call)
    return JSONResponse({"input_tokens": n_tokens})


class _Answer:
    """The message of one generation."""

    def __init__(self, generation: Generation) -> None:
        self._generation, self._turn = generation, AssistantTurn(generation)
        self.events = MessageEvents(generation.call.model)
        self._is_started = False

    def read(self, one: GenerationEvent) -> list[JsonObject]:
        """The events of a token."""
        sent = []
        if not self._is_started:  # with the first token it is known what the cache held
            self._is_started = True
            sent = self.events.start(self._generation.usage)
        for found in self._turn.read(one):
            sent += self.events.push(found)
        return sent

    def finish(self) -> list[JsonObject]:
        """The last events."""
        stop_string = self._turn.stop_string
        reasons: dict[str | None, StopReason] = {"length": "max_tokens", "tool_calls": "tool_use"}
        reason = reasons.get(self._turn.finish_reason, "stop_sequence" if stop_string else "end_turn")
        stop_string = stop_string if reason == "stop_sequence" else None
        return self.events.finish(reason, self._generation.usage, stop_string)

    async def stream(self) -> AsyncIterator[bytes]:
        """All events; an error becomes the last one."""
        try:
            async for token in self._generation:
                for one in self.read(token):
                    yield event(one, one["type"])
            for one in self.finish():
                yield event(one, one["type"])
        except OSError:
            raise
        except Exception as error:
            status, found = stream_error(error)
            yield event(messages_error(status, found, self._generation.call.request_id), "error")
