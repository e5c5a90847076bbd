"""Any OpenAI-compatible chat endpoint as a speaker, with the standard library alone.

Nothing is sent anywhere unless the user named a URL. The key comes from an environment variable and is never written
down. What is worth another try is tried again after a growing pause (no connection, a time-out, 429, 5xx; a
Retry-After header is obeyed); what is not is a `UserError` that says what the other side said.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from http.client import HTTPException
from typing import Any

from pydantic import Field

from parakit.alignment.chat_models.chat_model import Messages, OnProgress
from parakit.common.errors import UserError
from parakit.common.settings import Config

_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}
_MOST_PAUSE = 60.0
_MOST_BYTES = 16 * 2**20  # of an answer


class OpenAIChatConfig(Config):
    """Where a model is served and how patient we are."""

    url: str = Field(description="The API's base, for example http://localhost:8000/v1.")
    model: str | None = Field(
        default=None, description="The model's name there; none: the first that it lists."
    )
    key_variable: str = Field(default="PARAKIT_API_KEY", description="The environment variable with the key.")
    timeout: float = Field(default=60.0, gt=0, description="Seconds that one request may take.")
    n_tries: int = Field(default=5, ge=1, description="How often a request is made before giving up.")
    pause: float = Field(default=1.0, ge=0, description="Seconds before the second try; doubles each time.")
    n_at_once: int = Field(default=4, ge=1, le=64, description="Requests in flight.")


class OpenAIChatModel:
    """A chat model behind an HTTP address."""

    def __init__(self, config: OpenAIChatConfig) -> None:
        self.config = config
        self.base = config.url.rstrip("/").removesuffix("/chat/completions")

    @property
    def name(self) -> str:
        return f"{self.model} at {self.base}"

    @cached_property
    def model(self) -> str:
        """The model's name as the endpoint knows it."""
        if self.config.model:
            return self.config.model
        listed = self._request("/models", None)
        try:
            return str(listed["data"][0]["id"])
        except (KeyError, IndexError, TypeError):
            raise UserError(
                f"{self.base}/models: lists no model", "name the model that is to be asked"
            ) from None

    def generate(
        self,
        conversations: Sequence[Messages],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seeds: Sequence[int] | None = None,
        advance: OnProgress | None = None,
    ) -> list[str | None]:
        """Answers in the order of the conversations; None where the endpoint gave no text."""
        model = self.model  # asked for once, before requests are made at once

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
            if advance is not None:
                advance(1)
            return text

        with ThreadPoolExecutor(self.config.n_at_once) as pool:
            return list(pool.map(one, range(len(conversations))))

    def score_choices(
        self, conversations: Sequence[Messages], choices: Sequence[str]
    ) -> list[tuple[float, ...] | None]:
        """1 for the choice that the answer begins with; None for an answer that begins with none, or with several."""
        answers = self.generate(conversations, max_new_tokens=16)
        return [_choice(answer, choices) for answer in answers]

    def _text(self, reply: Any) -> str | None:
        try:
            content = reply["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise UserError(
                f"{self.base}: answered with something that is no chat completion: {_cut(json.dumps(reply))}",
                "give the base address of an OpenAI-compatible API, for example http://localhost:8000/v1",
            ) from None
        return content.strip() if isinstance(content, str) else None

    def _request(self, path: str, body: dict[str, Any] | None) -> Any:
        """The JSON that the endpoint answers with."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := os.environ.get(self.config.key_variable):
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, headers)
        for number in range(self.config.n_tries):
            last = number + 1 == self.config.n_tries
            try:
                with urllib.request.urlopen(request, timeout=self.config.timeout) as reply:
                    return self._parsed(reply.read(_MOST_BYTES))
            except urllib.error.HTTPError as error:
                said = _cut(error.read(2000).decode(errors="replace"))
                if last or error.code not in _AGAIN:
                    raise self._refused(error.code, said, number + 1) from None
                pause = _seconds(error.headers.get("Retry-After"))
            except (OSError, HTTPException) as error:  # URLError is an OSError, and so is a time-out
                if last:
                    reason = getattr(error, "reason", None) or error
                    raise UserError(
                        f"{self.base}: cannot be reached after {number + 1} tries: {reason or type(error).__name__}",
                        "check the address and that the server runs; what was done so far is kept",
                    ) from None
                pause = None
            time.sleep(min(_MOST_PAUSE, self.config.pause * 2**number if pause is None else pause))
        raise AssertionError("the last try returns or raises")

    def _parsed(self, answer: bytes) -> Any:
        try:
            return json.loads(answer)
        except ValueError:
            raise UserError(
                f"{self.base}: answered with something that is not JSON: {_cut(answer.decode(errors='replace'))}",
                "give the base address of an OpenAI-compatible API, for example http://localhost:8000/v1",
            ) from None

    def _refused(self, status: int, said: str, n_tries: int) -> UserError:
        if status in (401, 403):
            hint = f"put a valid key into the environment variable {self.config.key_variable}"
            return UserError(f"{self.base}: refused the request (HTTP {status}): {said}", hint)
        if status == 429:
            hint = "wait, or ask fewer things at once; what was done so far is kept"
            return UserError(f"{self.base}: rate limit reached, {n_tries} tries: {said}", hint)
        hint = "check the address and the model's name"
        return UserError(f"{self.base}: HTTP {status} after {n_tries} tries: {said}", hint)


def _choice(answer: str | None, choices: Sequence[str]) -> tuple[float, ...] | None:
    if answer is None:
        return None
    text = answer.lower().lstrip(" \n\t\"'*(")
    hits = []
    for choice in choices:
        word = choice.lower().rstrip(".")
        hits.append(text.startswith(word) and not text[len(word) : len(word) + 1].isalnum())
    return tuple(float(hit) for hit in hits) if sum(hits) == 1 else None


def _seconds(header: str | None) -> float | None:
    """Of a Retry-After header, where it gives seconds."""
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 200 else text[:197] + "..."
