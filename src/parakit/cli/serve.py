"""`parakit serve`: models over HTTP, for every client of OpenAI's API."""

import gc

import tyro
from pydantic import Field

from parakit.cli.rendering.arguments import parse_command
from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.serving.config import ServeConfig


class ServeCommandConfig(ServeConfig):
    """Serve models over HTTP: chat, completions and more, as OpenAI's clients speak."""

    models: tyro.conf.Positional[tuple[str, ...]] = Field(
        description="Model folders, or the folders of builds; NAME=PATH serves one under another name."
    )


def main(argv: list[str]) -> int:
    """Run `parakit serve` with these arguments; 0 after a clean end."""
    command = parse_command(ServeCommandConfig, argv, "parakit serve")
    if not command.models:
        raise UserError("no model is named", "parakit serve MODEL [MODEL ...]")
    gc.disable()  # a collection over what torch's import left takes a tenth of a second
    try:
        from parakit.serving.models.locations import locate_models, with_indexes_of_builds
        from parakit.serving.server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("fastapi", "uvicorn", "prometheus_client"):
            raise
        raise UserError(
            f"the server needs the package {error.name}", "pip install 'parakit[serve]'"
        ) from None
    finally:
        gc.freeze()  # what is imported stays: no later collection looks at it
        gc.enable()
    locations = locate_models(command.models, command.adapters)
    names = ", ".join(one.name for one in locations)
    command = command.replace(documents=with_indexes_of_builds(command.documents, locations))
    serve(locations, command, on_ready=lambda url: log(f"serving {names} at {url}/v1"))
    return 0
