"""Tools that a model may call, and which of them a request lets it call. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.settings import closest_match

MAX_TOOLS = 256  # of a request
NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")


@dataclass(frozen=True)
class Tool:
    """A function: its name, what it does, and the JSON schema of its arguments, which is of type object."""

    name: str
    description: str = ""
    parameters: JsonObject = field(default_factory=dict)
    strict: bool = False
    """Whether a keyword of the schema that cannot be followed is an error; otherwise it is ignored."""

    def to_row(self) -> JsonObject:
        """OpenAI's object, which chat templates read."""
        function = {"name": self.name, "description": self.description, "parameters": self.schema}
        return {"type": "function", "function": function}

    @property
    def schema(self) -> JsonObject:
        """The schema of the arguments, with its type and properties."""
        return {"type": "object", "properties": {}} | self.parameters


@dataclass(frozen=True)
class ToolChoice:
    """Whether the model may (auto), must (required) or must not (none) call a tool; `names` are those that it may call, None:
    all of them. Without `parallel` it calls one at most.
    """

    mode: Literal["auto", "none", "required"] = "auto"
    names: tuple[str, ...] | None = None
    parallel: bool = True

    def allowed(self, tools: Sequence[Tool]) -> list[Tool]:
        """Those of the tools that may be called."""
        return [tool for tool in tools if self.names is None or tool.name in self.names]


def check_tools(tools: Sequence[Tool], choice: ToolChoice) -> None:
    """`UserError` for a name that is none, or occurs twice, a schema that is no object's, too many tools, and a choice of a
    tool that is not there.
    """
    if len(tools) > MAX_TOOLS:
        raise UserError(f"{len(tools)} tools, and a request has at most {MAX_TOOLS}", "send fewer")
    names: list[str] = []
    for tool in tools:
        if not NAME.fullmatch(tool.name):
            raise UserError(
                f"tools: the name {tool.name!r:.80} is not 1 to 128 letters, digits, _, - or .", "rename it"
            )
        if tool.name in names:
            raise UserError(f"tools: {tool.name!r} is there twice", "rename one of them")
        names.append(tool.name)
        kind = tool.parameters.get("type", "object")
        if kind != "object":
            raise UserError(
                f"tools: the arguments of {tool.name!r} are of type {kind!r:.40}, and a call has an object",
                'set "type": "object" with "properties"',
            )
    for name in choice.names or ():
        if name not in names:
            close = closest_match(name, names)
            raise UserError(
                f"tool_choice: no tool is named {name!r:.80}",
                f"did you mean {close!r}?" if close else f"the tools: {', '.join(names) or 'none'}",
            )
    if choice.mode == "required" and not choice.allowed(tools):
        raise UserError("tool_choice: a call is required, and there is no tool", "send tools")


def parse_tool(function: Mapping[str, Any]) -> Tool:
    """The tool of an object {"name", "description", "parameters", "strict"}; values of other types are a `UserError`."""
    name, parameters = function.get("name"), function.get("parameters")
    if not isinstance(name, str):
        raise UserError("tools: a function has no name", 'such as {"name": "add", "parameters": {...}}')
    parameters = {} if parameters is None else parameters
    if not isinstance(parameters, Mapping):
        raise UserError(
            f"tools: the parameters of {name!r:.80} are {type(parameters).__name__}, not a JSON schema",
            'such as {"type": "object", "properties": {...}}',
        )
    return Tool(name, str(function.get("description") or ""), dict(parameters), bool(function.get("strict")))
