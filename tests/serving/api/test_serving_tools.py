"""Tools through the official client: calls that match their schemas, streamed as they come, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import openai
import pytest

pytest.importorskip("llguidance")

ADD: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}, "b": {"enum": ["x", "y"]}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
NOW: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": ADD}},
    {"type": "function", "function": {"name": "now", "parameters": NOW}},
]
QUESTION: list[Any] = [{"role": "user", "content": "2?"}]
SETTINGS: dict[str, Any] = {"model": "wide", "seed": 3, "temperature": 1.0, "max_tokens": 120}


def assert_valid(calls: list[Any]) -> None:
    for call in calls:
        jsonschema.validate(json.loads(call.function.arguments), {"add": ADD, "now": NOW}[call.function.name])


def test_a_required_call_matches_its_schema(wide_client: openai.OpenAI) -> None:
    for choice in ("required", {"type": "function", "function": {"name": "add"}}):
        answer = wide_client.chat.completions.create(
            messages=QUESTION, tools=TOOLS, tool_choice=choice, parallel_tool_calls=False, **SETTINGS
        )
        message = answer.choices[0].message
        assert answer.choices[0].finish_reason == "tool_calls"
        assert message.content is None
        assert message.tool_calls is not None
        assert len(message.tool_calls) == 1
        assert_valid(message.tool_calls)
        assert choice == "required" or message.tool_calls[0].function.name == "add"


def test_streamed_calls_join_to_those_of_the_whole_answer(wide_client: openai.OpenAI) -> None:
    settings = {"messages": QUESTION, "tools": TOOLS, "tool_choice": "required", **SETTINGS}
    whole = wide_client.chat.completions.create(**settings).choices[0]
    calls: dict[int, dict[str, str]] = {}
    reasons = []
    for chunk in wide_client.chat.completions.create(stream=True, **settings):
        reasons.append(chunk.choices[0].finish_reason)
        for delta in chunk.choices[0].delta.tool_calls or []:
            call = calls.setdefault(
                delta.index, {"id": delta.id, "name": delta.function.name, "arguments": ""}
            )
            call["arguments"] += delta.function.arguments
    assert [reason for reason in reasons if reason] == [whole.finish_reason]
    assert whole.message.tool_calls is not None
    assert [(call["name"], call["arguments"]) for call in calls.values()] == [
        (call.function.name, call.function.arguments) for call in whole.message.tool_calls
    ]
    assert len({call["id"] for call in calls.values()}) == len(calls)


def test_the_result_of_a_call_goes_back_to_the_model(wide_client: openai.OpenAI) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "add", "arguments": '{"a": 2, "b": "x"}'},
    }
    short = [*QUESTION, {"role": "assistant", "content": None, "tool_calls": [call]}]
    counts = []
    for result in ("5", "five and some more words"):
        messages = [*short, {"role": "tool", "tool_call_id": "call_1", "content": result}]
        answer = wide_client.chat.completions.create(
            messages=messages, tools=TOOLS, **(SETTINGS | {"max_tokens": 2})
        )
        assert answer.usage is not None
        counts.append(answer.usage.prompt_tokens)
    assert counts[1] > counts[0]


def test_tools_that_must_not_be_called_are_not_in_the_prompt(wide_client: openai.OpenAI) -> None:
    counts = []
    for extra in ({}, {"tools": TOOLS, "tool_choice": "none"}, {"tools": TOOLS}):
        answer = wide_client.chat.completions.create(
            messages=QUESTION, **(SETTINGS | {"max_tokens": 2}), **extra
        )
        assert answer.usage is not None
        counts.append(answer.usage.prompt_tokens)
    assert counts[0] == counts[1] < counts[2]


def function(name: str = "f", **schema: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": schema}}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a choice without tools": ({"tool_choice": "required"}, "there are no tools"),
    "an unknown tool": (
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "ad"}}},
        "did you mean 'add'",
    ),
    "twice": ({"tools": [function(), function()]}, "there twice"),
    "another kind": ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "function"),
    "an array": ({"tools": [function(type="array")]}, "a call has an object"),
    "a schema that explodes": (
        {"tools": [function(properties={"x": {"type": "integer", "multipleOf": 9999991}})]},
        "compiling it takes more than the limit",
    ),
    "a regex next to tools": ({"tools": TOOLS, "extra_body": {"regex": "a"}}, "regex is set next to tools"),
}


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=pytest.mark.long) if "explodes" in c else c for c in REFUSED]
)
def test_what_cannot_be_called_is_a_400(case: str, wide_client: openai.OpenAI) -> None:
    settings, message = REFUSED[case]
    with pytest.raises(openai.BadRequestError, match=message):
        wide_client.chat.completions.create(messages=QUESTION, **settings, **SETTINGS)


def test_a_model_without_room_for_the_tools_names_the_limit(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"the prompt has \d+ tokens") as caught:
        client.chat.completions.create(model="tiny", messages=QUESTION, tools=TOOLS)
    assert caught.value.code == "context_length_exceeded"
