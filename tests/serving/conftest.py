"""A server in this process over a tiny published model, and the official client that speaks to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("openai")

import httpx
import openai
from fastapi import FastAPI

from parakit.serving.app import create_app
from parakit.serving.config import ServeConfig
from parakit.serving.context import ServingContext
from parakit.serving.models.locations import locate_models
from parakit.serving.models.registry import Registry
from parakit.serving.server import Server, bind_socket

SMALL = {"cache_memory": 0.01, "max_running": 8, "port": 0}


@dataclass
class RunningServer:
    """A server in a thread."""

    url: str
    context: ServingContext
    server: Server
    thread: threading.Thread
    go: threading.Event = field(default_factory=threading.Event)
    """For tests that hold the engine back."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """In which it runs."""
        assert self.server._loop is not None
        return self.server._loop

    @property
    def client(self) -> openai.OpenAI:
        """The official client, without retries."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)

    @property
    def http(self) -> httpx.Client:
        """A plain client."""
        return httpx.Client(base_url=self.url, timeout=60)

    def stop(self) -> None:
        """End it at once."""
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()


def start_server(
    models: list[str],
    adapters: list[str] | None = None,
    accounts: Any = None,
    add_routes: Callable[[FastAPI], object] | None = None,
    **settings: Any,
) -> RunningServer:
    """A server on a free port, ready for requests. `add_routes`: adds routes of the test to its application."""
    config = ServeConfig(**(SMALL | settings))
    locations = locate_models(models, adapters or [])
    registry = Registry(locations, config)
    app = create_app(registry, config, accounts=accounts)
    if add_routes is not None:
        add_routes(app)
    listener, ready = bind_socket(config), threading.Event()
    server = Server(app, config, ready.set)

    def run() -> None:
        asyncio.run(server.serve(sockets=[listener]))
        listener.close()

    thread = threading.Thread(target=run, name="test-server", daemon=True)
    thread.start()
    assert ready.wait(30)
    port = listener.getsockname()[1]
    return RunningServer(f"http://127.0.0.1:{port}", app.state.serving, server, thread)


@pytest.fixture
def make_server() -> Iterator[Callable[..., RunningServer]]:
    """`make_server(models, adapters, **settings)`: servers that end with the test."""
    running: list[RunningServer] = []

    def make(*arguments: Any, **settings: Any) -> RunningServer:
        running.append(start_server(*arguments, **settings))
        return running[-1]

    yield make
    for one in running:
        one.stop()


@pytest.fixture(scope="session")
def tiny_server(published_decoder: Path) -> Iterator[RunningServer]:
    """A server of the tiny published decoder, called `tiny`; not to be changed."""
    running = start_server([f"tiny={published_decoder}"])
    yield running
    running.stop()


@pytest.fixture
def client(tiny_server: RunningServer) -> openai.OpenAI:
    """The official client of `tiny_server`."""
    return tiny_server.client


@pytest.fixture
def http(tiny_server: RunningServer) -> Iterator[httpx.Client]:
    """A plain client of `tiny_server`."""
    with tiny_server.http as plain:
        yield plain
