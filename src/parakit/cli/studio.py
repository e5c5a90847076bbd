"""`parakit studio`: the pages in a browser, for the models, builds and runs below a folder."""

from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from parakit.cli.rendering.arguments import parse_command
from parakit.common.errors import UserError
from parakit.common.settings import Config


class StudioCommandConfig(Config):
    """Open the studio: chat with models, rate their answers, look into them, and watch them train, in a browser."""

    folder: tyro.conf.Positional[str] = Field(
        default=".", description="The folder whose models, builds and runs are shown."
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8090, description="Port at 127.0.0.1; 0: any that is free."
    )
    open: bool = Field(default=False, description="Open the studio in the browser of this machine.")


def main(argv: list[str]) -> int:
    """Run `parakit studio` with these arguments, until it is interrupted."""
    command = parse_command(StudioCommandConfig, argv, "parakit studio")
    folder = Path(command.folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder", "name a folder with models or builds")
    from parakit.serving.studio.standalone import serve_studio  # it imports the web framework

    serve_studio(folder.resolve(), command.port, command.open)
    return 0
