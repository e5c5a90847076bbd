"""The studio of the tests in a process of its own: `python -m tests.serving.studio.studio_server FOLDER PORT`."""

from __future__ import annotations

import sys
from pathlib import Path


def main(folder: str, port: int) -> None:
    import uvicorn
    from fastapi import FastAPI

    from parakit.serving.studio import StudioContext, mount_studio

    app = FastAPI()
    mount_studio(app, StudioContext(Path(folder)))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
