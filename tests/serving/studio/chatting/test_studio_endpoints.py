"""Answers of an endpoint as they are streamed: pieces in order, reasoning apart, counts, refusals, and leaving early."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from parakit.common.errors import UserError
from parakit.data.conversations.conversation import Message
from parakit.inference.config import SamplingSettings
from parakit.serving.studio.chatting.endpoints import EndpointSource
from tests.alignment.chat_server import chat_server, completion
from tests.serving.conftest import RunningServer

QUESTION = (Message("user", "What is your name?"),)
SAMPLING = SamplingSettings(temperature=1.0, max_new_tokens=12, seed=3)


async def texts(source: EndpointSource, n: int = 1000) -> tuple[list[str], Any]:
    found, answer = [], None
    async with contextlib.aclosing(source.answer(QUESTION, SAMPLING)) as parts:
        async for answer in parts:
            found.append(answer.text)
            if len(found) == n:
                break
    return found, answer


def stream(*deltas: dict[str, Any]) -> str:
    events = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    last = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
    return "".join(f"data: {json.dumps(one)}\n\n" for one in [*events, last]) + ": note\n\ndata: [DONE]\n\n"


def answered(status: int, body: Any, kind: str = "application/json") -> tuple[list[str], Any]:
    with chat_server(lambda path, sent, headers: (status, body), {"Content-Type": kind}) as url:
        return asyncio.run(texts(EndpointSource(url, "m")))


def test_pieces_come_in_order() -> None:
    body = stream(
        {"role": "assistant"}, {"reasoning_content": "Hm."}, {"content": "My n"}, {"content": "ame"}
    )
    found, answer = answered(200, body, "text/event-stream")
    assert [one for one in found if one] == ["My n", "My name", "My name"]
    assert answer.reasoning == "Hm."
    assert (answer.figures.n_prompt_tokens, answer.figures.n_tokens) == (7, 3)


def test_an_endpoint_that_does_not_stream_answers_whole() -> None:
    assert answered(*completion("My name"))[0] == ["My name"]


@pytest.mark.parametrize(("status", "body"), [(200, "no JSON"), (200, {"object": "list"}), (500, "broken")])
def test_what_is_no_completion_is_an_error(status: int, body: Any) -> None:
    with pytest.raises(UserError, match=r"not a chat completion|HTTP 500"):
        answered(status, body)


def test_a_server_of_parakit_streams_its_answer(tiny_server: RunningServer) -> None:
    source = EndpointSource(f"{tiny_server.url}/v1")
    found, answer = asyncio.run(texts(source))
    with tiny_server.client as client:
        whole = client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": QUESTION[0].content}],
            temperature=1,
            max_tokens=12,
            seed=3,
        )
    assert found[-1] == whole.choices[0].message.content
    assert len(set(found)) > 3
    assert whole.usage is not None
    assert answer.figures.n_prompt_tokens == whole.usage.prompt_tokens
    asyncio.run(
        texts(source, 2)
    )  # the connection of an answer that is left is closed, or the server could not end
