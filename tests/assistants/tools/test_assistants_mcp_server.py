"""A box of tools as an MCP server over HTTP, used through the client: results, errors, and a server that has gone."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from parakit.assistants.tools import built_in
from parakit.assistants.tools.config import ToolLimits
from parakit.assistants.tools.functions import function_tool
from parakit.assistants.tools.mcp_client import McpServer, McpServers
from parakit.assistants.tools.mcp_server import http_app, mcp_server
from parakit.assistants.tools.tool import ToolBox
from parakit.common.errors import UserError

pytest.importorskip("mcp")
uvicorn = pytest.importorskip("uvicorn")


def fail() -> str:
    raise ValueError("no luck")


@contextlib.contextmanager
def _served(box: ToolBox) -> Iterator[str]:
    """The address of a server with these tools, in a thread."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    app = http_app(mcp_server(box, "test", "1", "Tools of a test."), "127.0.0.1")
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        server.should_exit = True
        thread.join(20)


def test_tools_are_served_over_http_and_a_server_that_has_gone_is_an_error() -> None:
    limits = ToolLimits(tool_timeout=20)
    box = ToolBox([built_in.calculator(), function_tool(fail)])
    with contextlib.ExitStack() as stack:
        with _served(box) as url:
            servers = stack.enter_context(McpServers([McpServer.parse(f"far={url}")], limits))
            far = ToolBox(servers.tools, limits)
            assert [tool.name for tool in far.tools] == ["far.calculator", "far.fail"]
            assert far.tools[0].schema.schema["required"] == ["expression"]
            assert far.call("far.calculator", '{"expression": "6 * 7"}').text == "42"
            assert "no luck" in far.call("far.fail", "{}").text
            assert "do not fit" in far.call("far.calculator", '{"wrong": 1}').text
        assert far.call("far.calculator", '{"expression": "6 * 7"}').is_error
    with pytest.raises(UserError, match="cannot be used"):
        McpServers([McpServer.parse("http://127.0.0.1:9/mcp")], limits)
