"""What a request to `/v1/responses` may have, and the conversation that its items describe.

Items are messages, calls of functions and their results, in order; an assistant's calls that follow one another are one turn.
Keys that change nothing here (`service_tier`, `user`, ...) are taken and sent back, as the specification wants; what Parakit
cannot do is refused with its name.
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
from parakit.serving.api.sampling import MAX_TOKENS, ApiModel, ModelName, ShortText, StreamSettings
from parakit.tokens.tokenizer.fast_encoding import fix_surrogates

MAX_ITEMS = 10_000
MAX_METADATA = 16


class TextFormat(ApiModel):
    """`text.format`: plain text, some JSON object, or JSON that matches a schema."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: ShortText | None = None
    description: str | None = None
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextSettings(ApiModel):
    """`text`."""

    format: TextFormat = TextFormat()
    verbosity: Literal["low", "medium", "high"] | None = None


class ResponsesRequest(ApiModel):
    """The body of a request to `/v1/responses`."""

    model: ModelName
    input: (
        Annotated[str, Field(max_length=32_000_000)]
        | Annotated[list[dict[str, Any]], Field(max_length=MAX_ITEMS)]
    ) = ""
    instructions: Annotated[str, Field(max_length=32_000_000)] | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["auto", "none", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] | None = None
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2.0, le=2.0)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2.0, le=2.0)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: Annotated[list[ShortText], Field(max_length=32)] | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    text: TextSettings | None = None
    truncation: Literal["auto", "disabled"] | None = None
    previous_response_id: ShortText | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamSettings | None = None
    metadata: Annotated[dict[ShortText, ShortText], Field(max_length=MAX_METADATA)] | None = None
    reasoning: dict[str, Any] | None = None
    background: bool | None = None
    conversation: Any = None
    prompt: PromptReference | None = None
    user: ShortText | None = None
    safety_identifier: ShortText | None = None
    prompt_cache_key: ShortText | None = None
    prompt_cache_retention: ShortText | None = None
    service_tier: ShortText | None = None

    @property
    def when_full(self) -> WhenFull | None:
        """The truncation policy that the request sets."""
        return None if self.truncation is None else ("drop_oldest" if self.truncation == "auto" else "refuse")

    @property
    def wants_logprobs(self) -> bool:
        """Whether the answer has log-probabilities."""
        return bool(self.top_logprobs) or "message.output_text.logprobs" in (self.include or ())

    def sampling(self) -> SamplingSettings:
        """The settings that the request sets."""
        names = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed")
        settings: dict[str, Any] = {
            name: value for name in names if (value := getattr(self, name)) is not None
        }
        if self.max_output_tokens is not None:
            settings["max_new_tokens"] = self.max_output_tokens
        if self.wants_logprobs:
            settings["log_probabilities"] = self.top_logprobs or 0
        if (schema := output_schema(self)) is not None:
            settings["json_schema"] = schema
        return settings  # type: ignore[return-value]

    def refuse_unsupported(self) -> None:
        """`UserError` for what Parakit does not do."""
        refused = {
            "background": (self.background, "send the request without it, or use /v1/batches"),
            "conversation": (self.conversation is not None, "send the items, or previous_response_id"),
        }
        for name, (is_set, hint) in refused.items():
            if is_set:
                raise UserError(f"{name}: Parakit does not support it", hint)
        for name in self.include or ():
            if name not in ("message.output_text.logprobs", "reasoning.encrypted_content"):
                raise UserError(
                    f"include: {name!r:.80} is not supported", "only message.output_text.logprobs is"
                )


def read_tools(request: ResponsesRequest) -> tuple[list[Tool], ToolChoice]:
    """The functions of a request, and which of them may be called. A built-in tool of a provider is a `UserError`."""
    tools = []
    for row in request.tools or ():
        if row.get("type") != "function":
            raise UserError(
                f"tools: a tool of type {row.get('type')!r:.60} needs a service that Parakit does not have",
                "send functions only: type function",
            )
        tools.append(parse_tool(row))
    parallel = request.parallel_tool_calls is not False
    choice = request.tool_choice or "auto"
    if isinstance(choice, str):
        return tools, ToolChoice(choice, None, parallel)
    kind = choice.get("type")
    if kind == "function":
        return tools, ToolChoice("required", (str(choice.get("name")),), parallel=False)
    if kind == "allowed_tools":
        names = tuple(str(row.get("name")) for row in _mappings(choice.get("tools")))
        mode: Literal["auto", "required"] = "required" if choice.get("mode") == "required" else "auto"
        return tools, ToolChoice(mode, names, parallel)
    raise UserError(
        f"tool_choice: type {kind!r:.60} is not supported",
        "auto, none, required, or an object of type function or allowed_tools",
    )


