"""`tools` and `tool_choice` of the chat form, and the calls in its answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from parakit.inference.tool_calls.parsing import CallDelta, ParsedCall
from parakit.inference.tool_calls.tools import MAX_TOOLS, Tool, ToolChoice, parse_tool
from parakit.serving.api.errors import ApiError
from parakit.serving.api.sampling import ApiModel

FunctionName = Annotated[str, Field(min_length=1, max_length=128)]


class FunctionSchema(ApiModel):
    """A function: its arguments are described by a JSON schema."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(ApiModel):
    """A tool that the model may call."""

    type: Literal["function"] = "function"
    function: FunctionSchema


class NamedFunction(ApiModel):
    """The name of a function."""

    name: FunctionName


class NamedTool(ApiModel):
    """The tool to call."""

    type: Literal["function"] = "function"
    function: NamedFunction


class AllowedTools(ApiModel):
    """The tools of which one may, or must, be called."""

    mode: Literal["auto", "required"] = "auto"
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MAX_TOOLS)]


class AllowedChoice(ApiModel):
    """A choice among some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


class ToolFields(ApiModel):
    """What a chat request has of tools."""

    tools: Annotated[list[FunctionTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["auto", "none", "required"] | AllowedChoice | NamedTool | None = None
    parallel_tool_calls: bool | None = None

    def read_tools(self) -> tuple[tuple[Tool, ...], ToolChoice]:
        """The tools, and which of them may be called. `ApiError` for a choice without tools."""
        tools = tuple(parse_tool(tool.function.model_dump()) for tool in self.tools or ())
        parallel, choice = self.parallel_tool_calls is not False, self.tool_choice or "auto"
        if not tools and self.tool_choice not in (None, "none", "auto"):
            raise ApiError("tool_choice: there are no tools", "send tools with it", param="tool_choice")
        if isinstance(choice, NamedTool):
            return tools, ToolChoice("required", (choice.function.name,), parallel=False)
        if isinstance(choice, AllowedChoice):
            names = tuple(one.function.name for one in choice.allowed_tools.tools)
            return tools, ToolChoice(choice.allowed_tools.mode, names, parallel)
        return tools, ToolChoice(choice, None, parallel)


def call_json(call: ParsedCall) -> dict[str, Any]:
    """A call in a message."""
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def call_delta_json(delta: CallDelta) -> dict[str, Any]:
    """A piece of a call in a chunk of a stream."""
    if delta.name is None:
        return {"index": delta.number, "function": {"arguments": delta.arguments}}
    function = {"name": delta.name, "arguments": delta.arguments}
    return {"index": delta.number, "id": delta.id, "type": "function", "function": function}
