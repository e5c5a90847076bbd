"""The Content-Security-Policy of the studio's pages, as an ASGI middleware.

Scripts come from this server, or bear the response's nonce, which is random: markup that reaches a page neither runs as a
script nor as an event handler. NiceGUI compiles Vue templates in the browser, which needs 'unsafe-eval', and sets styles
inline. No page may be framed, load, or connect to anything elsewhere.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
AsgiEvent = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiEvent]]
Send = Callable[[AsgiEvent], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_SCRIPT = re.compile(rb"<script(?=[\s>])")
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


def content_security_policy(nonce: str) -> str:
    """The policy of a page whose own scripts bear this nonce."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' 'nonce-{nonce}' 'unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            "font-src 'self'",
            "img-src 'self' data: blob:",
            "connect-src 'self'",
            "frame-src 'self'",
            "frame-ancestors 'none'",
            "form-action 'self'",
            "base-uri 'none'",
        )
    )


class SecurityPolicy:
    """Adds the policy to every HTML response that has none, and the nonce to its scripts."""

    def __init__(self, app: AsgiApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start: AsgiEvent | None = None
        body = bytearray()

        async def send_with_policy(event: AsgiEvent) -> None:
            nonlocal start
            if event["type"] == "http.response.start":
                headers = [(name.lower(), value) for name, value in event.get("headers", ())]
                event = {**event, "headers": headers + list(_HEADERS)}
                if _needs_policy(headers):
                    start = event  # with the body, whose length the nonces change
                    return
            if start is None:
                await send(event)
                return
            body.extend(event.get("body", b""))
            if not event.get("more_body", False):
                await _send_page(start, bytes(body), send)

        # a page is changed below, so it must not arrive compressed
        headers = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        is_page = any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])
        await self.app({**scope, "headers": headers} if is_page else scope, receive, send_with_policy)


async def _send_page(start: AsgiEvent, body: bytes, send: Send) -> None:
    """The page with its policy; its scripts bear the nonce."""
    nonce = secrets.token_urlsafe(16)
    # The text of users is in the page only as escaped JSON and escaped HTML, where no "<script" is.
    body = _SCRIPT.sub(f'<script nonce="{nonce}"'.encode(), body)
    headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
    policy = content_security_policy(nonce).encode()
    headers += [(b"content-security-policy", policy), (b"content-length", str(len(body)).encode())]
    await send({**start, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _needs_policy(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a response is a page of the studio's own: HTML without a policy."""
    found = dict(headers)
    return (
        found.get(b"content-type", b"").startswith(b"text/html") and b"content-security-policy" not in found
    )
