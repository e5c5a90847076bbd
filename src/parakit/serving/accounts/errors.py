"""Refusals that a client of the server gets: a status of HTTP, a short code, and headers such as Retry-After."""

from __future__ import annotations

import math

from parakit.common.errors import UserError


class RequestRefused(UserError):
    """A request that is not served. `status`: of HTTP; `kind` and `code`: for programs, as in OpenAI's error object."""

    status = 400
    kind = "invalid_request_error"
    code: str | None = "invalid_request"
    param: str | None = None
    """The parameter that is wrong."""

    def __init__(self, message: str, hint: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message, hint)
        self.headers: dict[str, str] = {}
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))


class Unauthorized(RequestRefused):
    """No key, or one that is unknown or revoked."""

    status = 401
    kind = "authentication_error"
    code = "invalid_api_key"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.headers["WWW-Authenticate"] = "Bearer"


class Forbidden(RequestRefused):
    """A key that does not allow this, or a foreign Host or Origin."""

    status = 403
    kind = "permission_error"
    code = "forbidden"


class QuotaExceeded(RequestRefused):
    """A key has used what its quota allows; Retry-After has the seconds until the oldest use leaves the window."""

    status = 429
    kind = "rate_limit_error"
    code = "rate_limit_exceeded"


class LedgerUnavailable(RequestRefused):
    """The ledger cannot be written, so nothing is served (unless `on_ledger_failure` is "warn")."""

    status = 503
    kind = "server_error"
    code = "ledger_unavailable"
