"""`parakit mcp`: Parakit's tools for other assistants, over MCP."""

import tyro
from pydantic import Field

from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import Needs, refuse_inert
from parakit.common.errors import UserError
from parakit.common.settings import Config


class McpCommandConfig(Config):
    """Serve Parakit to other assistants over MCP: list, describe and inspect models, generate, chat, evaluate, build. Over
    standard input and output, for an assistant that starts this command, or over HTTP.
    """

    folder: tyro.conf.Positional[str] = Field(
        description="The folder whose models and recipes can be used, and nothing outside it."
    )
    http: int | None = Field(
        default=None, ge=0, le=65535, description="Serve over HTTP, at this port, under /mcp."
    )
    host: str = Field(default="127.0.0.1", description="The address to listen at (HTTP only).")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")


_HOST = Needs(
    ("host",), lambda command: command.http is not None, "the server uses no network", "add --http PORT"
)


def main(argv: list[str]) -> int:
    """Run `parakit mcp` with these arguments until the input ends or it is interrupted."""
    command = parse_command(McpCommandConfig, argv, "parakit mcp")
    refuse_inert(command, (_HOST,))
    if command.host not in ("127.0.0.1", "localhost", "::1"):
        raise UserError(
            f"--host {command.host}: all who reach this port could use every model and build",
            "serve at 127.0.0.1, behind a proxy that asks for a password",
        )
    from parakit.serving.mcp.server import run_server

    run_server(command.folder, command.device, command.host, command.http)
    return 0
