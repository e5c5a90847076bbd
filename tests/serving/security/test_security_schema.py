"""Requests made from the OpenAPI schema, valid and not: none is answered with 5xx."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from tests.serving.conftest import RunningServer

schemathesis = pytest.importorskip("schemathesis")
QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
SENT = ("method", "url", "params", "json", "headers")


@pytest.fixture(scope="module")
def schema(tiny_server: RunningServer) -> Any:
    return schemathesis.openapi.from_dict(httpx.get(f"{tiny_server.url}/openapi.json").json())


def statuses(schema: Any, url: str, n_examples: int) -> dict[str, Counter[int]]:
    """Status codes by operation."""
    found: dict[str, Counter[int]] = {}
    quick = settings(max_examples=n_examples, deadline=None, suppress_health_check=QUIET)
    with httpx.Client(base_url=url, timeout=60) as client:
        for result in schema.get_all_operations():
            operation = result.ok()
            counts: Counter[int] = Counter()
            quick(given(case=operation.as_strategy())(sender(client, url, counts)))()
            found[operation.label] = counts
    return found


def sender(client: httpx.Client, url: str, counts: Counter[int]) -> Any:
    def send(case: Any) -> None:
        request = case.as_transport_kwargs(base_url=url)
        headers = {str(name): str(value) for name, value in dict(request.get("headers") or {}).items()}
        rest = {name: request[name] for name in SENT if name in request} | {"headers": headers}
        body = rest.get("json")
        # most names are of no model, and then nothing else is looked at
        if isinstance(body, dict) and isinstance(body.get("model"), str) and sum(counts.values()) % 4:
            rest["json"] = body | {"model": "tiny"}
        data = request.get("data")
        answer = client.request(content=data if isinstance(data, bytes | str) else None, **rest)
        counts[answer.status_code] += 1
        assert answer.status_code < 500, json.dumps(rest)

    return send


def test_no_request_of_the_schema_fails_the_server(schema, tiny_server):
    assert len(statuses(schema, tiny_server.url, 3)) >= 10


@pytest.mark.long
def test_no_request_of_many_fails_the_server(schema, tiny_server):
    found = statuses(schema, tiny_server.url, 100)
    print({label: dict(counts) for label, counts in found.items()})
    assert len(found) >= 10
