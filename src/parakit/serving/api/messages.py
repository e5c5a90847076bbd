"""The messages of OpenAI's chat form, as chat templates get them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from parakit.serving.api.errors import ApiError
from parakit.serving.api.sampling import ApiModel

MAX_MESSAGES = 10_000
_TEXT_PARTS = ("text", "input_text", "output_text")


class Part(ApiModel):
    """A part of a content; only text is read."""

    model_config = ConfigDict(extra="allow")
    type: Annotated[str, Field(max_length=100)]
    text: str | None = None


class CalledFunction(ApiModel):
    """A function with the arguments of a call, as JSON text."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    arguments: str = "{}"


class ToolCallPart(ApiModel):
    """A call that an assistant's turn made."""

    id: Annotated[str, Field(max_length=200)] | None = None
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None


class ChatMessage(ApiModel):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[Part], Field(max_length=MAX_MESSAGES)] | None = None
    name: Annotated[str, Field(max_length=200)] | None = None
    tool_calls: Annotated[list[ToolCallPart], Field(max_length=1000)] | None = None
    tool_call_id: Annotated[str, Field(max_length=200)] | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    annotations: Any = None
    audio: None = None
    function_call: None = None


def template_messages(messages: Sequence[ChatMessage]) -> tuple[Mapping[str, Any], ...]:
    """The messages as mappings of plain text. `ApiError` for a part that is not text."""
    return tuple(_message(message, number) for number, message in enumerate(messages))


def _message(message: ChatMessage, number: int) -> Mapping[str, Any]:
    row: dict[str, Any] = {"role": "system" if message.role == "developer" else message.role}
    row["content"] = _text(message, number)
    for key in ("name", "tool_call_id", "reasoning_content"):
        if (value := getattr(message, key)) is not None:
            row[key] = value
    if message.tool_calls:
        row["tool_calls"] = [call.model_dump(exclude_none=True) for call in message.tool_calls]
    return row


def _text(message: ChatMessage, number: int) -> str:
    where = f"messages.{number}.content"
    if message.content is None:
        if message.role != "assistant":
            raise ApiError(f"{where}: a {message.role} message has a content", param=where)
        return message.refusal or ""
    if isinstance(message.content, str):
        return message.content
    for part in message.content:
        if part.type not in _TEXT_PARTS or part.text is None:
            raise ApiError(
                f"{where}: a part of type {part.type[:40]!r}", "only parts of type text are read", param=where
            )
    return "\n".join(part.text or "" for part in message.content)
