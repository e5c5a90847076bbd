"""Servers of tiny models for the forms of the API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.serving.conftest import RunningServer, start_server


@pytest.fixture(scope="session")
def wide_server(published_wide: Path) -> Iterator[RunningServer]:
    """A server of a tiny decoder with a wide context window, called `wide`; not to be changed."""
    running = start_server([f"wide={published_wide}"])
    yield running
    running.stop()


@pytest.fixture
def wide_client(wide_server: RunningServer) -> Iterator[openai.OpenAI]:
    """The official client of `wide_server`."""
    with wide_server.client as client:
        yield client
