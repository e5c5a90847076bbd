"""`/v1/responses`: the checks of the Open Responses description that apply to a text model, and the official client.

The description's checks (github.com/openresponses/openresponses, "compliance") as a table: basic-response, streaming-response,
system-prompt, tool-calling, tool-calling-streaming, multi-turn. image-input does not apply: the models read text, and the
request is refused. Where a check wants a model that chooses to call, the call is required here: the tiny model is untrained.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import openai
import pytest
from pydantic import TypeAdapter

pytest.importorskip("llguidance")

from openai.types.responses import Response, ResponseStreamEvent

from tests.serving.conftest import RunningServer

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a place.",
    "parameters": {
        "type": "object",
        "properties": {"location": {"enum": ["Oslo", "Rome"]}},
        "required": ["location"],
        "additionalProperties": False,
    },
}
SHORT = {"type": "json_schema", "name": "short", "schema": {"enum": ["yes", "no"]}}  # so that the answer ends


def message(role: str, content: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content}


CHECKS: dict[str, dict[str, Any]] = {
    "basic-response": {"input": [message("user", "Say hello in exactly 3 words.")]},
    "streaming-response": {"input": [message("user", "Count from 1 to 5.")], "stream": True},
    "system-prompt": {"input": [message("system", "You are a pirate."), message("user", "Say hello.")]},
    "tool-calling": {
        "input": [message("user", "The weather in Oslo?")], "tools": [WEATHER], "tool_choice": "required"
    },
    "tool-calling-streaming": {
        "input": [message("user", "The weather in Oslo?")], "tools": [WEATHER], "tool_choice": "required", "stream": True
    },
    "multi-turn": {
        "input": [
            message("user", "My name is Alice."),
            message("assistant", "Hello Alice!"),
            message("user", "What is my name?"),
        ]
    },
}  # fmt: skip
REQUIRED = {
    "id",
    "object",
    "created_at",
    "completed_at",
    "status",
    "incomplete_details",
    "model",
    "previous_response_id",
    "instructions",
    "output",
    "error",
    "tools",
    "tool_choice",
    "truncation",
    "parallel_tool_calls",
    "text",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "top_logprobs",
    "temperature",
    "reasoning",
    "user",
    "usage",
    "max_output_tokens",
    "max_tool_calls",
    "store",
    "background",
    "service_tier",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
}


def events_of(lines: Iterable[str]) -> list[dict[str, Any]]:
    """The data of server-sent events; the name of each is its type, and [DONE] comes last."""
    found, name, is_done = [], "", False
    for line in lines:
        assert not is_done or not line
        if line.startswith("event: "):
            name = line[7:]
        elif line == "data: [DONE]":
            is_done = True
        elif line.startswith("data: "):
            found.append(json.loads(line[6:]))
            assert found[-1]["type"] == name
    assert is_done
    return found


def post(http: httpx.Client, **body: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The response, and the events where it is streamed."""
    body = {"model": "wide", "seed": 1, "temperature": 1.0, "max_output_tokens": 200} | body
    if not body.get("stream"):
        answer = http.post("/v1/responses", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json(), []
    with http.stream("POST", "/v1/responses", json=body) as answer:
        events = events_of(answer.iter_lines())
    return events[-1]["response"], events


@pytest.fixture
def http(wide_server: RunningServer) -> Iterator[httpx.Client]:
    with wide_server.http as plain:
        yield plain


@pytest.mark.parametrize("check", CHECKS)
def test_the_checks_of_open_responses_that_apply(check: str, http: httpx.Client) -> None:
    body = CHECKS[check] | ({} if "tool" in check else {"text": {"format": SHORT}})
    response, events = post(http, **body)
    assert set(response) >= REQUIRED
    Response.model_validate(response)
    assert response["status"] == "completed"
    assert response["completed_at"] >= response["created_at"]
    assert response["output"]
    assert {item["status"] for item in response["output"]} == {"completed"}
    kind = "function_call" if "tool" in check else "message"
    assert kind in [item["type"] for item in response["output"]]
    if not body.get("stream"):
        return
    adapter: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    for event in events:
        adapter.validate_python(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    check_order(events, response)


def check_order(events: list[dict[str, Any]], response: dict[str, Any]) -> None:
    """The order of the events, of all items one after the other."""
    types = [event["type"].removeprefix("response.") for event in events]
    assert types[:2] == ["created", "in_progress"]
    assert types[-1] == response["status"]
    expected: list[str] = []
    for index, item in enumerate(response["output"]):
        own = [event for event in events if event.get("output_index") == index]
        deltas = "".join(event["delta"] for event in own if event["type"].endswith(".delta"))
        n_deltas = sum(event["type"].endswith(".delta") for event in own)
        expected.append("output_item.added")
        if item["type"] == "message":
            assert deltas == item["content"][0]["text"]
            expected += ["content_part.added", *["output_text.delta"] * n_deltas]
            expected += ["output_text.done", "content_part.done"]
        else:
            assert deltas == item["arguments"]
            expected += ["function_call_arguments.delta"] * n_deltas + ["function_call_arguments.done"]
        expected.append("output_item.done")
        assert own[-1]["item"] == item
    assert types[2:-1] == expected


def test_an_image_is_refused_with_a_reason(http: httpx.Client) -> None:
    parts = [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": "data:image/png;base64,"},
    ]
    answer = http.post("/v1/responses", json={"model": "wide", "input": [message("user", parts)]})
    assert answer.status_code == 400
    assert "read text only" in answer.json()["error"]["message"]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "background": ({"background": True}, "background: Parakit does not support it"),
    "conversation": ({"conversation": "conv_1"}, "conversation: Parakit"),
    "built-in tool": ({"tools": [{"type": "web_search"}]}, "needs a service"),
    "include": ({"include": ["file_search_call.results"]}, "include:"),
    "item": ({"input": [{"type": "item_reference", "id": "x"}]}, "an item of type 'item_reference'"),
    "a choice of no list": (
        {"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": 3}}, "there is no tool"
    ),
    "reasoning alone": ({"input": [{"type": "reasoning", "content": -1}]}, "there are no items"),
    "nothing": ({"input": []}, "there are no items"),
    "misspelled": ({"max_output_token": 3}, "did you mean max_output_tokens"),
    "negative": ({"max_output_tokens": -1}, "greater than or equal to 1"),
    "no schema": ({"text": {"format": {"type": "json_schema"}}}, "no schema"),
    "unknown tool": (
        {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "get_wether"}}, "did you mean"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_supported_is_a_400_that_names_it(case: str, http: httpx.Client) -> None:
    body, reason = REFUSED[case]
    answer = http.post("/v1/responses", json={"model": "wide", "input": "a", "max_output_tokens": 2} | body)
    assert answer.status_code == 400
    assert reason in answer.json()["error"]["message"]


def test_the_official_client_streams_a_response(wide_client: openai.OpenAI) -> None:
    settings: dict[str, Any] = {
        "model": "wide",
        "input": "a bird?",
        "text": {"format": SHORT},
        "temperature": 0,
    }
    with wide_client.responses.stream(**settings) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert final.output_text == text == wide_client.responses.create(**settings).output_text
    assert json.loads(text) in ("yes", "no")


def test_a_response_goes_on_from_an_earlier_one(wide_client: openai.OpenAI) -> None:
    settings: dict[str, Any] = {"model": "wide", "temperature": 0, "max_output_tokens": 6}
    first = wide_client.responses.create(input="the small bird", **settings)
    text = first.output_text
    assert first.status == "incomplete"
    assert first.incomplete_details is not None
    assert first.incomplete_details.reason == "max_output_tokens"
    second = wide_client.responses.create(input="and then?", previous_response_id=first.id, **settings)
    whole = wide_client.responses.create(
        input=[message("user", "the small bird"), message("assistant", text), message("user", "and then?")],
        **settings,
    )
    assert second.output_text == whole.output_text
    assert second.usage is not None
    assert whole.usage is not None
    assert second.usage.input_tokens == whole.usage.input_tokens
    assert whole.usage.input_tokens_details.cached_tokens > 0
    assert second.usage.total_tokens == second.usage.input_tokens + second.usage.output_tokens
    assert wide_client.responses.retrieve(first.id).output_text == text
    items = wide_client.responses.input_items.list(first.id)
    assert items.data[0].content[0].text == "the small bird"
    wide_client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError, match="is stored"):
        wide_client.responses.retrieve(first.id)
    with pytest.raises(openai.NotFoundError, match="send the whole conversation"):
        wide_client.responses.create(input="a", previous_response_id=first.id, **settings)


