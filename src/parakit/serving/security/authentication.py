"""Who sends a request: found before any route, so that no route can be left without it.

A key comes as `Authorization: Bearer KEY`, as `x-api-key: KEY`, or by the cookie of a browser that has logged in. Only
`/health` needs none. What is no route of the API is the studio, which starts builds and deletes models: it needs a key
that may.
"""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from parakit.serving.accounts.accounts import Accounts
from parakit.serving.accounts.errors import Forbidden, RequestRefused, Unauthorized
from parakit.serving.accounts.keys import KeyHolder
from parakit.serving.security.login import COOKIE, LOGIN_PATH, Login
from parakit.serving.security.refusals import refuse

PUBLIC_PATHS = frozenset({"/health"})
API_PATHS = frozenset({"/tokenize", "/detokenize", "/metrics", "/openapi.json"})
API_PREFIX = "/v1/"


def is_api_path(path: str) -> bool:
    """Whether a path is a part of the API, which any key may use."""
    return path in API_PATHS or path.startswith(API_PREFIX)


class Authentication:
    """ASGI middleware: the account is in `scope["state"]["account"]` from here on."""

    def __init__(self, app: ASGIApp, accounts: Accounts, is_https: bool = False) -> None:
        self.app, self.accounts = app, accounts
        self.login = Login(accounts, is_https)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        if scope["type"] == "http" and path == LOGIN_PATH:
            await self.login(scope, receive, send)
            return
        try:
            account = self._account(HTTPConnection(scope)) if path not in PUBLIC_PATHS else None
        except RequestRefused as error:
            if self._is_page(scope, error):
                await self.login.show(scope, receive, send)
            else:
                await refuse(error, scope, receive, send, close=True)
            return
        scope.setdefault("state", {})["account"] = account
        await self.app(scope, self._while_valid(scope, receive), send)

    def _while_valid(self, scope: Scope, receive: Receive) -> Receive:
        """A websocket stays open for hours: with each message the key is looked up again, so that revoking it ends this."""
        if scope["type"] != "websocket":
            return receive

        async def receive_while_valid() -> Message:
            message = await receive()
            try:
                self._account(HTTPConnection(scope))
            except RequestRefused:
                return {"type": "websocket.disconnect", "code": 1008}
            return message

        return receive_while_valid

    def _account(self, request: HTTPConnection) -> KeyHolder:
        """Raises `Unauthorized` or `Forbidden`."""
        account = self._of_credentials(request)
        if not (account.studio or is_api_path(request.scope["path"])):
            raise Forbidden(
                f"the key {account.name!r} may not use the studio",
                "its owner makes one that may with `parakit keys add NAME --studio`",
            )
        return account

    def _of_credentials(self, request: HTTPConnection) -> KeyHolder:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme:
            if scheme.lower() != "bearer":
                raise Unauthorized(
                    "the Authorization header is not understood", "send `Authorization: Bearer KEY`"
                )
            return self.accounts.account_of(token.strip() or None)
        if key := request.headers.get("x-api-key"):
            return self.accounts.account_of(key.strip())
        if session := request.cookies.get(COOKIE):
            account = self.login.account_of(session)
            if account is not None:
                return account
        return self.accounts.account_of(None)

    def _is_page(self, scope: Scope, error: RequestRefused) -> bool:
        """Whether a person in a browser wants a page of the studio."""
        if scope["type"] != "http" or scope["method"] != "GET" or is_api_path(scope["path"]):
            return False
        return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])
