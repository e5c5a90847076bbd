"""Errors as OpenAI's API writes them: {"error": {"message", "type", "param", "code"}}, with the HTTP status of each; those of
`/v1/messages` in the form of that route.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from parakit.common.errors import UserError
from parakit.common.settings import closest_match
from parakit.inference.engine.engine import QueueFull
from parakit.serving.accounts.errors import RequestRefused
from parakit.serving.api.anthropic_messages.errors import messages_error
from parakit.serving.context import request_id_of
from parakit.serving.errors import (
    ContextOverflow,
    Interrupted,
    ModelUnavailable,
    OutOfMemory,
    ShuttingDown,
    UnknownModel,
)
from parakit.tokens.tokenizer.fast_encoding import fix_surrogates

RETRY_SECONDS = 1
MESSAGES_ROUTES = "/v1/messages"
# what pydantic puts into the path of a fault in a union, such as `list[constrained-str]`
_KIND_OF_UNION = re.compile(r"(constrained-|nullable|literal|union)?(str|int|float|bool|list|dict)?(\[.*\])?")
MAX_SHOWN = 120  # characters of a value that a message repeats
_logger = logging.getLogger("parakit.serving")
# status, type and code of each error; the first class that fits decides
_KINDS: Sequence[tuple[type[Exception], int, str, str | None]] = (
    (UnknownModel, 404, "invalid_request_error", "model_not_found"),
    (ContextOverflow, 400, "invalid_request_error", "context_length_exceeded"),
    (QueueFull, 429, "rate_limit_error", "queue_full"),
    (ModelUnavailable, 503, "server_error", "model_unavailable"),
    (OutOfMemory, 503, "server_error", "out_of_memory"),
    (ShuttingDown, 503, "server_error", "shutting_down"),
    (Interrupted, 503, "server_error", "interrupted"),
    (UserError, 400, "invalid_request_error", None),
)


class ApiError(RequestRefused):
    """A refusal with a status of its own."""

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.status, self.kind, self.code, self.param = status, kind, code, param
        self.headers = dict(headers or {})


def error_body(error: Exception) -> tuple[int, dict[str, Any]]:
    """The status and the JSON of an error. An error that is not the user's says nothing of its cause."""
    if isinstance(error, RequestRefused):
        return error.status, _body(_text(error), error.kind, error.param, error.code)
    for kind, status, name, code in _KINDS:
        if isinstance(error, kind):
            assert isinstance(error, UserError)
            param = "model" if isinstance(error, UnknownModel) else None
            return status, _body(_text(error), name, param, code)
    return 500, _body("the server failed on this request; its log has the reason", "server_error", None, None)


def _text(error: UserError) -> str:
    return f"{error.message}: {error.hint}" if error.hint else error.message


def _body(message: str, kind: str, param: str | None, code: str | None) -> dict[str, Any]:
    shown = [None if text is None else fix_surrogates(text) for text in (message, param)]
    return {"error": {"message": shown[0], "type": kind, "param": shown[1], "code": code}}


def error_response(error: Exception, request: Request) -> JSONResponse:
    """The response that reports an error."""
    status, body = error_body(error)
    headers = dict(getattr(error, "headers", None) or {})
    if status in (429, 503):
        headers.setdefault("Retry-After", str(RETRY_SECONDS))
    return _response(request, status, body, headers)


def _response(
    request: Request, status: int, body: dict[str, Any], headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The error in the form of the route."""
    if request.url.path.startswith(MESSAGES_ROUTES):
        body = messages_error(status, body, request_id_of(request))
    return JSONResponse(body, status, dict(headers or {}))


def add_error_handlers(app: FastAPI) -> None:
    """Errors of every route in OpenAI's form."""

    async def user_error(request: Request, error: Exception) -> JSONResponse:
        return error_response(error, request)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        message, param = describe_faults(error.errors(), known_keys(request))
        return _response(request, 400, _body(message, "invalid_request_error", param, "invalid_value"))

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        message = str(error.detail)
        if error.status_code == 404:
            message = f"{request.method} {request.url.path[:MAX_SHOWN]}: no such route"
        if error.status_code == 405:
            message = f"{request.url.path}: not with {request.method}"
        body = _body(message, "invalid_request_error", None, None)
        return _response(request, error.status_code, body, error.headers)

    async def fault(request: Request, error: Exception) -> JSONResponse:
        _logger.error(
            "request failed", exc_info=error, extra={"fields": {"request_id": request_id_of(request)}}
        )
        return error_response(error, request)

    app.add_exception_handler(UserError, user_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, fault)


def known_keys(request: Request) -> list[str]:
    """The keys that the body of this route may have."""
    field = getattr(request.scope.get("route"), "body_field", None)
    model = getattr(getattr(field, "field_info", None), "annotation", None)
    return list(getattr(model, "model_fields", ()))


def describe_faults(faults: Iterable[Mapping[str, Any]], known: Sequence[str] = ()) -> tuple[str, str | None]:
    """The first faults of a request in words, and the parameter of the first."""
    lines, param = [], None
    for fault in list(faults)[:5]:
        parts = [str(part)[:MAX_SHOWN] for part in fault["loc"] if part != "body"]
        path = ".".join(part for part in parts if not _KIND_OF_UNION.fullmatch(part))
        param = param or path or None
        value, message = fault.get("input"), fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            close = closest_match(path, known)
            lines.append(f"unknown key {path}" + (f": did you mean {close}?" if close else ""))
        elif fault["type"] == "json_invalid":
            lines.append(f"the body is no JSON: {fault.get('ctx', {}).get('error', message)}")
        elif not path or not _is_short(value):
            lines.append(f"{path}: {message}" if path else message)
        else:
            lines.append(f"{path}: {message} (got {value!r})")
    return "; ".join(dict.fromkeys(lines)), param


def _is_short(value: Any) -> bool:
    """Whether a message can repeat a value."""
    if isinstance(value, str | int):
        return len(str(value)) <= MAX_SHOWN
    return value is None or isinstance(value, float)