def test_what_is_not_to_be_stored_is_not(wide_client: openai.OpenAI) -> None:
    settings: dict[str, Any] = {"model": "wide", "input": "a", "max_output_tokens": 2}
    answer = wide_client.responses.create(store=False, **settings)
    assert wide_client.responses.create(**settings).store is True
    with pytest.raises(openai.NotFoundError):
        wide_client.responses.retrieve(answer.id)


def test_a_call_and_its_result_are_items(wide_client: openai.OpenAI) -> None:
    settings: dict[str, Any] = {
        "model": "wide",
        "tools": [WEATHER],
        "max_output_tokens": 200,
        "temperature": 0,
    }
    first = wide_client.responses.create(
        input="The weather in Oslo?", instructions="Be brief.", tool_choice="required", parallel_tool_calls=False,
        **settings,
    )  # fmt: skip
    [call] = first.output
    assert call.type == "function_call"
    assert json.loads(call.arguments)["location"] in ("Oslo", "Rome")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "-3 degrees"}
    settings["tool_choice"], settings["max_output_tokens"] = "none", 4
    chained = wide_client.responses.create(
        input=[result], previous_response_id=first.id, instructions="Be brief.", **settings
    )
    sent = [message("user", "The weather in Oslo?"), call.model_dump(exclude_none=True), result]
    whole = wide_client.responses.create(input=sent, instructions="Be brief.", **settings)
    assert chained.output_text == whole.output_text
    assert chained.usage is not None
    assert whole.usage is not None
    assert chained.usage.input_tokens == whole.usage.input_tokens


def test_log_probabilities_come_with_the_text(wide_client: openai.OpenAI) -> None:
    answer = wide_client.responses.create(
        model="wide", input="a", max_output_tokens=4, temperature=0, top_logprobs=2,
        include=["message.output_text.logprobs"],
    )  # fmt: skip
    part = answer.output[0].content[0]
    assert len(part.logprobs) == 4
    assert all(len(one.top_logprobs) == 2 and one.top_logprobs[0].token == one.token for one in part.logprobs)


def test_truncation_drops_whole_turns_and_reports_them(client: openai.OpenAI) -> None:
    turns = [message("user" if i % 2 == 0 else "assistant", "red tree " * 3) for i in range(11)]
    with pytest.raises(openai.BadRequestError, match=r"the prompt has \d+ tokens"):
        client.responses.create(model="tiny", input=turns, truncation="disabled")
    answer = client.responses.create(model="tiny", input=turns, truncation="auto", max_output_tokens=3)
    report = answer.model_extra["truncated"]
    assert report["dropped_messages"] > 0
    assert report["dropped_messages"] % 2 == 0
    assert report["dropped_tokens"] > 0
    assert answer.usage is not None
    assert answer.usage.input_tokens < 96
