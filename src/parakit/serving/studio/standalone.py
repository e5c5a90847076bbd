"""The studio as a server of its own, at the loopback address: the models below its folder, and the pages."""

from __future__ import annotations

import logging
import webbrowser
from pathlib import Path

from parakit.common.hardware import available_memory
from parakit.common.progress import log
from parakit.serving.config import ServeConfig
from parakit.serving.models.served_model import GIB
from parakit.serving.server import serve

MEMORY_SHARE, CACHE_SHARE = 0.5, 0.05  # of what is free: all models in memory, and the cache of each


def serve_studio(root: Path, port: int, open_browser: bool) -> None:
    """Serve the studio of `root` until the process is interrupted; models are loaded when a page or a request needs
    them, and the least recently used makes room. `UserError` where the port is taken.
    """

    def announce(url: str) -> None:
        logging.getLogger("parakit.serving").setLevel(logging.WARNING)  # a page is some twenty requests
        log(f"studio of {root}: {url}/ (Ctrl-C stops it)")
        if open_browser:
            webbrowser.open(f"{url}/")

    memory = (available_memory() or 8 * GIB) / GIB
    config = ServeConfig(
        port=port, preload="none", model_memory=MEMORY_SHARE * memory, cache_memory=CACHE_SHARE * memory
    )
    serve([], config, on_ready=announce, studio_root=root)
