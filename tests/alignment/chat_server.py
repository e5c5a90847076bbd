"""A chat endpoint on this machine that answers as a test wants: for clients that must talk to a real socket."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, Any]  # status and body: text is sent as it is, anything else as JSON


def completion(text: str | None) -> Answer:
    """A chat completion that says `text`."""
    return 200, {"choices": [{"message": {"role": "assistant", "content": text}}]}


@contextlib.contextmanager
def chat_server(
    answer: Callable[[str, dict[str, Any], dict[str, str]], Answer], headers: dict[str, str] | None = None
) -> Iterator[str]:
    """The address of a server that answers path, body and headers of each request with `answer`."""

    class Requests(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            n_bytes = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(n_bytes)) if n_bytes else {}
            status, response = answer(self.path, body, dict(self.headers))
            data = response.encode() if isinstance(response, str) else json.dumps(response).encode()
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _reply

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