def output_schema(request: ResponsesRequest) -> Any:
    """The JSON schema of the answer; None for plain text."""
    chosen = (request.text or TextSettings()).format
    if chosen.type == "json_object":
        return {"type": "object"}
    if chosen.type == "json_schema":
        if chosen.json_schema is None:
            raise UserError("text.format: no schema", 'send {"type": "json_schema", "schema": {...}}')
        return chosen.json_schema
    return None


def read_items(items: str | Sequence[JsonObject]) -> list[Message]:
    """The messages of input items. `UserError` for an item that is none, or that bears images, audio or files."""
    rows: list[JsonObject] = []
    if isinstance(items, str):
        rows = [{"role": "user", "content": items}]
    else:
        reasoning: str | None = None
        for number, item in enumerate(items):
            kind = item.get("type", "message" if "role" in item else None)
            where = f"input[{number}]"
            if kind == "message":
                row = {"role": item.get("role"), "content": _content(item.get("content"), where)}
                if row["role"] == "assistant" and reasoning:
                    row["reasoning_content"], reasoning = reasoning, None
                rows.append(row)
            elif kind == "function_call":
                _add_call(rows, item, where, reasoning)
                reasoning = None
            elif kind == "function_call_output":
                content = _content(item.get("output"), where)
                rows.append({"role": "tool", "content": content, "tool_call_id": item.get("call_id")})
            elif kind == "reasoning":
                parts = _mappings(item.get("content"))
                reasoning = "".join(str(part.get("text", "")) for part in parts) or None
            else:
                raise UserError(
                    f"{where}: an item of type {kind!r:.60} is not supported",
                    "message, function_call, function_call_output and reasoning are",
                )
    return list(parse_messages(rows, "input"))


def _add_call(rows: list[JsonObject], item: JsonObject, where: str, reasoning: str | None) -> None:
    """Calls that follow one another, and the message before them, are one turn of the assistant."""
    if not rows or rows[-1]["role"] != "assistant":
        rows.append(
            {"role": "assistant", "content": ""} | ({"reasoning_content": reasoning} if reasoning else {})
        )
    arguments = item.get("arguments", "{}")
    function = {"name": item.get("name"), "arguments": arguments}
    rows[-1].setdefault("tool_calls", []).append(
        {"id": item.get("call_id"), "type": "function", "function": function}
    )


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list; of anything else, none."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _content(content: Any, where: str) -> Any:
    """A content for `parse_messages`: text as it is, parts without what a provider adds to them."""
    if not isinstance(content, Sequence) or isinstance(content, str):
        return content
    parts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "refusal":
            parts.append({"type": "text", "text": part.get("refusal")})
        elif kind in ("input_text", "output_text", "text"):
            parts.append({"type": "text", "text": part.get("text")})
        else:
            raise UserError(
                f"{where}: a part of type {kind!r:.60}, and the models here read text only",
                "send parts of type input_text",
            )
    return parts


def with_instructions(instructions: str | None, messages: Sequence[Message]) -> list[Message]:
    """One system prompt at the beginning, of the instructions and the system messages there: templates take one."""
    texts, rest = [instructions] if instructions else [], list(messages)
    while rest and rest[0].role == "system":
        texts.append(rest.pop(0).content)
    return [*([Message("system", "\n\n".join(texts))] if texts else []), *rest]


def item_rows(items: str | Sequence[JsonObject]) -> list[JsonObject]:
    """The input as items, for the store."""
    if isinstance(items, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": items}]}]
    return json.loads(fix_surrogates(json.dumps(list(items), ensure_ascii=False)))
