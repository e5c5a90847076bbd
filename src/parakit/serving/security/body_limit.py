"""Bounds the body of a request: its bytes, and the time in which it arrives."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from parakit.serving.accounts.errors import RequestRefused
from parakit.serving.security.refusals import refuse


class BodyTooLarge(RequestRefused):
    """More bytes than `max_body_bytes`."""

    status = 413
    code = "body_too_large"

    def __init__(self, max_bytes: int) -> None:
        super().__init__(
            f"the body is larger than {max_bytes:,} bytes",
            "send less, or start the server with a larger --max-body-bytes",
        )


class BodyLimit:
    """ASGI middleware. A body whose Content-Length is over the limit is refused without being read."""

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float) -> None:
        self.app, self.max_bytes, self.seconds = app, max_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not declared.isdigit() or len(declared) > 15 or int(declared) > self.max_bytes:
            await refuse(BodyTooLarge(self.max_bytes), scope, receive, send, close=True)
            return
        await self.app(scope, _Bounded(receive, self.max_bytes, self.seconds), send)


class _Bounded:
    """`receive` with the bounds; after the body it waits for the client's end without one."""

    def __init__(self, receive: Receive, max_bytes: int, seconds: float) -> None:
        self.receive, self.max_bytes, self.seconds = receive, max_bytes, seconds
        self.n_bytes, self.is_whole = 0, False
        self.deadline: float | None = None

    async def __call__(self) -> Message:
        if self.is_whole:
            return await self.receive()
        loop = asyncio.get_running_loop()
        self.deadline = self.deadline or loop.time() + self.seconds
        try:
            async with asyncio.timeout_at(self.deadline):
                message = await self.receive()
        except TimeoutError:
            raise HTTPException(
                408, f"the body was not here within {self.seconds:g} s", {"Connection": "close"}
            ) from None
        self.n_bytes += len(message.get("body", b""))
        self.is_whole = not message.get("more_body", False)
        if self.n_bytes > self.max_bytes:
            error = BodyTooLarge(self.max_bytes)
            raise HTTPException(413, f"{error.message}: {error.hint}", {"Connection": "close"})
        return message
