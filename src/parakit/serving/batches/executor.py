"""Answers the lines of a batch with the routes of the API, in this process: a line gets what the same request over HTTP gets.

The routes are called without the checks of a connection (hosts, keys, slow clients): the request that made the batch has passed
them, and its account is charged.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, FastAPI
from starlette.types import Message, Scope

from parakit.serving.api.errors import add_error_handlers
from parakit.serving.batches.lines import BatchLine, LineResult
from parakit.serving.context import ServingContext
from parakit.serving.generation.call import new_id


class LineExecutor:
    """The routes of one server, for lines."""

    def __init__(self, context: ServingContext, routers: tuple[APIRouter, ...]) -> None:
        self._app = FastAPI(
            openapi_url=None, docs_url=None, redoc_url=None, telemetry={"auto_configure": False}
        )
        self._app.state.serving = context
        for router in routers:
            self._app.include_router(router)
        add_error_handlers(self._app)

    async def answer(self, line: BatchLine, account: Any = None) -> LineResult:
        """The response to a line, whatever it is."""
        request_id, body = new_id("req"), json.dumps(line.body).encode()
        path = urlsplit(line.url).path
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
            "client": None,
            "server": None,
            "state": {"account": account, "request_id": request_id},
        }
        sent: list[Message] = []
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Message:
            message = next(messages, None)
            return message if message is not None else await _never()

        async def send(message: Message) -> None:
            sent.append(message)

        with contextlib.suppress(Exception):  # raised again for a server's log, behind the response with 500
            await self._app(scope, receive, send)
        content = b"".join(one.get("body", b"") for one in sent if one["type"] == "http.response.body")
        return LineResult(line.custom_id, sent[0]["status"], request_id, json.loads(content))


async def _never() -> Message:
    """A client that stays: it neither sends more nor goes away."""
    await asyncio.Event().wait()
    raise AssertionError
