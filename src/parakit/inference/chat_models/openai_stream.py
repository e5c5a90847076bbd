"""An answer of an endpoint with OpenAI's chat API piece by piece, as server-sent events; whole where it does not stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any

from parakit.common.files import JsonObject
from parakit.data.conversations.conversation import Message
from parakit.inference.chat_models.openai import OpenAIChatModel
from parakit.inference.config import SamplingSettings

MAX_LINE = 2**20  # bytes of an event
MAX_ANSWER = 64 * 2**20


@dataclass(frozen=True)
class AnswerPiece:
    """What one event adds; counts are those of the whole answer, 0 where the endpoint does not report them."""

    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    n_prompt_tokens: int = 0
    n_completion_tokens: int = 0


def stream_answer(
    model: OpenAIChatModel,
    messages: Sequence[Message],
    sampling: SamplingSettings,
    on_piece: Callable[[AnswerPiece], bool],
) -> None:
    """Call `on_piece` for each piece until it returns False, which closes the connection. `UserError` for an endpoint that
    cannot be reached, refuses, or answers with something else.
    """
    body: JsonObject = {
        "model": model.model,
        "messages": [{"role": one.role, "content": one.content} for one in messages],
        "max_tokens": sampling.get("max_new_tokens", 200),
        "temperature": sampling.get("temperature", 0.7),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    seed, top_p = sampling.get("seed"), sampling.get("top_p")
    body |= {} if seed is None else {"seed": seed % 2**31}
    body |= {} if top_p is None else {"top_p": top_p}

    def read(reply: HTTPResponse) -> None:
        for event in _events(model, reply):
            if not on_piece(_piece(model, event)):
                return

    model.request("/chat/completions", body, read)


def _events(model: OpenAIChatModel, reply: HTTPResponse) -> Iterator[Any]:
    """The JSON of each event; of an answer that is no stream, the one object."""
    if "text/event-stream" not in (reply.headers.get("Content-Type") or ""):
        yield _parsed(model, reply.read(MAX_ANSWER))
        return
    n_left = MAX_ANSWER
    while n_left > 0 and (line := reply.readline(MAX_LINE)):
        n_left -= len(line)
        name, _, data = line.partition(b":")
        if name.strip() == b"data":
            if data.strip() == b"[DONE]":
                return
            yield _parsed(model, data)


def _parsed(model: OpenAIChatModel, data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise model.no_completion(data.decode(errors="replace")) from None


def _piece(model: OpenAIChatModel, event: Any) -> AnswerPiece:
    choices = event.get("choices") if isinstance(event, dict) else None
    if not isinstance(choices, list):
        raise model.no_completion(json.dumps(event))
    first = choices[0] if choices and isinstance(choices[0], dict) else {}
    delta = first.get("delta") or first.get("message") or {}
    usage = event.get("usage") or {}
    reasoning = delta.get("reasoning_content") or delta.get("reasoning")
    return AnswerPiece(
        _text(delta.get("content")),
        _text(reasoning),
        first.get("finish_reason"),
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0
