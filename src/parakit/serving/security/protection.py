"""Puts all checks before the routes of an app, in the order in which a request meets them."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from parakit.serving.accounts.accounts import Accounts
from parakit.serving.security.authentication import Authentication
from parakit.serving.security.body_limit import BodyLimit
from parakit.serving.security.config import SecurityConfig
from parakit.serving.security.hosts import HostCheck

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"SAMEORIGIN"),
)


def protect(app: FastAPI, host: str, config: SecurityConfig, accounts: object) -> None:
    """Add the checks; what is added last comes first. Without `Accounts` there are no
    keys, which is for loopback.
    """
    if isinstance(accounts, Accounts):
        app.add_middleware(Authentication, accounts=accounts, is_https=config.tls_cert is not None)
    app.add_middleware(BodyLimit, max_bytes=config.max_body_bytes, seconds=config.body_seconds)
    if config.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(config.allowed_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    app.add_middleware(
        HostCheck,
        bound=host,
        allowed_hosts=config.allowed_hosts,
        allowed_origins=config.allowed_origins,
    )
    app.add_middleware(SafeHeaders)


class SafeHeaders:
    """Answers that no other page may embed or read as another type."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = {name.lower() for name, _ in message.get("headers", ())}
                more = [(name, value) for name, value in _HEADERS if name not in known]
                message = {**message, "headers": [*message.get("headers", ()), *more]}
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)
