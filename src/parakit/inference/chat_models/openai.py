"""Any endpoint with the OpenAI chat API as a chat model, with the standard library alone.

Requests go only to the URL that the user named. The key comes from an environment variable and is never written to a
file. Connection errors, time-outs, 429 and 5xx are retried with exponential backoff or after the Retry-After header's
seconds; other failures are a `UserError` with the endpoint's message.
"""

from __future__ import annotations

import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from http.client import HTTPException, HTTPResponse
from typing import Any, TypeVar

from pydantic import Field

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import OnProgress
from parakit.common.settings import Config
from parakit.inference.chat_models.chat_model import Messages

Result = TypeVar("Result")
_RETRIED_STATUSES = {408, 409, 425, 429, 500, 502, 503, 504}
_MAX_PAUSE = 60.0
_AFTER_LETTER = re.compile(r"\s*($|[^\w\s]|\n|is\b)")
_MAX_RESPONSE_BYTES = 16 * 2**20


class OpenAIChatConfig(Config):
    """An endpoint, and the limits of its requests."""

    url: str = Field(description="Base URL of the API, for example http://localhost:8000/v1.")
    model: str | None = Field(
        default=None, description="Name of the model at the endpoint. Default: the first that it lists."
    )
    api_key_variable: str = Field(
        default="PARAKIT_API_KEY", description="Environment variable that holds the API key."
    )
    timeout: float = Field(default=60.0, gt=0, description="Seconds until a request times out.")
    max_attempts: int = Field(default=5, ge=1, description="Attempts per request.")
    retry_pause: float = Field(
        default=1.0, ge=0, description="Seconds before the first retry; doubles each time."
    )
    max_concurrent: int = Field(default=4, ge=1, le=64, description="Concurrent requests.")


class OpenAIChatModel:
    """A chat model served over HTTP."""

    def __init__(self, config: OpenAIChatConfig) -> None:
        self.config = config
        self.base = config.url.rstrip("/").removesuffix("/chat/completions")

    @property
    def name(self) -> str:
        return f"{self.model} at {self.base}"

    @cached_property
    def model(self) -> str:
        """The model's name at the endpoint."""
        if self.config.model:
            return self.config.model
        listed = self._request("/models", None)
        try:
            return str(listed["data"][0]["id"])
        except (KeyError, IndexError, TypeError):
            raise UserError(f"{self.base}/models: lists no model", "name the model") from None

    def generate(
        self,
        conversations: Sequence[Messages],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
        on_progress: OnProgress | None = None,
    ) -> list[str | None]:
        """Answers in the order of the conversations; None where the endpoint returned no text."""
        model = self.model  # one request, before the concurrent ones

        def one(number: int) -> str | None:
            body = {
                "model": model,
                "messages": [{"role": m.role, "content": m.content} for m in conversations[number]],
                "max_tokens": max_new_tokens,
                "temperature": temperature,
            }
            if seeds is not None:
                body["seed"] = seeds[number] % 2**31
            text = self._text(self._request("/chat/completions", body))
            if on_progress is not None:
                on_progress(1)
            return text

        return self.concurrently(one, len(conversations))

    def concurrently(self, request: Callable[[int], Result], n_requests: int) -> list[Result]:
        """The results of requests by number, in order, as many at once as the settings allow. After the first that fails
        no other begins.
        """
        with ThreadPoolExecutor(self.config.max_concurrent) as pool:
            try:
                return list(pool.map(request, range(n_requests)))
            except BaseException:  # the others would fail too, each after all its attempts
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def score_choices(
        self, conversations: Sequence[Messages], choices: Sequence[str]
    ) -> list[tuple[float, ...] | None]:
        """1 for the choice that the answer begins with, 0 for the others; None where it begins with none or several. After a
        choice of one letter the answer must end, or go on as no sentence that begins with that letter can: "A good one".
        """
        answers = self.generate(conversations, max_new_tokens=16)
        return [_choice(answer, choices) for answer in answers]

    def _text(self, reply: Any) -> str | None:
        try:
            content = reply["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise self.no_completion(json.dumps(reply)) from None
        return content.strip() if isinstance(content, str) else None

    def no_completion(self, reply: str) -> UserError:
        """The error of an endpoint that answers with something else."""
        return UserError(
            f"{self.base}: the response is not a chat completion: {_shorten(reply)}",
            "give the base address of an OpenAI-compatible API, for example http://localhost:8000/v1",
        )

    def _request(self, path: str, body: JsonObject | None) -> Any:
        """The endpoint's response as JSON."""
        return self._parse(self.request(path, body, lambda reply: reply.read(_MAX_RESPONSE_BYTES)))

    def request(self, path: str, body: JsonObject | None, read: Callable[[HTTPResponse], Result]) -> Result:
        """What `read` makes of the endpoint's response, which is closed behind it; failures are retried, or a `UserError`."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := os.environ.get(self.config.api_key_variable):
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, headers)
        for number in range(self.config.max_attempts):
            last = number + 1 == self.config.max_attempts
            try:
                with urllib.request.urlopen(request, timeout=self.config.timeout) as reply:
                    return read(reply)
            except urllib.error.HTTPError as error:
                message = _shorten(error.read(2000).decode(errors="replace"))
                if last or error.code not in _RETRIED_STATUSES:
                    raise self._request_error(error.code, message, number + 1) from None
                pause = _seconds(error.headers.get("Retry-After"))
            except (OSError, HTTPException) as error:  # URLError is an OSError, and so is a time-out
                if last:
                    reason = getattr(error, "reason", None) or error
                    raise UserError(
                        f"{self.base}: cannot be reached after {number + 1} attempts: {reason or type(error).__name__}",
                        "check the address and that the server runs; results so far are kept",
                    ) from None
                pause = None
            time.sleep(min(_MAX_PAUSE, self.config.retry_pause * 2**number if pause is None else pause))
        raise AssertionError("the last attempt returns or raises")

    def _parse(self, answer: bytes) -> Any:
        try:
            return json.loads(answer)
        except ValueError:
            raise UserError(
                f"{self.base}: the response is not JSON: {_shorten(answer.decode(errors='replace'))}",
                "give the base address of an OpenAI-compatible API, for example http://localhost:8000/v1",
            ) from None

    def _request_error(self, status: int, message: str, n_attempts: int) -> UserError:
        if status in (401, 403):
            hint = f"put a valid key into the environment variable {self.config.api_key_variable}"
            return UserError(f"{self.base}: refused the request (HTTP {status}): {message}", hint)
        if status == 429:
            hint = "wait, or send fewer requests at once; results so far are kept"
            return UserError(f"{self.base}: rate limit reached, {n_attempts} attempts: {message}", hint)
        hint = "check the address and the model's name"
        return UserError(f"{self.base}: HTTP {status} after {n_attempts} attempts: {message}", hint)


def _choice(answer: str | None, choices: Sequence[str]) -> tuple[float, ...] | None:
    if answer is None:
        return None
    text = answer.lower().lstrip(" \n\t\"'*(")
    hits = []
    for choice in choices:
        word = choice.lower().rstrip(".")
        rest = text[len(word) :]
        ends = not rest[:1].isalnum() if len(word) > 1 else _AFTER_LETTER.match(rest) is not None
        hits.append(text.startswith(word) and ends)
    return tuple(float(hit) for hit in hits) if sum(hits) == 1 else None


def _seconds(header: str | None) -> float | None:
    """The seconds of a Retry-After header; None for its other form, a date."""
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 200 else text[:197] + "..."
