"""Python functions with type hints as tools: the hints become the JSON schema, the docstring the descriptions.

pydantic checks the arguments before the function is called, and what it returns against its own hint. A parameter is described
by a line `name: text` under `Args:`, or by `:param name: text`.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, PydanticUserError, TypeAdapter, ValidationError, create_model

from parakit.assistants.tools.tool import AgentTool, ToolError
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.inference.tool_calls.tools import Tool

Function = TypeVar("Function", bound=Callable[..., Any])
READ_ONLY = "_parakit_read_only"
_PARAMETER = re.compile(r"^\s*(?::param\s+)?(\w+)(?:\s*\([^)]*\))?\s*:\s*(\S.*)$")
_SECTION = re.compile(
    r"^\s*(?:(Args|Arguments|Parameters):|:param\b.*|(?:Returns|Raises|Yields|Example|Examples|Note):)"
)


def read_only(function: Function) -> Function:
    """Mark a function that changes nothing, so that its calls need no confirmation."""
    setattr(function, READ_ONLY, True)
    return function


def function_tool(
    function: Callable[..., Any], *, name: str | None = None, changes: bool | None = None
) -> AgentTool:
    """A function as a tool. `changes` None: it may change something unless it is marked `read_only`.

    Raises `UserError` for a parameter without a type hint, or of a kind that a call cannot name.
    """
    name = name or function.__name__
    description, about = _read_docstring(inspect.getdoc(function) or "")
    arguments = _arguments_model(function, name)
    schema = _plain_schema(arguments.model_json_schema())
    for key, text in about.items():
        if key in schema.get("properties", {}):
            schema["properties"][key] = {"description": text} | schema["properties"][key]
    result = _result_type(function, name)

    def run(values: JsonObject) -> object:
        try:
            checked = arguments.model_validate(values)
        except ValidationError as error:
            raise ToolError(f"the arguments do not fit: {_lines(error)}") from None
        returned = function(**{key: getattr(checked, key) for key in type(checked).model_fields})
        if inspect.iscoroutine(returned):
            returned = asyncio.run(returned)
        return _checked_result(result, returned)

    if changes is None:
        changes = not getattr(function, READ_ONLY, False)
    return AgentTool(Tool(name, description, schema), run, changes)


def _arguments_model(function: Callable[..., Any], name: str) -> type[BaseModel]:
    """A pydantic model with a field for each parameter."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception as error:  # a hint may name anything
        raise UserError(f"tool {name!r}: its type hints cannot be read: {error}", "correct them") from None
    fields: dict[str, Any] = {}
    for key, parameter in inspect.signature(function).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) or key.startswith(
            "_"
        ):
            raise UserError(
                f"tool {name!r}: the parameter {parameter} cannot be named in a call",
                "give it plain parameters with type hints",
            )
        if key not in hints:
            raise UserError(
                f"tool {name!r}: the parameter {key!r} has no type hint", f"write it as `{key}: str`"
            )
        fields[key] = (hints[key], ... if parameter.default is parameter.empty else parameter.default)
    try:
        return create_model(f"{name}_arguments", __config__=ConfigDict(extra="forbid"), **fields)
    except (PydanticUserError, NameError) as error:
        raise _no_schema(name, error) from None


def _result_type(function: Callable[..., Any], name: str) -> TypeAdapter[Any] | None:
    """What checks the result; None where the function does not declare it."""
    hint = get_type_hints(function, include_extras=True).get("return")
    if hint in (None, type(None), Any):
        return None
    try:
        return TypeAdapter(hint)
    except PydanticUserError as error:
        raise _no_schema(name, error) from None


def _no_schema(name: str, error: Exception) -> UserError:
    reason = str(error).splitlines()[0]
    return UserError(
        f"tool {name!r}: its type hints have no JSON schema: {reason}",
        "use str, int, float, bool, list, dict, Literal or a pydantic model",
    )


def _checked_result(result: TypeAdapter[Any] | None, returned: object) -> object:
    """The result as plain data; `ToolError` where it is not of the type that the function declares."""
    if result is None:
        return returned.model_dump(mode="json") if isinstance(returned, BaseModel) else returned
    try:
        return result.dump_python(result.validate_python(returned, strict=True), mode="json")
    except ValidationError as error:
        raise ToolError(f"the tool returned what is not of its type: {_lines(error)}") from None


def _lines(error: ValidationError) -> str:
    found = [
        f"{'.'.join(map(str, one['loc'])) or 'value'}: {one['msg'].lower()}" for one in error.errors()[:5]
    ]
    return "; ".join(found)


def _plain_schema(schema: Any) -> Any:
    """The schema without pydantic's titles, which only repeat names and take tokens."""
    if isinstance(schema, list):
        return [_plain_schema(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {}
    for key, value in schema.items():
        if key == "title" and isinstance(value, str):
            continue
        if key in ("properties", "$defs") and isinstance(value, dict):
            plain[key] = {name: _plain_schema(one) for name, one in value.items()}
        else:
            plain[key] = value if key in ("enum", "const", "default", "examples") else _plain_schema(value)
    return plain


def _read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """The description of a function, and those of its parameters."""
    lines, about = text.splitlines(), dict[str, str]()
    first = next((i for i, line in enumerate(lines) if _SECTION.match(line)), len(lines))
    within, last = False, ""
    for line in lines[first:]:
        section = _SECTION.match(line)
        if section is not None and not line.lstrip().startswith(":param"):
            within, last = section[1] is not None, ""
            continue
        match = _PARAMETER.match(line)
        if match is not None and (within or line.lstrip().startswith(":param")):
            last = match[1]
            about[last] = match[2].strip()
        elif within and last and line.strip():
            about[last] += f" {line.strip()}"
    return " ".join(" ".join(lines[:first]).split()), about
