"""The page where a browser gives its key, and the session that it gets for it.

The cookie holds a random number, not the key; it is sent to this server only (SameSite=Strict, HttpOnly, Secure under https).
Sessions are in memory: they end with the server, after half a day, or when their key is revoked.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from parakit.serving.accounts.accounts import Accounts
from parakit.serving.accounts.errors import RequestRefused
from parakit.serving.accounts.keys import KeyHolder, digest

COOKIE, LOGIN_PATH = "parakit_session", "/login"
SESSION_SECONDS = 12 * 3600
MAX_FORM_BYTES, MAX_SESSIONS = 4096, 10_000
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Parakit: log in</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
main { max-width: 24rem; margin: 15vh auto 0; padding: 0 1rem }
label, input, button { display: block; width: 100%; box-sizing: border-box; font: inherit }
input, button { margin: .5rem 0 1rem; padding: .6rem }
</style></head><body><main>
<h1>Parakit</h1>
<form method="post" action="/login">
<label for="key">API key</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
<button>Log in</button>
</form>
<p role="alert">MESSAGE</p>
<p>Keys are made with <code>parakit keys add NAME --studio</code>.</p>
</main></body></html>
"""
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
}


class Login:
    """The route `/login` and its sessions: digests of the random number, with the digest of the key and an end."""

    def __init__(self, accounts: Accounts, is_https: bool) -> None:
        self.accounts, self.is_https = accounts, is_https
        self._sessions: dict[bytes, tuple[bytes, float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if request.method == "POST":
            response = await self._log_in(request)
        elif request.method in ("GET", "HEAD"):
            response = _page("", 200)
        else:
            response = Response(status_code=405, headers={"Allow": "GET, HEAD, POST"})
        await response(scope, receive, send)

    async def show(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The page in place of one that needs a key."""
        await _page("", 401)(scope, receive, send)

    def account_of(self, session: str) -> KeyHolder | None:
        """The account of a session; None for one that has ended, whose key is revoked, or that never was."""
        name = hashlib.sha256(session.encode()).digest()
        key_digest, end = self._sessions.get(name, (b"", 0.0))
        if time.monotonic() > end:
            self._sessions.pop(name, None)
            return None
        try:
            return self.accounts.account_of_digest(key_digest)
        except RequestRefused:
            return None

    async def _log_in(self, request: Request) -> Response:
        body = b""
        try:
            async for part in request.stream():
                body += part
                if len(body) > MAX_FORM_BYTES:
                    return _page("This is no key.", 413)
        except (HTTPException, ClientDisconnect):  # too slow, or gone
            return _page("The form did not arrive.", 408)
        key = parse_qs(body.decode("utf-8", "replace")).get("key", [""])[0].strip()
        try:
            account = self.accounts.account_of_digest(digest(key))
        except RequestRefused:
            return _page("This key is unknown or revoked.", 401)
        if not account.studio:
            return _page("This key may not use the studio.", 403)
        session = secrets.token_urlsafe(32)
        self._forget_ended()
        ends = time.monotonic() + SESSION_SECONDS
        self._sessions[hashlib.sha256(session.encode()).digest()] = (digest(key), ends)
        response = RedirectResponse("/", 303, {"Cache-Control": "no-store"})
        response.set_cookie(
            COOKIE,
            session,
            max_age=SESSION_SECONDS,
            path="/",
            secure=self.is_https or request.headers.get("x-forwarded-proto") == "https",
            httponly=True,
            samesite="strict",
        )
        return response

    def _forget_ended(self) -> None:
        now = time.monotonic()
        for name in [name for name, (_, end) in self._sessions.items() if end < now]:
            del self._sessions[name]
        while len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]  # the oldest


def _page(message: str, status: int) -> Response:
    return HTMLResponse(_PAGE.replace("MESSAGE", message), status, _HEADERS)
