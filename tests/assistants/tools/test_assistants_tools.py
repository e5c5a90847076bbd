"""Functions become tools by their hints, and whatever a tool does, a call ends with a text that the model can read."""

from __future__ import annotations

import threading
from typing import Literal

import jsonschema
import pytest
from pydantic import BaseModel

from parakit.assistants.tools.config import ToolLimits
from parakit.assistants.tools.functions import function_tool, read_only
from parakit.assistants.tools.tool import AgentTool, ToolBox, ToolError, allowed
from parakit.common.errors import UserError
from parakit.inference.tool_calls.tools import Tool


class Place(BaseModel):
    town: str
    number: int = 1


def book(
    place: Place, kind: Literal["day", "night"], days: list[int] | None = None, *, quiet: bool = False
) -> str:
    """Book a stay.

    A second line.

    Args:
        place: where it is,
            with its number.
        kind (str): by day or by night.

    Returns:
        days: not a parameter's description.
    """
    return f"{place.town} {place.number} {kind} {days} {quiet}"


def test_hints_become_the_schema_and_docstrings_the_descriptions() -> None:
    tool = function_tool(book)
    schema = tool.schema.schema
    jsonschema.Draft202012Validator.check_schema(schema)
    assert tool.schema.description == "Book a stay. A second line."
    assert schema["properties"]["place"]["description"] == "where it is, with its number."
    assert schema["properties"]["kind"] == {
        "description": "by day or by night.", "enum": ["day", "night"], "type": "string",
    }  # fmt: skip
    assert "description" not in schema["properties"]["days"]
    assert schema["required"] == ["place", "kind"]
    assert "title" not in str(schema)
    assert tool.changes
    assert not function_tool(read_only(lambda: "a"), name="a").changes


def test_arguments_are_checked_as_the_schema_says() -> None:
    box, schema = ToolBox([function_tool(book)]), function_tool(book).schema.schema
    good = '{"place": {"town": "Oakham"}, "kind": "day", "days": [1, 2]}'
    assert box.call("book", good).text == "Oakham 1 day [1, 2] False"
    validator = jsonschema.Draft202012Validator(schema)
    for bad in (
        {},
        {"place": {}, "kind": "day"},
        {"place": {"town": "a"}, "kind": "year"},
        {"place": {"town": "a"}, "kind": "day", "more": 1},
    ):
        assert not validator.is_valid(bad)
        import json

        result = box.call("book", json.dumps(bad))
        assert result.is_error
        assert "do not fit" in result.text


def _no_hint(a):  # type: ignore[no-untyped-def]
    return a


def _star(*a: int) -> int:
    return len(a)


def _no_schema(a: threading.Thread) -> str:
    return str(a)


@pytest.mark.parametrize("function", [_no_hint, _star, _no_schema])
def test_functions_that_no_call_can_name_are_refused(function: object) -> None:
    with pytest.raises(UserError) as caught:
        function_tool(function, name="one")  # type: ignore[arg-type]
    assert "'one'" in caught.value.message
    assert caught.value.hint


def fails() -> str:
    raise RuntimeError("no\nluck")


def leaves() -> str:
    raise SystemExit(3)


def lies() -> int:
    return "three"  # type: ignore[return-value]


def endless() -> dict[str, list[int]]:
    return {"a": list(range(100_000))}


def refuses() -> str:
    raise ToolError("closed on Sundays")


def nothing() -> None:
    return None


async def later() -> str:
    return "later"


def test_what_goes_wrong_is_a_result() -> None:
    box = ToolBox(
        [function_tool(one) for one in (fails, leaves, lies, endless, refuses, nothing, later, book)],
        ToolLimits(max_result_chars=100),
    )

    def call(name: str, arguments: str = "{}") -> tuple[str, bool]:
        result = box.call(name, arguments)
        return result.text, result.is_error

    assert call("fails") == ("error: RuntimeError: no\nluck", True)
    assert call("leaves") == ("error: SystemExit: 3", True)
    assert call("refuses") == ("error: closed on Sundays", True)
    assert call("nothing") == ("done", False)
    assert call("later") == ("later", False)
    text, is_error = call("lies")
    assert is_error
    assert "not of its type" in text
    text, is_error = call("endless")
    assert not is_error
    assert len(text) < 150
    assert text.endswith("characters were left out]")
    assert box.call("endless", "{}").n_omitted_chars > 0
    assert call("boook")[0] == "error: there is no tool 'boook'; did you mean book?"
    for arguments in ("{", "[]", "3", '"a"', "[" * 100_000):
        assert "no JSON object" in call("book", arguments)[0]


def test_a_tool_that_hangs_is_given_up_and_not_called_again_while_it_does() -> None:
    gate = threading.Event()

    def waits() -> str:
        gate.wait(20)
        return "awake"

    box = ToolBox([function_tool(waits)], ToolLimits(tool_timeout=0.05))
    assert "no result after 0.05 s" in box.call("waits", "{}").text
    assert "has not ended" in box.call("waits", "{}").text
    hanging = [one for one in threading.enumerate() if one.name == "tool-waits"]
    gate.set()
    for one in hanging:
        one.join(10)
    assert box.call("waits", "{}").text == "awake"


def test_two_tools_of_one_name_are_refused_with_their_origins() -> None:
    tools = [AgentTool(Tool("a"), lambda _: 1, origin=origin) for origin in ("function", "MCP server x")]
    with pytest.raises(UserError, match="two tools have the name 'a': one of function, one of MCP server x"):
        ToolBox(tools)
    with pytest.raises(UserError, match="not 1 to 128 letters"):
        ToolBox([AgentTool(Tool("a b"), lambda _: 1)])


def test_calls_of_one_turn_that_change_nothing_are_made_at_once() -> None:
    barrier = threading.Barrier(2, timeout=20)

    @read_only
    def meet(n: int) -> str:
        barrier.wait()
        return str(n)

    box = ToolBox([function_tool(meet)])
    with pytest.raises(UserError, match="no such tool"):
        allowed(box.tools, ["met"])
    results = box.call_all([("meet", '{"n": 1}'), ("meet", '{"n": 2}')])
    assert [one.text for one in results] == ["1", "2"]


def test_allowed_tools_need_no_confirmation() -> None:
    tools = [function_tool(book), function_tool(fails)]
    assert [one.changes for one in allowed(tools, ["book"])] == [False, True]
    assert [one.changes for one in allowed(tools, ["all"])] == [False, False]
