"""`parakit serve` in a process of its own, with its log: for tests that kill it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class ServerProcess:
    """A running server."""

    process: subprocess.Popen[str]
    url: str = ""
    log: list[dict[str, Any]] = field(default_factory=list)
    reader: threading.Thread = field(default_factory=threading.Thread)

    def read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line.startswith("{"):
                self.log.append(json.loads(line))

    def stop(self, seconds: float) -> list[dict[str, Any]]:
        """Wait for its end; the log."""
        self.process.wait(seconds or 10)
        self.reader.join(10)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return self.log

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.stop(10)


def start_process(model: Path, accounts: Path, *options: str) -> ServerProcess:
    """A server of `model`, called tiny, that takes requests."""
    flags = ["--port", "0", "--accounts", str(accounts), "--no-studio", "--cache-memory", "0.01", *options]
    command = [sys.executable, "-m", "parakit", "serve", f"tiny={model}", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    server = ServerProcess(process)
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            server.url = found[0]
            break
    assert server.url
    server.reader = threading.Thread(target=server.read_log, daemon=True)
    server.reader.start()
    return server
