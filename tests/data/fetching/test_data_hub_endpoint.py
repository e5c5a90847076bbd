"""A data set through the real client of the hub, from a server on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

pytest.importorskip("huggingface_hub")
pytestmark = pytest.mark.long
COMMIT = "c" * 40
FILES = {
    "README.md": b"the card",
    "data.py": b"raise SystemExit('never run')",
    "part/train.jsonl": json.dumps(
        {"text": "The harbour bridge opened in the spring of that year."}
    ).encode(),
}
COMMAND = """
import sys
from parakit.data.config import TextConfig
from parakit.data.fetching.fetching import fetch_named
from parakit.data.read_report import ReadReport
from parakit.data.readers.files import read_documents
config = TextConfig(paths=("hub:owner/data",), fetch="fetch" in sys.argv)
fetch_named(config)
print([one.source for one in read_documents(config, ReadReport())])
"""


class Handler(BaseHTTPRequestHandler):
    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.requests.append(self.path)
        path = self.path.partition("?")[0]
        if "/tree/" in path:
            rows = [
                {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                for name, content in FILES.items()
            ]
            return self._answer(json.dumps(rows).encode(), {"Content-Type": "application/json"})
        if path.startswith("/api/datasets/owner/data"):
            siblings = [{"rfilename": name, "size": len(content)} for name, content in FILES.items()]
            facts = {"id": "owner/data", "sha": COMMIT, "siblings": siblings, "tags": [], "downloads": 0}
            return self._answer(json.dumps(facts).encode(), {"Content-Type": "application/json"})
        name = path.removeprefix(f"/datasets/owner/data/resolve/{COMMIT}/")
        if name not in FILES:
            self.send_error(404)
            return None
        tag = hashlib.sha1(FILES[name], usedforsecurity=False).hexdigest()
        return self._answer(FILES[name], {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})

    do_HEAD = do_GET

    def _answer(self, body: bytes, fields: dict[str, str]) -> None:
        self.send_response(200)
        for field, value in {**fields, "Content-Length": str(len(body))}.items():
            self.send_header(field, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_data_set_is_fetched_by_the_client_of_the_hub(endpoint: str, tmp_path: Path) -> None:
    variables = os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "PARAKIT_CACHE": str(tmp_path)}
    variables |= {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *arguments], env=variables, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    assert run("fetch") == "['hub:owner/data/part/train.jsonl:1']"
    assert not any("data.py" in path or "README" in path for path in Handler.requests)
    assert sorted(path.name for path in (tmp_path / "datasets" / "owner--data@main").iterdir()) == [
        COMMIT,
        "fetched.json",
    ]
    n_requests = len(Handler.requests)
    assert run() == "['hub:owner/data/part/train.jsonl:1']"
    assert len(Handler.requests) == n_requests
