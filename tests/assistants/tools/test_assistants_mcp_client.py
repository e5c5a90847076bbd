"""Tools of an MCP server of the official package, over standard input and output; what goes wrong is a result."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from parakit.assistants.tools.config import ToolLimits
from parakit.assistants.tools.mcp_client import McpServer, McpServers
from parakit.assistants.tools.tool import ToolBox
from parakit.common.errors import UserError

pytest.importorskip("mcp")
PROGRAM = f"{sys.executable} {Path(__file__).with_name('mcp_test_server.py')}"


def test_tools_of_a_server_are_called_and_its_failures_are_results(
    capsys: pytest.CaptureFixture[str],
) -> None:
    limits = ToolLimits(tool_timeout=30, max_result_chars=1000)
    with McpServers([McpServer.parse(f"test={PROGRAM}")], limits) as servers:
        box = ToolBox(servers.tools, limits)
        assert [tool.name for tool in box.tools] == [
            f"test.{name}" for name in ("add", "fail", "die", "hang", "huge")
        ]
        assert "'test.not a name' is left out" in capsys.readouterr().err
        assert all(tool.changes for tool in box.tools)
        assert box.tools[0].schema.description == "Add two numbers."
        assert set(box.tools[0].schema.schema["properties"]) == {"a", "b"}
        assert box.call("test.add", '{"a": 7, "b": 5}').text == "12"
        assert box.call("test.add", '{"a": "seven"}').is_error
        assert "no luck" in box.call("test.fail", "{}").text
        assert len(box.call("test.huge", "{}").text) < 1100
        assert "has ended" in box.call("test.die", "{}").text
        assert box.call("test.add", '{"a": 1, "b": 5}').text == "6"  # started again


@pytest.mark.long
def test_a_tool_of_a_server_that_hangs_is_given_up() -> None:
    limits = ToolLimits(tool_timeout=2)
    with McpServers([McpServer.parse(PROGRAM)], limits) as servers:
        box = ToolBox(servers.tools, limits)
        assert "no result after 2 s" in box.call("hang", "{}").text
        assert box.call("add", '{"a": 1, "b": 5}').text == "6"


def test_a_server_that_does_not_start_is_refused_with_what_it_wrote() -> None:
    with pytest.raises(UserError, match="cannot find my settings") as caught:
        McpServers([McpServer.parse(f"{PROGRAM} --broken")])
    assert caught.value.hint
    with pytest.raises(UserError, match="no-such-program"):
        McpServers([McpServer.parse("no-such-program --at-all")])
    with pytest.raises(UserError, match="is empty"):
        McpServer.parse(" ")


def test_prefixes_urls_and_commands_are_told_apart() -> None:
    assert McpServer.parse("time=python -m x --zone=UTC") == McpServer("python -m x --zone=UTC", "time")
    assert McpServer.parse("python -m x --zone=UTC") == McpServer("python -m x --zone=UTC")
    assert McpServer.parse("http://localhost:1/mcp?a=b") == McpServer("http://localhost:1/mcp?a=b")
    assert McpServer.parse("w=http://localhost:1/mcp").is_url
