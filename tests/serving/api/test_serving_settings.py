"""Settings of requests: log-probabilities, schemas, stops, penalties, and that no number is without a bound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

import parakit

QUESTION = [{"role": "user", "content": "a small bird"}]


@pytest.fixture(scope="module")
def model(published_decoder: Path) -> parakit.Model:
    return parakit.load(published_decoder)


def test_log_probabilities_are_those_of_the_library_streamed_and_whole(
    client: openai.OpenAI, model: parakit.Model
) -> None:
    settings: dict[str, Any] = {"temperature": 0}
    [expected] = model.completions(QUESTION, max_new_tokens=6, log_probabilities=2, **settings)
    settings |= {"model": "tiny", "messages": QUESTION, "max_tokens": 6, "logprobs": True, "top_logprobs": 2}
    whole = client.chat.completions.create(**settings).choices[0].logprobs
    assert whole is not None
    assert whole.content is not None
    chunks = [chunk.choices[0] for chunk in client.chat.completions.create(stream=True, **settings)]
    streamed = [one for chunk in chunks if chunk.logprobs for one in chunk.logprobs.content or []]
    for found in (whole.content, streamed):
        assert [one.logprob for one in found] == [one.log_probability for one in expected.log_probabilities]
        assert [[other.logprob for other in one.top_logprobs] for one in found] == [
            [other.log_probability for other in one.alternatives] for one in expected.log_probabilities
        ]
    assert b"".join(bytes(one.bytes or []) for one in whole.content).decode() == expected.text


def test_a_json_schema_is_kept_streamed_and_whole(client: openai.OpenAI) -> None:
    pytest.importorskip("llguidance")
    schema = {
        "type": "object",
        "properties": {"sound": {"enum": ["chirp", "caw"]}, "loud": {"type": "boolean"}},
        "required": ["sound", "loud"],
        "additionalProperties": False,
    }
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "bird", "schema": schema, "strict": True}}
    settings: dict[str, Any] = {"model": "tiny", "messages": QUESTION, "temperature": 1.0, "seed": 1}
    whole = client.chat.completions.create(response_format=wanted, max_tokens=60, **settings)
    text = whole.choices[0].message.content or ""
    answer = json.loads(text)
    assert set(answer) == {"sound", "loud"}
    assert answer["sound"] in ("chirp", "caw")
    stream = client.chat.completions.create(response_format=wanted, max_tokens=60, stream=True, **settings)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == text
    found = client.chat.completions.create(
        response_format={"type": "json_object"}, max_tokens=4, logit_bias={"93": 100}, **settings
    )
    assert (found.choices[0].message.content or "").lstrip().startswith("{")


def test_stops_penalties_and_biases_are_those_of_the_library(
    client: openai.OpenAI, model: parakit.Model
) -> None:
    settings: dict[str, Any] = {"temperature": 0, "frequency_penalty": 1.5, "presence_penalty": 0.5}
    bias = {"40": 3.5, "50": -2}
    [free] = model.completions(QUESTION, max_new_tokens=10, logit_bias=bias, **settings)
    stop = free.text[3:5]
    [expected] = model.completions(QUESTION, max_new_tokens=10, logit_bias=bias, stop=[stop], **settings)
    answer = client.chat.completions.create(
        model="tiny", messages=QUESTION, max_tokens=10, logit_bias=bias, stop=stop, **settings
    )
    assert answer.choices[0].message.content == expected.text == free.text[: free.text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_keys_of_the_api_that_change_nothing_are_read_over(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=QUESTION, max_tokens=1, metadata={"a": "b"}, store=False, service_tier="auto"
    )
    assert answer.choices[0].message.content is not None


BAD: dict[str, Any] = {
    "n": [10**9, -1, 0, 1.5, "two", 10**400],
    "max_tokens": [0, -5, 10**12],
    "max_completion_tokens": [0, 10**30],
    "temperature": [-1, float("nan"), float("inf"), 1e300],
    "top_p": [0, 1.1, float("nan")],
    "top_k": [-1, 10**9],
    "min_p": [2],
    "seed": [2**64],
    "frequency_penalty": [9, float("-inf")],
    "presence_penalty": [-9],
    "repetition_penalty": [0, 1e9],
    "top_logprobs": [-1, 21],
    "stop": [["x"] * 100_000, [""], ["y" * 5000], {"a": 1}],
    "logit_bias": [
        {"5": 1e9},
        {"5": float("nan")},
        {str(i): 1 for i in range(20_000)},
        {"-3": 1},
        {"900": 1},
    ],
    "regex": ["a" * 300_000, "("],
    "response_format": [{"type": "json_schema", "json_schema": {"schema": 5}}, {"type": "yaml"}],
    "messages": [
        [],
        "hello",
        [{"role": "king", "content": "a"}],
        [{"role": "user"}],
        [{"role": "user", "content": 5}],
    ],
    "model": ["", "x" * 1000, 5, None],
    "stream": ["maybe"],
    "unknown_key": [1],
}


@pytest.mark.parametrize("key", sorted(BAD))
def test_every_value_has_a_bound(http: httpx.Client, key: str) -> None:
    body: dict[str, Any] = {"model": "tiny", "messages": QUESTION, "max_tokens": 1}
    for value in BAD[key]:
        text = json.dumps(body | {key: value})
        answer = http.post("/v1/chat/completions", content=text, headers={"content-type": "application/json"})
        assert 400 <= answer.status_code < 500, (key, str(value)[:50], answer.text[:300])
        error = answer.json()["error"]
        assert error["message"]
        assert len(answer.content) < 3000
        assert key in error["message"] or key in ("model", "messages")


@pytest.mark.parametrize(
    "body", ["", "{", "[" * 100_000, "null", "[]", '{"a": 1' + "0" * 10_000 + "}", "\udcff"]
)
def test_a_body_that_is_no_json_is_refused(http: httpx.Client, body: str) -> None:
    headers = {"content-type": "application/json"}
    content = body.encode("utf-8", "surrogateescape")
    answer = http.post("/v1/chat/completions", content=content, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_routes_and_verbs_that_are_none_are_named(http: httpx.Client) -> None:
    assert "no such route" in http.get("/v1/chat/complete").json()["error"]["message"]
    answer = http.get("/v1/chat/completions")
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        405,
        "/v1/chat/completions: not with GET",
    )


def test_a_text_of_many_windows_is_refused_without_being_encoded(http: httpx.Client) -> None:
    for body in (
        {"prompt": "bird " * 100_000},
        {"messages": [{"role": "user", "content": "bird " * 100_000}]},
    ):
        route = "/v1/completions" if "prompt" in body else "/v1/chat/completions"
        answer = http.post(route, json={"model": "tiny", **body})
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["code"] == "context_length_exceeded"
        assert "the prompt has at least " in error["message"]
        assert "holds 96" in error["message"]
