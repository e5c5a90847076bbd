"""`/v1/responses`: an answer as items, whole or streamed, with the conversation so far from the store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from parakit.common.files import JsonObject
from parakit.data.conversations.messages import Message, ToolCall
from parakit.inference.tool_calls.parsing import ParsedCall
from parakit.serving.api.answers import token_logprob, truncation_headers
from parakit.serving.api.errors import ApiError
from parakit.serving.api.prompts import read_prompt_reference
from parakit.serving.api.responses.events import ResponseEvents
from parakit.serving.api.responses.request import (
    ResponsesRequest,
    item_rows,
    read_items,
    read_tools,
    with_instructions,
)
from parakit.serving.api.responses.store import ResponseStore, StoredResponse
from parakit.serving.api.streaming import DONE, EventStream, cancelling, closing, event, stream_error
from parakit.serving.context import Account, Context, RequestId, ServingContext, owner_of
from parakit.serving.generation.call import GenerationCall
from parakit.serving.generation.generation import Generation, GenerationEvent
from parakit.serving.generation.turns import AssistantTurn

router = APIRouter(tags=["generate"])


@router.post("/v1/responses")
async def create_response(
    body: ResponsesRequest, request: Request, context: Context, account: Account, request_id: RequestId
) -> Response:
    """Answer input items."""
    body.refuse_unsupported()
    tools, tool_choice = read_tools(body)
    named = read_prompt_reference(context, body.model, body.prompt)
    is_prompted = context.registry.prompt_of(named["model"]) is not None
    new = [] if is_prompted and not body.input else read_items(body.input)
    conversation = [*_earlier(context, account, body), *new]
    messages = with_instructions(body.instructions, conversation)
    if not messages and not is_prompted:
        raise ApiError("input: there are no items, and no instructions", "send a text", param="input")
    call = GenerationCall(
        **named,
        messages=tuple(message.to_row() for message in messages),
        sampling=body.sampling(),
        tools=tuple(tools),
        tool_choice=tool_choice,
        when_full=body.when_full,
        account=account,
        client=body.user or body.safety_identifier or "",
        request_id=request_id,
    )
    generation = await context.service.start(call, watched=partial(cancelling, request.receive))
    answer = _Answer(generation, body, conversation, context, account)
    headers = truncation_headers(generation)
    if body.stream:
        return EventStream(answer.stream(), generation, headers=headers)
    async with closing(request, generation):
        async for one in generation:
            answer.read(one)
        answer.finish()
        return JSONResponse(answer.events.response, headers=headers)


@router.get("/v1/responses/{response_id}")
async def get_response(response_id: str, context: Context, account: Account) -> JSONResponse:
    """A stored response."""
    return JSONResponse(_stored(context, account, response_id).response)


@router.get("/v1/responses/{response_id}/input_items")
async def list_input_items(response_id: str, context: Context, account: Account) -> JSONResponse:
    """The items that were sent with a stored response."""
    items = [
        {"id": f"item_{i}", **item} for i, item in enumerate(_stored(context, account, response_id).items)
    ]
    first, last = (items[0]["id"], items[-1]["id"]) if items else (None, None)
    listed = {"object": "list", "data": items, "first_id": first, "last_id": last, "has_more": False}
    return JSONResponse(listed)


@router.delete("/v1/responses/{response_id}")
async def delete_response(response_id: str, context: Context, account: Account) -> JSONResponse:
    """Forget a stored response."""
    _stored(context, account, response_id)
    store_of(context).delete(owner_of(account), response_id)
    return JSONResponse({"id": response_id, "object": "response", "deleted": True})


def store_of(context: ServingContext) -> ResponseStore:
    """The responses that a server keeps."""
    store = context.parts.setdefault("responses", ResponseStore())
    assert isinstance(store, ResponseStore)
    return store


def _stored(context: ServingContext, account: Any, response_id: str) -> StoredResponse:
    found = store_of(context).get(owner_of(account), response_id)
    if found is None:
        raise ApiError(
            f"no response {response_id[:80]!r} is stored",
            "the server keeps the newest in memory only: send the whole conversation as input",
            status=404,
            code="response_not_found",
            param="previous_response_id",
        )
    return found


def _earlier(context: ServingContext, account: Any, body: ResponsesRequest) -> list[Message]:
    """The conversation of the response that the request continues."""
    if body.previous_response_id is None:
        return []
    return list(_stored(context, account, body.previous_response_id).messages)


class _Answer:
    """The response of one generation."""

    def __init__(
        self,
        generation: Generation,
        body: ResponsesRequest,
        conversation: list[Message],
        context: ServingContext,
        account: Any,
    ) -> None:
        self._generation, self._body, self._conversation = generation, body, conversation
        self._context, self._account = context, account
        self._turn = AssistantTurn(generation)
        self._logprobs: list[JsonObject] = []
        """Of tokens whose text has not been sent yet."""
        response_id = generation.call.request_id.replace("req-", "resp_")
        self.events = ResponseEvents(body, _settings_of(generation), response_id)

    def read(self, one: GenerationEvent) -> list[JsonObject]:
        """The events of a token."""
        tokenizer, sent = self._generation.served.tokenizer, list[JsonObject]()
        events = self._turn.read(one)
        if self._turn.is_reasoning:
            self._logprobs = []
        elif (
            self._body.wants_logprobs and one.choice is not None and one.token_id not in tokenizer.control_ids
        ):
            self._logprobs.append(token_logprob(tokenizer, one.choice))
        for found in events:
            if isinstance(found, str):
                sent += self.events.push(found, self._logprobs)
                self._logprobs = []
            else:
                sent += self.events.push(found)
        return sent

    def finish(self) -> list[JsonObject]:
        """The last events; the response is stored."""
        turn, generation = self._turn, self._generation
        if generation.n_dropped_tokens:
            self.events.response["truncated"] = {
                "dropped_messages": generation.n_dropped_messages,
                "dropped_tokens": generation.n_dropped_tokens,
            }
        sent = self.events.finish(turn.finish_reason != "length", generation.usage, turn.n_reasoning_tokens)
        if self._body.store is not False:
            calls = tuple(map(_call, turn.calls))
            reasoning = turn.reasoning or None
            written = Message("assistant", turn.text, tool_calls=calls, reasoning_content=reasoning)
            stored = StoredResponse(
                self.events.response, item_rows(self._body.input), (*self._conversation, written)
            )
            store_of(self._context).put(owner_of(self._account), stored)
        return sent

    async def stream(self) -> AsyncIterator[bytes]:
        """All events; an error becomes the last one."""
        for one in self.events.start():
            yield event(one, one["type"])
        try:
            async for token in self._generation:
                for one in self.read(token):
                    yield event(one, one["type"])
            last = self.finish()
        except OSError:
            raise
        except Exception as error:
            _, found = stream_error(error)
            last = self.events.fail(found["error"]["message"], used=self._generation.usage)
        for one in last:
            yield event(one, one["type"])
        yield DONE


def _call(call: ParsedCall) -> ToolCall:
    return ToolCall(call.name, call.arguments if call.is_complete else "{}", call.id)


def _settings_of(generation: Generation) -> JsonObject:
    """The settings with which the tokens are chosen."""
    sampling = generation.sampling
    names = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
    return {name: getattr(sampling, name) for name in names}
