"""Real sockets: large bodies, clients that send or read nothing, https."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi import FastAPI

from parakit.serving.accounts.accounts import Accounts
from parakit.serving.security import connections
from parakit.serving.security.config import SecurityConfig
from parakit.serving.security.connections import ConnectionGuard
from tests.serving.conftest import RunningServer, start_server
from tests.waiting import wait_until


@pytest.fixture
def serve(tmp_path, monkeypatch) -> Iterator[Callable[..., int]]:
    """`serve(**settings)`: the port of a server without models, in a thread; `serve.running` has the servers."""
    monkeypatch.setattr(connections, "PERIOD_SECONDS", 0.02)
    running: list[RunningServer] = []

    def add_routes(app: FastAPI) -> None:
        @app.get("/v1/large")
        async def large() -> str:
            return "x" * 50_000_000

    def start(**settings: Any) -> int:
        accounts = Accounts(tmp_path / "accounts.sqlite")
        running.append(start_server([], None, accounts, add_routes, **settings))
        return int(running[-1].url.rpartition(":")[2])

    start.running = running
    yield start
    for one in running:
        one.stop()
        one.context.accounts.close()


def connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def head(path: str = "/tokenize", **headers: str) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).replace("_", "-").encode()


def read_all(connection: socket.socket) -> bytes:
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def is_closed(connection: socket.socket) -> bool:
    """Whether the server has closed this connection, on which it sends nothing."""
    try:
        connection.setblocking(False)
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_a_body_of_32_mb_is_refused_from_its_head(serve):
    with connect(serve()) as connection:
        connection.sendall(head(Content_Length="33554432"))  # and none of the body
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "body_too_large"


def test_a_body_without_a_length_is_refused_when_it_passes_the_limit(serve):
    with connect(serve(max_body_bytes=100_000)) as connection:
        connection.sendall(head(Transfer_Encoding="chunked", Content_Type="application/json"))
        part = b"1000\r\n" + b" " * 4096 + b"\r\n"
        for _ in range(25):
            connection.sendall(part)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_body_that_does_not_come_is_given_up(serve):
    with connect(serve(body_seconds=0.1)) as connection:
        connection.sendall(head(Content_Length="10", Content_Type="application/json") + b"{")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_connections_without_a_request_are_closed_and_others_served(serve):
    port = serve(header_seconds=0.2)
    silent, slow = connect(port), connect(port)
    slow.sendall(b"POST /tokenize HTTP/1.1\r\nHost: ")
    assert read_all(silent) == b""  # returns because the server closed it
    assert read_all(slow) == b""
    with connect(port) as fine:
        fine.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert read_all(fine).startswith(b"HTTP/1.1 200 ")
    silent.close()
    slow.close()


def test_half_open_connections_over_the_limit_give_their_place(serve):
    port = serve(max_connections=20, header_seconds=3600)
    with contextlib.ExitStack() as held:
        connections_held = [held.enter_context(connect(port)) for _ in range(60)]
        with connect(port) as fine:
            fine.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            assert read_all(fine).startswith(b"HTTP/1.1 200 ")
        wait_until(lambda: sum(map(is_closed, connections_held)) >= 40)
        assert (
            sum(map(is_closed, connections_held)) <= 41
        )  # one more where the check comes while the 61st is served


def test_a_reader_that_takes_nothing_is_disconnected(serve):
    port = serve(slow_seconds=0.3)
    with connect(port) as connection:
        connection.sendall(b"GET /v1/large HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        open_connections = serve.running[0].server.server_state.connections
        wait_until(lambda: bool(open_connections))
        wait_until(lambda: not open_connections)  # it reads nothing meanwhile
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert len(answer) < 50_000_000


def test_a_slow_but_steady_reader_is_served_to_the_end():
    """By the guard's own clock: an answer of 1 MB at 20 kB a second, which is 50 seconds."""
    aborted: list[bool] = []
    waiting = [1_000_000]
    transport = SimpleNamespace(get_write_buffer_size=lambda: waiting[0], abort=lambda: aborted.append(True))
    connection = type("Connection", (), {})()
    connection.transport, connection.cycle = transport, SimpleNamespace(response_complete=True)
    connection.flow, connection.timeout_keep_alive_task = SimpleNamespace(write_paused=True), object()
    guard = ConnectionGuard({connection}, SecurityConfig(slow_seconds=10))
    for second in range(50):
        guard.check(float(second))
        waiting[0] -= 20_000
    assert not aborted
    waiting[0] = 64_000
    for second in range(50, 70):
        guard.check(float(second))
        waiting[0] -= 1
    assert aborted


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_https_with_a_certificate_of_files(serve, tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    command = ["openssl", *options.split(), "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    port = serve(tls_cert=str(cert), tls_key=str(key))
    context = ssl.create_default_context(cafile=cert)
    with context.wrap_socket(connect(port), server_hostname="127.0.0.1") as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")
