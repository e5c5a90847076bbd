"""A server in a network namespace without a route: it serves on loopback and connects to nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

# Runs in the namespace: brings loopback up, starts the server, sends it a chat, ends it.
INSIDE = """
import fcntl, json, os, re, signal, socket, struct, subprocess, sys, urllib.request

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    request = fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
    flags = struct.unpack("16sH14x", request)[1]
    fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))
try:
    socket.create_connection(("192.0.2.1", 80), 1).close()
    sys.exit("the namespace has a route")
except OSError:
    pass
environment = os.environ | {"PYTHONPATH": sys.argv[2] + os.pathsep + os.environ.get("PYTHONPATH", "")}
command = [sys.executable, "-m", "parakit", "serve", sys.argv[1], "--port", "0", "--cache-memory", "0.01"]
server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
lines = []
url = None
for line in server.stderr:
    lines.append(line)
    if found := re.search(r"http://127[.]0[.]0[.]1:[0-9]+", line):
        url = found[0]
        break
assert url, lines
for path in ("/v1/models", "/health", "/"):
    with urllib.request.urlopen(url + path, timeout=60) as answer:
        assert answer.status == 200
body = {"model": "tiny", "messages": [{"role": "user", "content": "a bird"}], "max_tokens": 3}
post = urllib.request.Request(
    url + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
)
with urllib.request.urlopen(post, timeout=60) as answer:
    print(json.load(answer)["usage"]["completion_tokens"])
server.send_signal(signal.SIGTERM)
server.stderr.read()
sys.exit(server.wait(60))
"""
# In the server: every address that it connects to or looks up.
WATCH = """
import os, sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        with open(os.path.join(os.path.dirname(__file__), "attempts"), "a") as file:
            file.write(f"{event} {arguments[-1] if event == 'socket.connect' else arguments}\\n")
sys.addaudithook(watch)
"""


def can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="a network namespace needs root, or user namespaces")
def test_a_server_without_a_route_serves_on_loopback_and_connects_to_nothing(
    published_decoder: Path, tmp_path: Path
) -> None:
    watching = tmp_path / "watch"
    watching.mkdir()
    (watching / "sitecustomize.py").write_text(WATCH)
    command = ["unshare", "-n", sys.executable, "-c", INSIDE, f"tiny={published_decoder}", str(watching)]
    environment = os.environ | {"PARAKIT_ACCOUNTS": str(tmp_path / "accounts.sqlite")}
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert run.returncode == 0, run.stderr
    assert 1 <= int(run.stdout) <= 3
    attempts = watching / "attempts"
    assert not attempts.exists(), attempts.read_text()
