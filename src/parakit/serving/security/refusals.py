"""Refuses a request before any route: as JSON in the form of its route, a websocket by not opening it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from parakit.serving.accounts.errors import RequestRefused
from parakit.serving.api.errors import error_response


async def refuse(
    error: RequestRefused, scope: Scope, receive: Receive, send: Send, *, close: bool = False
) -> None:
    """Answer with the error's status. `close`: end the connection, whose request is not read to its end."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": error.message[:100]})
        return
    response = error_response(error, Request(scope))
    if close:
        response.headers["Connection"] = "close"
    await response(scope, receive, send)
