"""An MCP server of the official package, with tools that behave and tools that do not. Run as a program."""

from __future__ import annotations

import os
import sys
import time

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("bad and good")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def fail() -> str:
    """Raise."""
    raise ToolError("no luck")


@server.tool()
def die() -> str:
    """End the server."""
    os._exit(1)


@server.tool()
def hang() -> str:
    """Take long."""
    time.sleep(30)
    return "late"


@server.tool()
def huge() -> str:
    """Return much."""
    return "x" * 3_000_000


@server.tool(name="not a name")
def other() -> str:
    """A name that no function has."""
    return ""


if __name__ == "__main__":
    if "--broken" in sys.argv:
        print("cannot find my settings", file=sys.stderr)
        sys.exit(3)
    server.run("stdio")
