"""What agents do to a server: they send everything again, many at once, with a date in the system prompt."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest

pytest.importorskip("llguidance")

from tests.sample_text import sentences
from tests.serving.conftest import RunningServer

PAGE = 16  # tokens of a page of the engine's cache


def tool(number: int) -> dict[str, Any]:
    schema = {"properties": {"x": {"enum": [number, "a"]}}, "required": ["x"], "additionalProperties": False}
    function = {"name": f"tool_{number}", "description": sentences(number, 1), "parameters": schema}
    return {"type": "function", "function": function}


TOOLS: list[Any] = [tool(i) for i in range(3)]
GREEDY: dict[str, Any] = {"model": "wide", "max_tokens": 8, "temperature": 0}


def counts(answer: Any) -> tuple[int, int]:
    """Tokens of the prompt, and those of the cache."""
    return answer.usage.prompt_tokens, answer.usage.prompt_tokens_details.cached_tokens


@pytest.mark.parametrize("tools", [[], TOOLS], ids=["plain", "tools"])
def test_a_growing_conversation_is_read_from_the_cache(wide_client: openai.OpenAI, tools: list[Any]) -> None:
    messages: list[Any] = [{"role": "system", "content": sentences(100 + len(tools), 4)}]
    extra = {"tools": tools} if tools else {}
    n_before = 0
    for turn in range(4):
        messages.append({"role": "user", "content": sentences(200 + turn + len(tools), 2)})
        answer = wide_client.chat.completions.create(messages=messages, **GREEDY, **extra)
        n_prompt, n_cached = counts(answer)
        if turn:  # all but the last, incomplete page: the answer's tokens are there as well
            assert n_cached >= (n_before - 1) // PAGE * PAGE
            assert n_prompt - n_cached < 0.75 * n_prompt
        n_before = n_prompt
        messages.append({"role": "assistant", "content": answer.choices[0].message.content or "-"})


@pytest.mark.parametrize("place", ["at the end", "at the beginning"])
def test_a_date_in_the_system_prompt_costs_what_comes_after_it(
    wide_client: openai.OpenAI, place: str
) -> None:
    rules = sentences(300 if place == "at the end" else 301, 12)
    found = []
    for day in ("Monday, 10:00", "Tuesday, 11:30"):
        text = f"{rules}\n{day}" if place == "at the end" else f"{day}\n{rules}"
        messages: list[Any] = [{"role": "system", "content": text}, {"role": "user", "content": "the bird?"}]
        found.append(counts(wide_client.chat.completions.create(messages=messages, **GREEDY)))
    n_prompt, n_cached = found[1]
    if place == "at the end":
        assert n_cached > 0.75 * n_prompt
    else:
        assert n_cached < 2 * PAGE


def test_described_tools_stay_in_the_cache_when_the_system_prompt_changes(wide_client: openai.OpenAI) -> None:
    found = []
    for day in ("Monday", "Tuesday"):
        messages: list[Any] = [
            {"role": "system", "content": f"{day}. Be brief."},
            {"role": "user", "content": "a?"},
        ]
        found.append(
            counts(wide_client.chat.completions.create(messages=messages, tools=TOOLS[1:], **GREEDY))
        )
    n_prompt, n_cached = found[1]
    assert n_cached > 0.8 * n_prompt


def requests() -> list[dict[str, Any]]:
    """Requests of every kind, which share beginnings."""
    shared = sentences(400, 6)
    found: list[dict[str, Any]] = []
    for i in range(12):
        messages = [
            {"role": "system", "content": shared},
            {"role": "user", "content": sentences(500 + i // 2, 1)},
        ]
        request: dict[str, Any] = {"model": "wide", "messages": messages, "max_tokens": 24, "seed": i}
        request["temperature"] = (0, 0.7, 1.3)[i % 3]
        if i % 4 == 1:
            request |= {"tools": TOOLS, "tool_choice": "required", "max_tokens": 60}
        elif i % 4 == 2:
            schema = {"enum": [f"{i} yes", f"{i} no", "perhaps"]}
            request["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": schema},
            }
        elif i % 4 == 3:
            request |= {"top_p": 0.8, "presence_penalty": 0.5, "stop": ["e "]}
        found.append(request)
    return found


def shown(answer: Any) -> Any:
    [choice] = answer.choices
    calls = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or []]
    return choice.message.content, calls, choice.finish_reason


def test_parallel_requests_give_the_text_of_one_by_one(wide_server: RunningServer) -> None:
    with wide_server.client as client:
        alone = [shown(client.chat.completions.create(**request)) for request in requests()]

    async def together() -> list[Any]:
        settings: dict[str, Any] = {"api_key": "none", "max_retries": 0, "timeout": 60}
        async with openai.AsyncOpenAI(base_url=f"{wide_server.url}/v1", **settings) as client:
            return await asyncio.gather(*(client.chat.completions.create(**one) for one in requests()))

    assert [shown(answer) for answer in asyncio.run(together())] == alone
    for content, calls, reason in alone[1::4]:
        assert not content
        assert reason == "length" or all(json.loads(arguments)["x"] is not None for _, arguments in calls)


def test_the_log_has_what_was_reused(wide_server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "parakit.serving")
    messages: list[Any] = [{"role": "user", "content": sentences(600, 6)}]
    with wide_server.client as client:
        for _ in range(2):
            answer = client.chat.completions.create(messages=messages, **GREEDY)
    n_prompt, n_cached = counts(answer)
    assert n_cached > 0
    notes = [record.getMessage() for record in caplog.records if "reused" in record.getMessage()]
    assert notes[-1].endswith(f"reused {n_cached:,} of {n_prompt:,} prompt tokens")
