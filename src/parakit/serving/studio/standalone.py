"""The studio as a server of its own, at the loopback address."""

from __future__ import annotations

import socket
import webbrowser
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.serving.studio.context import StudioContext
from parakit.serving.studio.mounting import mount_studio

HOST = "127.0.0.1"


def serve_studio(root: Path, port: int, open_browser: bool) -> None:
    """Serve the studio of `root` until the process is interrupted. `UserError` where the port is taken."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    mount_studio(app, StudioContext(root))
    with _bound_socket(port) as listener:
        address = f"http://{HOST}:{listener.getsockname()[1]}/"
        log(f"studio of {root}: {address} (Ctrl-C stops it)")
        if open_browser:
            webbrowser.open(address)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        server.run(sockets=[listener])


def _bound_socket(port: int) -> socket.socket:
    """A listening socket at the loopback address."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise UserError(
            f"port {port} of {HOST}: {error.strerror}", "choose another with --port, or 0 for a free one"
        ) from None
    return listener
