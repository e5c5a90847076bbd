"""Bodies with values of every other type in every place: each is answered or refused, and none is a fault of the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

pytest.importorskip("llguidance")

from parakit.common.seeds import rng
from tests.serving.conftest import RunningServer

TEXT = {"type": "text", "text": "a"}
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/responses": {
        "model": "wide",
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "function_call", "name": "f", "call_id": "c", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "x"},
            {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "t"}]},
            {"role": "assistant", "content": "b"},
        ],
        "instructions": "i",
        "tools": [{"type": "function", "name": "f", "parameters": SCHEMA}],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        "max_output_tokens": 2,
        "metadata": {"a": "b"},
    },
    "/v1/messages": {
        "model": "wide",
        "max_tokens": 2,
        "system": [TEXT],
        "messages": [
            {"role": "user", "content": [TEXT]},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}}],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [TEXT]}]},
        ],
        "tools": [{"name": "f", "input_schema": SCHEMA}],
        "tool_choice": {"type": "tool", "name": "f"},
        "stop_sequences": ["x"],
        "output_config": {"format": {"type": "json_schema", "schema": {}}},
    },
    "/v1/chat/completions": {
        "model": "wide",
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "r"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": True}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "max_tokens": 2,
    },
    "/v1/embeddings": {"model": "wide", "input": ["a", "b"], "dimensions": 3, "pooling": "mean"},
    "/v1/batches": {"input_file_id": "file-1", "endpoint": "/v1/embeddings", "metadata": {"a": "b"}},
}
VALUES: list[Any] = [
    *(None, True, 0, -1, 3.5, 1e308, 10**30, "", "a\ud800", "\x00", "x" * 3000),
    *([], [[]], [None], {}, {"type": ["a"]}, {"type": {}}, {"$ref": "#/x"}, ["x"] * 50),
]


def mutated(value: Any, random: np.random.Generator, depth: int = 0) -> Any:
    """The value with some of its parts replaced, left out or doubled."""
    if depth and random.random() < 0.03:
        return VALUES[random.integers(len(VALUES))]
    if isinstance(value, dict):
        return {
            key: mutated(item, random, depth + 1) for key, item in value.items() if random.random() > 0.02
        }
    if isinstance(value, list):
        doubled = [item for item in value for _ in range(1 + (random.random() < 0.03))]
        return [mutated(item, random, depth + 1) for item in doubled]
    return value


@pytest.fixture(scope="module")
def http(wide_server: RunningServer) -> Iterator[httpx.Client]:
    with wide_server.http as plain:
        yield plain


@pytest.mark.parametrize("route", BODIES)
def test_half_a_surrogate_pair_is_no_fault_anywhere(route: str, http: httpx.Client) -> None:
    half = "a\ud800"
    bodies = [
        BODIES[route] | {half: 1},
        BODIES[route] | {"model": half},
        BODIES[route] | {"metadata": {half: half}},
    ]
    bodies.append(BODIES[route] | {"instructions": half, "messages": [{"role": "user", "content": half}]})
    for body in bodies:
        answer = http.post(route, content=json.dumps(body), headers={"content-type": "application/json"})
        assert answer.status_code < 500, body
        assert answer.json()


@pytest.mark.parametrize("seed", [0, *(pytest.param(i, marks=pytest.mark.long) for i in range(1, 20))])
@pytest.mark.parametrize("route", BODIES)
def test_no_body_is_a_fault_of_the_server(route: str, seed: int, http: httpx.Client) -> None:
    random = rng(seed, route)
    for _ in range(12):
        body = json.dumps(mutated(BODIES[route], random))
        answer = http.post(route, content=body, headers={"content-type": "application/json"})
        assert answer.status_code < 500, body
        assert answer.json()
