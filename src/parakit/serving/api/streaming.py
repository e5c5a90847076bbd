"""Server-sent events, and clients that go away: their generation is cancelled at once, streamed or not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from parakit.serving.api.errors import error_body
from parakit.serving.generation.generation import Generation

DONE = b"data: [DONE]\n\n"
_logger = logging.getLogger("parakit.serving")


def event(data: Mapping[str, Any], name: str = "") -> bytes:
    """One event with JSON data."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"event: {name}\ndata: {text}\n\n".encode() if name else f"data: {text}\n\n".encode()


def stream_error(error: Exception) -> tuple[int, dict[str, Any]]:
    """`error_body` of an error inside of a stream, whose status is sent already; a fault of the server is logged."""
    status, body = error_body(error)
    if status == 500:
        _logger.error("stream failed", exc_info=error)
    return status, body


class EventStream(Response):
    """A response that sends `events` as they come, and closes the generations behind them however it ends."""

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[bytes],
        *generations: Generation,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no", **(headers or {})})
        del self.headers["content-length"]
        self._events, self._generations = events, generations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with cancelling(receive, *self._generations):
                await send(
                    {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
                )
                try:
                    async for one in self._events:
                        await _send_part(send, one)
                except OSError:
                    raise
                except Exception as error:  # the status is sent: the error is the last event
                    await _send_part(send, event(stream_error(error)[1]))
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except OSError:
            pass  # the client is gone
        finally:
            for generation in self._generations:
                await generation.close()


async def _send_part(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


@contextlib.asynccontextmanager
async def cancelling(receive: Receive, *generations: Generation) -> AsyncIterator[None]:
    """Within the block a client that disconnects cancels the generations."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        for generation in generations:
            generation.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher


@contextlib.asynccontextmanager
async def closing(request: Request, *generations: Generation) -> AsyncIterator[None]:
    """The block of a response that is sent as a whole: a client that disconnects cancels the generations, and they are
    closed at its end.
    """
    try:
        async with cancelling(request.receive, *generations):
            yield
    finally:
        for generation in generations:
            await generation.close()
