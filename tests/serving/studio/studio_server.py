"""The studio of the tests in a process of its own: `python -m tests.serving.studio.studio_server FOLDER PORT`."""

from __future__ import annotations

import sys
from pathlib import Path


def main(folder: str, port: int) -> None:
    from parakit.serving.config import ServeConfig
    from parakit.serving.server import serve

    accounts = str(Path(folder).with_name("accounts.sqlite"))
    config = ServeConfig(port=port, preload="none", cache_memory=0.05, accounts=accounts)
    serve([], config, studio_root=Path(folder))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
