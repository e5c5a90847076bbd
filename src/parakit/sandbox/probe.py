"""Tests the isolation with a program that tries to break out, instead of trusting a kernel version."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from parakit.sandbox.fork_server import ForkServer, SandboxError
from parakit.sandbox.limits import Limits
from parakit.sandbox.running import run_on

_PROGRAM = """
import json, sys
import base64, hashlib, os, random, signal, socket, threading
given = json.loads(sys.stdin.read())

def read_outside():
    open(given["canary"]).read()

def list_outside():
    assert given["name"] in os.listdir(given["folder"])

def write_outside():
    open(given["target"], "w").write("x")

def write_library():
    open(os.__file__, "a")

def change_mode():
    os.chmod(given["canary"], 0o600)

def see_processes():
    assert [name for name in os.listdir("/proc") if name.isdecimal()]

def open_socket():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

def local_socket():
    socket.socket(socket.AF_UNIX)

def start_process():
    if os.fork() == 0:
        os._exit(0)

def start_program():
    os.execv(sys.executable, [sys.executable, "-c", "print('leaks')"])

def start_thread():
    threading.Thread(target=print).start()

def send_signal():
    os.kill(os.getppid() or given["pid"], 0)

def use_memory():
    bytearray(1 << 30)

def regain_limits():
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))

def keep_root():
    assert 0 in (os.getuid(), os.geteuid(), os.getgid(), os.getegid())

leaks = []
for attempt in (keep_root, read_outside, list_outside, write_outside, write_library, change_mode, see_processes, open_socket,
                local_socket, start_process, start_thread, send_signal, use_memory, regain_limits, start_program):
    try:
        attempt()
    except (OSError, RuntimeError, MemoryError, ValueError, AssertionError):
        continue
    leaks.append(attempt.__name__)
assert hashlib.sha256(b"").hexdigest().startswith("e3b0") and base64.b64encode(b"a") == b"YQ==" and os.urandom(4)
print(json.dumps(leaks))
"""


def find_leaks(server: ForkServer) -> list[str]:
    """What a program could do that it must not; empty where isolation holds. `SandboxError` where the program could not
    run at all.
    """
    with tempfile.TemporaryDirectory(prefix="parakit-") as folder:
        canary = Path(folder, "canary")
        canary.write_text("nobody should see this")
        canary.chmod(0o644)
        given = {"canary": str(canary), "name": canary.name, "folder": folder, "target": f"{folder}/new"}
        run = run_on(server, _PROGRAM, json.dumps(given | {"pid": os.getpid()}), Limits(cpu_seconds=5))
    try:
        leaks = json.loads(run.stdout)
    except ValueError:
        reason = run.stderr.strip().rpartition("\n")[2] or run.stdout or f"status {run.status}"
        raise SandboxError(f"{server.kind}: the probe did not run: {reason[:200]}") from None
    return list(leaks)
