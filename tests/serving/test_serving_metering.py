"""What is refused costs nothing: a quota comes before the model, a wrong setting before the computing; vectors are counted."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

import httpx

from parakit.serving.accounts.accounts import Accounts
from parakit.serving.accounts.database import open_database
from parakit.serving.accounts.keys import Quota, add_key
from parakit.serving.api import embeddings
from parakit.serving.logs import LOGGER
from tests.serving.conftest import RunningServer


def bearer(path: Path, **quota: int) -> dict[str, str]:
    connection = open_database(path)
    key = add_key(connection, "small", Quota(**quota))
    connection.close()
    return {"Authorization": f"Bearer {key}"}


def test_a_request_over_its_quota_loads_no_model(
    make_server: Callable[..., RunningServer], published_decoder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "accounts.sqlite"
    headers = bearer(path, requests_per_minute=1)
    accounts = Accounts(path)
    server = make_server([f"a={published_decoder}", f"b={published_decoder}"], None, accounts)
    chat: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    with httpx.Client(base_url=server.url, timeout=60, headers=headers) as client:
        assert client.post("/v1/chat/completions", json={"model": "a", **chat}).status_code == 200
        for route, body in (("chat/completions", chat), ("embeddings", {"input": "x"})):
            assert client.post(f"/v1/{route}", json={"model": "b", **body}).status_code == 429
    assert [one.name for one in server.context.registry.loaded] == ["a"]
    server.stop()
    outcomes = [row[0] for row in accounts.connection.execute("SELECT outcome FROM requests ORDER BY clock")]
    assert outcomes == ["finished", "refused", "refused"]
    accounts.close()


def test_embeddings_are_counted_and_logged(
    make_server: Callable[..., RunningServer], published_decoder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server([f"tiny={published_decoder}"])
    with server.http as client, caplog.at_level(logging.INFO, LOGGER):
        answer = client.post("/v1/embeddings", json={"model": "tiny", "input": ["a b", "c"]}).json()
        n_tokens = answer["usage"]["prompt_tokens"]
        lines = client.get("/metrics").text.splitlines()
    assert 'parakit_requests_total{model="tiny",outcome="finished"} 1.0' in lines
    assert f'parakit_prompt_tokens_total{{model="tiny"}} {float(n_tokens)}' in lines
    [record] = [one for one in caplog.records if one.message == "embeddings finished"]
    assert json.loads(json.dumps(record.fields))["prompt_tokens"] == n_tokens  # type: ignore[attr-defined]


def test_too_many_dimensions_are_refused_before_anything_is_computed(
    tiny_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "embed_texts", lambda *arguments, **settings: pytest.fail("computed"))
    with tiny_server.http as client:
        body = {"model": "tiny", "input": "x", "dimensions": 33}
        answer = client.post("/v1/embeddings", json=body)
    assert answer.status_code == 400
    assert "dimensions = 33, and the model's vectors have 32" in answer.json()["error"]["message"]
