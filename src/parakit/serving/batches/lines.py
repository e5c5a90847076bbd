"""The lines of a batch: {"custom_id", "method", "url", "body"} each, and of its output {"custom_id", "response", "error"}.

The form is that of OpenAI's batch files. A file is read as a whole before anything is computed, so that a fault in its last
line costs nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.settings import canonical_json, closest_match

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages")
MAX_LINES = 50_000
_HINT = 'a line looks like {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {...}}'


@dataclass(frozen=True)
class BatchLine:
    """One request."""

    custom_id: str
    url: str
    body: JsonObject

    @property
    def key(self) -> str:
        """Names the line in the record of what is done: other content under the same id is another line."""
        content = canonical_json({"url": self.url, "body": self.body})
        return f"{hashlib.sha256(content.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}:{self.custom_id}"


@dataclass(frozen=True)
class LineResult:
    """The answer to a line: the status and the JSON of the response."""

    custom_id: str
    status: int
    request_id: str
    body: JsonObject

    @property
    def is_ok(self) -> bool:
        """Whether the request was answered."""
        return self.status == 200

    def to_row(self) -> JsonObject:
        """The line of an output file."""
        error = None
        if not self.is_ok:
            found = self.body.get("error") or {}
            error = {
                "code": str(found.get("code") or self.status),
                "message": str(found.get("message") or ""),
            }
        response = {"status_code": self.status, "request_id": self.request_id, "body": self.body}
        row_id = self.request_id.replace("req-", "batch_req_")
        return {"id": row_id, "custom_id": self.custom_id, "response": response, "error": error}


def read_lines(lines: Iterable[bytes], endpoint: str | None = None) -> list[BatchLine]:
    """The requests of a file. `UserError` with the number of the first line that is none; with an `endpoint` all are to it."""
    found: list[BatchLine] = []
    seen: set[str] = set()
    for number, data in enumerate(lines, 1):
        if not data.strip():
            continue
        line = _line(data, number, endpoint)
        if line.custom_id in seen:
            raise UserError(
                f"line {number}: custom_id {line.custom_id!r:.80} is there twice", "make each unique"
            )
        seen.add(line.custom_id)
        found.append(line)
        if len(found) > MAX_LINES:
            raise UserError(f"the file has more than {MAX_LINES:,} lines", "split it")
    if not found:
        raise UserError("the file has no lines", _HINT)
    return found


def _line(data: bytes, number: int, endpoint: str | None) -> BatchLine:
    try:
        row: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"line {number}: is no JSON: {error}", _HINT) from None
    if not isinstance(row, dict):
        raise UserError(f"line {number}: is {type(row).__name__}, not an object", _HINT)
    unknown = next((key for key in row if key not in ("custom_id", "method", "url", "body")), None)
    if unknown is not None:
        close = closest_match(unknown, ("custom_id", "method", "url", "body"))
        raise UserError(
            f"line {number}: unknown key {unknown!r:.80}", f"did you mean {close}?" if close else _HINT
        )
    custom_id, url, body = row.get("custom_id"), row.get("url"), row.get("body")
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= 512:
        raise UserError(f"line {number}: no custom_id of 1 to 512 characters", _HINT)
    if row.get("method", "POST") != "POST":
        raise UserError(f"line {number}: method {row['method']!r:.40}", "the method is POST")
    if url not in ENDPOINTS:
        raise UserError(
            f"line {number}: url {url!r:.80} is not one of a batch", f"urls: {', '.join(ENDPOINTS)}"
        )
    if endpoint is not None and url != endpoint:
        raise UserError(
            f"line {number}: url {url}, and the batch's endpoint is {endpoint}", "one endpoint a batch"
        )
    if not isinstance(body, dict):
        raise UserError(f"line {number}: the body is no object", _HINT)
    if body.get("stream"):
        raise UserError(f"line {number}: stream is set", "answers of a batch are whole: leave it out")
    return BatchLine(custom_id, url, body)
