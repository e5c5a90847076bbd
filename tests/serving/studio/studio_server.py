"""The studio of the tests in a process of its own: `python -m tests.serving.studio.studio_server FOLDER PORT`."""

from __future__ import annotations

import sys


def main(folder: str, port: int) -> None:
    import uvicorn
    from fastapi import FastAPI
    from nicegui import ui

    app = FastAPI()

    @ui.page("/")
    def index() -> None:
        ui.label("hello")

    ui.run_with(app)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
