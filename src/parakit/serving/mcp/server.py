"""Runs Parakit's MCP server, over standard input and output or over HTTP, until the input ends or it is interrupted."""

from __future__ import annotations

import parakit
from parakit.assistants.tools.mcp_server import http_app, mcp_server, serve_stdio
from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.serving.mcp.tools import INSTRUCTIONS, ParakitTools


def run_server(folder: str, device: str, host: str, port: int | None) -> None:
    """Serve the models and recipes below a folder; `port` None: over standard input and output."""
    tools = ParakitTools(folder, device)
    if not tools.folder.is_dir():
        raise UserError(f"{folder}: is no folder", "name the folder of your models")
    try:
        server = mcp_server(tools.box(), "parakit", parakit.__version__, INSTRUCTIONS)
        if port is None:
            serve_stdio(server)
            return
        import uvicorn

        log(f"MCP server at http://{host}:{port}/mcp, for {tools.folder}")
        uvicorn.run(http_app(server, host), host=host, port=port, log_level="warning")
    finally:
        tools.jobs.close()
