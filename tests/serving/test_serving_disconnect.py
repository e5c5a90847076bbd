"""Clients that go away free their place, and the end of the server lets running requests finish."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.serving.conftest import RunningServer
from tests.waiting import wait_until

BODY = {"model": "tiny", "messages": [{"role": "user", "content": "a"}], "temperature": 1.0}


@pytest.fixture
def slow(make_server: Callable[..., RunningServer], published_decoder: Path, tmp_path: Path) -> RunningServer:
    """A server whose engine waits for `go` before each step."""
    (tmp_path / "critique.yaml").write_text('template: "{{ text }}"\nfollowups: ["Is it?", "So?"]\n')
    running = make_server([f"tiny={published_decoder}"], prompts=(str(tmp_path),))
    served = asyncio.run_coroutine_threadsafe(running.context.registry.load("tiny"), running.loop).result(30)
    engine = served.engine
    assert engine is not None
    step = engine.step
    running.go = threading.Event()

    def waiting_step() -> bool:
        running.go.wait(5)
        return step()

    engine.step = waiting_step  # type: ignore[method-assign]
    return running


@pytest.mark.parametrize(
    ("stream", "changes"),
    [(True, {}), (False, {}), (True, {"model": "tiny:critique"}), (False, {"model": "tiny:critique"})],
)
def test_a_client_that_disconnects_frees_its_place(
    slow: RunningServer, stream: bool, changes: dict[str, str]
) -> None:
    running = slow.context.service.running
    body = json.dumps(BODY | {"stream": stream} | changes).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", int(slow.url.rpartition(":")[2])), timeout=60) as client:
        client.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        wait_until(lambda: bool(running))
    wait_until(lambda: not running)
    slow.go.set()
    engine = slow.context.registry.loaded[0].engine
    wait_until(lambda: engine.statistics.n_running == engine.statistics.n_pages_used == 0)
    assert engine.statistics.n_cancelled == 1


def test_shutting_down_finishes_what_runs_and_refuses_what_is_new(slow: RunningServer) -> None:
    answers: list[httpx.Response] = []
    url = f"{slow.url}/v1/chat/completions"
    request = threading.Thread(target=lambda: answers.append(httpx.post(url, json=BODY | {"max_tokens": 4})))
    request.start()
    wait_until(lambda: bool(slow.context.service.running))
    slow.server.handle_exit(15, None)
    wait_until(lambda: slow.context.service.is_draining)
    refused = httpx.post(url, json=BODY)
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    assert httpx.get(f"{slow.url}/health").status_code == 503
    slow.go.set()
    request.join(10)
    assert answers[0].status_code == 200
    slow.thread.join(10)
    assert not slow.thread.is_alive()


def test_what_does_not_finish_in_time_is_interrupted(
    make_server: Callable[..., RunningServer], slow: RunningServer
) -> None:
    slow.server._settings = slow.context.config.replace(shutdown_seconds=0.1)
    answers: list[httpx.Response] = []
    url = f"{slow.url}/v1/chat/completions"
    request = threading.Thread(target=lambda: answers.append(httpx.post(url, json=BODY)))
    request.start()
    wait_until(lambda: bool(slow.context.service.running))
    slow.server.handle_exit(15, None)
    request.join(10)
    assert answers[0].status_code == 503
    assert answers[0].json()["error"]["code"] == "interrupted"
    slow.go.set()
