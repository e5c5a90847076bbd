"""What a request to `/v1/messages` may have, and the conversation that its content blocks describe.

A `tool_use` block is a call of the assistant's turn, a `tool_result` block in a user's message a turn of its own before the
rest of the message. Keys that change nothing here (cache marks, thinking budgets, ...) are taken; images, documents and tools
that run at a provider are refused with their name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.data.conversations.messages import Message, parse_messages
from parakit.inference.config import SamplingSettings, WhenFull
from parakit.inference.tool_calls.tools import MAX_TOOLS, Tool, ToolChoice, parse_tool
from parakit.serving.api.prompts import PromptReference
from parakit.serving.api.sampling import MAX_TOKENS, ApiModel, ModelName, ShortText

Blocks = str | list[dict[str, Any]]


class InputMessage(ApiModel):
    """One message: text, or a list of content blocks."""

    role: Literal["user", "assistant", "system"]
    content: Blocks


class CountTokensRequest(ApiModel):
    """The body of a request to `/v1/messages/count_tokens`."""

    model: ModelName
    messages: Annotated[list[InputMessage], Field(max_length=100_000)]
    system: Blocks | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    cache_control: Any = None
    context_management: Any = None
    mcp_servers: list[Any] | None = None
    prompt: PromptReference | None = None


class MessagesRequest(CountTokensRequest):
    """The body of a request to `/v1/messages`."""

    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)]
    stop_sequences: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=1000)]], Field(max_length=64)] | None
    ) = None
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] | None = None
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    top_k: Annotated[int, Field(ge=0, le=MAX_TOKENS)] | None = None
    metadata: dict[str, Any] | None = None
    service_tier: ShortText | None = None
    inference_geo: ShortText | None = None
    speed: ShortText | None = None
    container: Any = None
    diagnostics: Any = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    truncation: Literal["auto", "disabled"] | None = None

    @property
    def when_full(self) -> WhenFull | None:
        """The truncation policy that the request sets; a key of Parakit's own, as `seed` is."""
        return None if self.truncation is None else ("drop_oldest" if self.truncation == "auto" else "refuse")

    def sampling(self) -> SamplingSettings:
        """The settings that the request sets."""
        names = ("temperature", "top_p", "top_k", "seed")
        settings: dict[str, Any] = {
            name: value for name in names if (value := getattr(self, name)) is not None
        }
        settings["max_new_tokens"] = self.max_tokens
        if self.stop_sequences:
            settings["stop"] = tuple(self.stop_sequences)
        if (schema := output_schema(self)) is not None:
            settings["json_schema"] = schema
        return settings  # type: ignore[return-value]


def read_tools(request: CountTokensRequest) -> tuple[list[Tool], ToolChoice]:
    """The tools of a request, and which of them may be called. A tool that runs at a provider is a `UserError`."""
    if request.mcp_servers:
        raise UserError("mcp_servers: this server calls no others", "call them in the client, as tools")
    tools = []
    for row in request.tools or ():
        if row.get("type") not in (None, "custom"):
            raise UserError(
                f"tools: {row.get('name')!r:.60} of type {row['type']!r:.60} has no schema of its own, or runs at a provider",
                "send tools with a name and an input_schema",
            )
        tools.append(parse_tool({**row, "parameters": row.get("input_schema")}))
    choice = request.tool_choice or {}
    parallel = not choice.get("disable_parallel_tool_use", False)
    kind = choice.get("type", "auto")
    if kind == "tool":
        return tools, ToolChoice("required", (str(choice.get("name")),), parallel=False)
    modes: dict[Any, Literal["auto", "none", "required"]] = {
        "auto": "auto",
        "any": "required",
        "none": "none",
    }
    if not isinstance(kind, str) or kind not in modes:
        raise UserError(f"tool_choice: type {kind!r:.60} is not supported", "auto, any, tool or none")
    return tools, ToolChoice(modes[kind], None, parallel)


def output_schema(request: CountTokensRequest) -> Any:
    """The JSON schema of the answer; None for plain text."""
    chosen = (request.output_config or {}).get("format")
    if chosen is None:
        return None
    if not isinstance(chosen, Mapping) or chosen.get("type") != "json_schema" or "schema" not in chosen:
        raise UserError(
            "output_config.format is not supported", 'send {"type": "json_schema", "schema": {...}}'
        )
    return chosen["schema"]


def read_messages(request: CountTokensRequest) -> list[Message]:
    """The conversation, system prompt first. `UserError` for a block that is none, or that is no text."""
    rows: list[JsonObject] = []
    system = _text(request.system or "", "system")
    for number, message in enumerate(request.messages):
        where = f"messages[{number}]"
        if message.role == "system":
            if rows:
                rows.append({"role": "system", "content": _text(message.content, where)})
            else:
                system = "\n\n".join(filter(None, [system, _text(message.content, where)]))
        else:
            rows += _rows(message, where)
    if system:
        rows.insert(0, {"role": "system", "content": system})
    return list(parse_messages(rows, "messages"))


def _rows(message: InputMessage, where: str) -> list[JsonObject]:
    if isinstance(message.content, str):
        return [{"role": message.role, "content": message.content}]
    results: list[JsonObject] = []
    calls: list[JsonObject] = []
    texts: list[JsonObject] = []
    thinking = ""
    for block in message.content:
        kind = block.get("type")
        if kind == "text":
            texts.append(block)
        elif kind == "tool_result" and message.role == "user":
            content = _text(block.get("content") or "", where)
            results.append({"role": "tool", "content": content, "tool_call_id": block.get("tool_use_id")})
        elif kind == "tool_use" and message.role == "assistant":
            function = {"name": block.get("name"), "arguments": block.get("input") or {}}
            calls.append({"id": block.get("id"), "type": "function", "function": function})
        elif kind == "thinking" and message.role == "assistant":
            thinking += str(block.get("thinking") or "")
        elif kind != "redacted_thinking":
            raise _unsupported(kind, where)
    row: JsonObject = {"role": message.role, "content": _text(texts, where)}
    if thinking:
        row["reasoning_content"] = thinking
    if calls:
        row["tool_calls"] = calls
    return results if results and not texts else [*results, row]


def _text(content: Any, where: str) -> str:
    """The text of a content: a string, or blocks of type text."""
    if isinstance(content, str):
        return content
    texts = []
    for block in content if isinstance(content, Sequence) else ():
        kind = block.get("type") if isinstance(block, Mapping) else None
        if kind != "text" or not isinstance(block.get("text"), str):
            raise _unsupported(kind, where)
        texts.append(block["text"])
    return "\n".join(texts)


def _unsupported(kind: Any, where: str) -> UserError:
    return UserError(
        f"{where}: a block of type {kind!r:.60} is not supported here",
        "the models read text: blocks of type text, tool_use (assistant) and tool_result (user)",
    )


def as_json(arguments: str) -> JsonObject:
    """The arguments of a call as an object; of a call that was cut off, an empty one."""
    try:
        value = json.loads(arguments or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
