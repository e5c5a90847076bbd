"""`/v1/answers`: answers from an index of documents, with checked citations; `/v1/documents`: the indexes.

A quota is looked at before the model is opened. The question is searched and prepared in a thread, and the model answers like
any chat request: metered, in turn with others. A question that is refused without the model is a request of no tokens. A
stream has the passages first, then the model's text as it comes, then the answer with its checked citations. An index that
is brought up to date meanwhile is read again.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from parakit.common.errors import UserError
from parakit.common.settings import closest_match
from parakit.data.conversations.conversation import Message
from parakit.inference.chat_models.local import LocalChatModel
from parakit.inference.config import SamplingSettings
from parakit.inference.tool_calls.reasoning import ReasoningDelta
from parakit.serving.api.answers import usage_json
from parakit.serving.api.errors import ApiError
from parakit.serving.api.messages import MAX_MESSAGES, ChatMessage, template_messages
from parakit.serving.api.prompts import refuse_prompt
from parakit.serving.api.sampling import MAX_TOKENS, ApiModel, ModelName, ShortText
from parakit.serving.api.streaming import DONE, EventStream, closing, event
from parakit.serving.context import Account, Context, RequestId, ServingContext, client_name
from parakit.serving.generation.call import GenerationCall, Usage
from parakit.serving.generation.generation import Generation
from parakit.serving.generation.turns import AssistantTurn
from parakit.serving.models.served_model import ServedModel

if TYPE_CHECKING:  # a server without documents starts without what reads and searches them
    from parakit.assistants.retrieval.asking import DocumentAnswer, DocumentAssistant, PreparedQuestion
    from parakit.assistants.retrieval.search import DocumentIndex

PART = "documents"  # of the context: the indexes by name
router = APIRouter(tags=["generate"])


class AnswersRequest(ApiModel):
    """The body of a question to an index: the last message is the question, those before it the conversation."""

    model: ModelName
    documents: ShortText
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: int = Field(default=200, ge=1, le=MAX_TOKENS)
    temperature: float = Field(default=0.0, ge=0.0, le=100.0)
    n_passages: int | None = Field(default=None, ge=1, le=100)  # None: as many as the index says
    by: Literal["fused", "words", "vectors"] = "fused"
    threshold: float | None = None
    rewrite: Literal["words", "none"] = "words"
    stream: bool = False
    user: ShortText | None = None


def open_indexes(given: Sequence[str], device: str) -> dict[str, DocumentIndex]:
    """Open indexes, as NAME=PATH or PATH, by their names. `UserError` for a folder that is none, and for two of one name."""
    if not given:
        return {}
    from parakit.assistants.retrieval.search import DocumentIndex

    found: dict[str, DocumentIndex] = {}
    for one in given:
        name, equals, path = one.partition("=")
        if not equals or os.path.exists(one):
            name, path = Path(one).resolve().name, one
        if name in found:
            raise UserError(f"two indexes are called {name!r}", f"name one of them: NAME={path}")
        found[name] = DocumentIndex(path, device=device)
    return found


@router.get("/v1/documents")
async def list_documents(context: Context, account: Account) -> dict[str, Any]:
    """The indexes that a question may name."""
    return {"object": "list", "data": [_describe(name, one) for name, one in _indexes(context).items()]}


@router.post("/v1/answers")
async def create_answer(
    body: AnswersRequest, request: Request, context: Context, account: Account, request_id: RequestId
) -> Response:
    """Answer a question from an index."""
    from parakit.assistants.retrieval.asking import DocumentAssistant
    from parakit.assistants.retrieval.config import AskConfig

    refuse_prompt(context, body.model, "answers from documents")
    index = _index_of(context, body.documents)
    *history, question = [
        Message(str(one["role"]), str(one["content"])) for one in template_messages(body.messages)
    ]
    if question.role != "user":
        raise ApiError("messages: the last one is the question, of role user", param="messages")
    config = AskConfig(
        max_new_tokens=body.max_tokens,
        by=body.by,
        threshold=body.threshold,
        rewrite=body.rewrite,
    )
    if body.n_passages is not None:
        config = config.replace(n_passages=body.n_passages)
    call = GenerationCall(
        model=body.model,
        sampling=SamplingSettings(max_new_tokens=body.max_tokens, temperature=body.temperature),
        account=account,
        client=client_name(account, body.user),
        request_id=request_id,
    )
    async with context.service.work(call, "answers") as work:
        assistant = DocumentAssistant(index, _chat_model(work.use.served), config)
        prepared = await context.service.in_thread(assistant.prepare, question.content, history)
        if prepared.context is None:
            whole = _whole(body, request_id, assistant.finish(prepared, ""), Usage())
            return (
                EventStream(_refusal(body, request_id, prepared, whole))
                if body.stream
                else JSONResponse(whole)
            )
        generation = await context.service.start(replace(call, messages=_mappings(prepared)), work)
    if body.stream:
        return EventStream(_chunks(body, context, assistant, prepared, generation), generation)
    async with closing(request, generation):
        turn = AssistantTurn(generation)
        async for one in generation:
            turn.read(one)
        answer = await context.service.in_thread(assistant.finish, prepared, turn.text)
        return JSONResponse(_whole(body, request_id, answer, generation.usage))


def _chat_model(served: ServedModel) -> LocalChatModel:
    return LocalChatModel.wrap(served.model.network, served.tokenizer, served.name)


def _mappings(prepared: PreparedQuestion) -> tuple[dict[str, Any], ...]:
    assert prepared.context is not None
    return tuple({"role": one.role, "content": one.content} for one in prepared.context.messages)


def _head(body: AnswersRequest, request_id: str, kind: str) -> dict[str, Any]:
    names = {"model": body.model, "documents": body.documents}
    return {"id": request_id.replace("req-", "answer-"), "object": kind} | names


def _whole(body: AnswersRequest, request_id: str, answer: DocumentAnswer, usage: Usage) -> dict[str, Any]:
    return _head(body, request_id, "answer") | answer.to_json() | {"usage": usage_json(usage)}


async def _refusal(
    body: AnswersRequest, request_id: str, prepared: PreparedQuestion, whole: dict[str, Any]
) -> AsyncIterator[bytes]:
    """The events of a question that is refused without the model."""
    yield event(_head(body, request_id, "answer.passages") | prepared.to_json())
    yield event(whole)
    yield DONE


async def _chunks(
    body: AnswersRequest,
    context: ServingContext,
    assistant: DocumentAssistant,
    prepared: PreparedQuestion,
    generation: Generation,
) -> AsyncIterator[bytes]:
    """The passages, the text as the model writes it, whose marks are not checked yet, and the answer."""
    request_id, turn = generation.call.request_id, AssistantTurn(generation)
    yield event(_head(body, request_id, "answer.passages") | prepared.to_json())
    head = _head(body, request_id, "answer.delta")
    async for one in generation:
        for found in turn.read(one):
            if isinstance(found, ReasoningDelta):
                yield event(head | {"reasoning_content": found.text})
            elif isinstance(found, str):
                yield event(head | {"delta": found})
    answer = await context.service.in_thread(assistant.finish, prepared, turn.text)
    yield event(_whole(body, request_id, answer, generation.usage))
    yield DONE


def _indexes(context: ServingContext) -> dict[str, DocumentIndex]:
    indexes: dict[str, DocumentIndex] = context.parts.get(PART, {})
    return indexes


def _index_of(context: ServingContext, name: str) -> DocumentIndex:
    indexes = _indexes(context)
    if name in indexes:
        return indexes[name]
    close = closest_match(name, indexes)
    known = ", ".join(indexes) or "none: start the server with --documents INDEX"
    raise ApiError(
        f"no documents are called {name!r}",
        f"did you mean {close!r}? There are: {known}" if close else f"there are: {known}",
        status=404,
        code="documents_not_found",
        param="documents",
    )


def _describe(name: str, index: DocumentIndex) -> dict[str, Any]:
    index.refresh()
    result = index.lineage["result"]
    return {
        "id": name,
        "object": "documents",
        "n_files": result["n_files"],
        "n_passages": result["n_passages"],
        "digest": index.lineage["digest"],
        "has_vectors": index.has_vectors,
    }
