"""Tools as an MCP server, over standard input and output or over HTTP, through the official package.

A call runs in a thread, so that the server answers others meanwhile. Arguments are checked by the tool itself; what goes wrong
is a result with `is_error`, which the other assistant reads.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from parakit.assistants.tools.tool import ToolBox
from parakit.common.errors import UserError


def mcp_server(box: ToolBox, name: str, version: str, instructions: str) -> Any:
    """The official package's server with these tools: `mcp.server.lowlevel.Server`."""
    try:
        import mcp.types as types
        from mcp.server.lowlevel import Server
    except ModuleNotFoundError:
        raise UserError("an MCP server needs the package mcp", "pip install 'parakit[assist]'") from None

    async def list_tools(_: Any, __: Any) -> Any:
        return types.ListToolsResult(
            tools=[
                types.Tool(
                    name=tool.name,
                    description=tool.schema.description,
                    input_schema=tool.schema.schema,
                    annotations=types.ToolAnnotations(read_only_hint=not tool.changes),
                )
                for tool in box.tools
            ]
        )

    async def call_tool(_: Any, params: Any) -> Any:
        arguments = json.dumps(params.arguments or {})
        result = await asyncio.to_thread(box.call, params.name, arguments)
        content = types.TextContent(type="text", text=result.text)
        return types.CallToolResult(content=[content], is_error=result.is_error)

    return Server(
        name, version=version, instructions=instructions, on_list_tools=list_tools, on_call_tool=call_tool
    )


def serve_stdio(server: Any) -> None:
    """Serve until the input ends."""
    from mcp import stdio_server

    async def serve() -> None:
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())

    asyncio.run(serve())


def http_app(server: Any, host: str) -> Any:
    """The ASGI application of a server, under /mcp. On a host of this machine only requests for it are answered."""
    return server.streamable_http_app(streamable_http_path="/mcp", host=host)
