"""A hundred and more ways out of the sandbox: none leads out, with namespaces and with Landlock alone."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from parakit.sandbox import fork_server, pool
from parakit.sandbox.fork_server import ForkServer, Job, SandboxError
from parakit.sandbox.limits import Limits
from parakit.sandbox.probe import find_leaks
from parakit.sandbox.running import Run, run_on, sealed_file
from tests.sandbox.escapes import ALONE, ALONE_CODE, PROGRAM, TOGETHER

SECRET = "nobody should see this\n"


def server_or_skip(kind: str) -> ForkServer:
    try:
        return ForkServer(kind)
    except SandboxError as error:
        pytest.skip(f"not on this machine: {error.message}")


@pytest.fixture(scope="module", params=["namespaces", "landlock", "namespaces alone"])
def server(request: pytest.FixtureRequest) -> Iterator[ForkServer]:
    """Each kind of isolation by itself, and both."""
    kind, _, alone = request.param.partition(" ")
    with pytest.MonkeyPatch.context() as patch:
        if alone:
            patch_bootstrap(patch, "landlock.version = lambda: 0")
        found = server_or_skip(kind)
    yield found
    found.close()


@pytest.fixture(scope="module")
def strongest(isolation: str) -> Iterator[ForkServer]:
    found = ForkServer(isolation)
    yield found
    found.close()


def patch_bootstrap(patch: pytest.MonkeyPatch, change: str) -> None:
    """Fork servers that are started from now on execute `change` before they apply isolation."""
    given = f"from parakit.sandbox.isolation import apply, kernel, landlock, namespaces\n{change}\nmain(int"
    patch.setattr(fork_server, "_BOOTSTRAP", fork_server._BOOTSTRAP.replace("main(int", given))


@pytest.fixture
def outside(tmp_path: Path) -> dict[str, object]:
    """Targets outside the sandbox: a file that everyone may read, a process, a port that listens."""
    canary = tmp_path / "canary"
    canary.write_text(SECRET)
    for place in (canary, *list(canary.parents)[:3]):
        place.chmod(place.stat().st_mode | 0o755)
    site = sysconfig.get_paths()["purelib"]
    return {"canary": str(canary), "folder": str(tmp_path), "pid": os.getpid(), "site": site,
            "module": f"{site}/numpy/__init__.py"}  # fmt: skip


def test_there_are_a_hundred() -> None:
    assert sum(map(len, TOGETHER.values())) + len(ALONE) >= 200
    assert ALONE.keys() == ALONE_CODE.keys()


def attempt(server: ForkServer, category: str, outside: dict[str, object], limits: Limits) -> Run:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        exact = category == "system calls"
        given = outside | {"port": port, "exact": exact, "attempts": TOGETHER[category]}
        run = run_on(server, PROGRAM, json.dumps(given), limits)
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()
    return run


@pytest.mark.parametrize("category", TOGETHER)
def test_no_attempt_gets_out(server: ForkServer, category: str, outside: dict[str, object]) -> None:
    before = Path(str(outside["canary"])).stat()
    run = attempt(server, category, outside, Limits())
    assert run.stderr == ""
    assert json.loads(run.stdout) == []
    folder = Path(str(outside["folder"]))
    assert [file.name for file in folder.iterdir()] == ["canary"]
    after = (folder / "canary").stat()
    assert (folder / "canary").read_text() == SECRET
    for what in ("st_mode", "st_uid", "st_mtime_ns", "st_ctime_ns", "st_nlink"):
        assert getattr(after, what) == getattr(before, what)


@pytest.mark.parametrize("name", ALONE)
def test_what_would_take_others_with_it_is_ended(strongest: ForkServer, name: str) -> None:
    machine, wanted = ALONE[name]
    if machine == "x86" and platform.machine() != "x86_64":
        pytest.skip("a door of x86_64 only")
    limits = Limits(cpu_seconds=1, wall_seconds=0.6 if "sleep" in name else 20, memory_bytes=128 << 20)
    run = run_on(strongest, ALONE_CODE[name], "", limits)
    assert eval(wanted, {}, vars(run)), run
    assert len(run.stdout) <= limits.output_bytes
    assert run_on(strongest, "print(1)", "", limits).stdout == "1\n", "the fork server keeps running"


def test_the_same_attempts_succeed_without_isolation(outside: dict[str, object]) -> None:
    """Else the table would prove nothing. Only those that do no harm outside."""
    names = (
        "a file beside the program",
        "its folder",
        "a relative path",
        "the root folder through proc",
        "a mapping",
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        attempts = {name: TOGETHER["reads"][name] for name in names}
        attempts |= {
            name: TOGETHER["writes"][name] for name in ("a new file", "a temporary file", "another mode")
        }
        attempts |= {name: TOGETHER["network"][name] for name in ("a stream", "a pair", "a connection")}
        attempts |= {
            name: TOGETHER["processes"][name] for name in ("a shell", "a thread", "signal the parent")
        }
        given = outside | {"port": server.getsockname()[1], "exact": False, "attempts": attempts}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], input=json.dumps(given), capture_output=True, text=True
        )
    assert set(json.loads(done.stdout)) == attempts.keys()


def test_a_scratch_folder_is_bounded_private_and_gone_afterwards() -> None:
    server = server_or_skip("namespaces")
    code = """
import os
open('/tmp/kept', 'w').write('x' * 1000)
os.mkdir('/tmp/folder'); os.symlink('/etc/passwd', '/tmp/folder/link')
out = [os.path.getsize('/tmp/kept')]
for attempt in ("open('/tmp/folder/link')", "open('/tmp/big', 'wb', 0).write(bytes(4 << 20))", "open('/new', 'w')",
                "[os.mkdir(f'/tmp/{i}') for i in range(100000)]", "os.execv('/tmp/kept', ['x'])",
                "[open(f'/tmp/part{i}', 'wb', 0).write(bytes(1 << 18)) for i in range(8)]",
                "os.chmod(os.__file__, 0o777)", "open(os.__file__, 'w')", "os.mknod('/tmp/d', 0o20666, 259)"):
    try:
        exec(attempt)
    except OSError as error:
        continue
    out.append(attempt)
print(out)
"""
    limits = Limits(scratch_bytes=1 << 20)
    try:
        for _ in range(2):
            run = run_on(server, code, "", limits)
            assert "'open" not in run.stdout
            assert run.stdout.startswith("[1000"), run
            assert run_on(server, "import os; print(os.listdir('/tmp'))", "", limits).stdout == "[]\n"
    finally:
        server.close()


def test_what_a_fork_server_started_ends_with_it(strongest: ForkServer) -> None:
    """Even when nobody says goodbye: the socket's end is enough."""
    other = ForkServer(strongest.kind)
    with (
        open(os.devnull, "r+b") as nothing,
        sealed_file(json.dumps({"code": "while True: pass"}).encode()) as job,
    ):
        files = [nothing.fileno()] * 3 + [job.fileno()]
        other.start([Job("program", Limits(cpu_seconds=60), files)], 60)
    time.sleep(0.1)
    other.control.close()
    other.process.wait(20)
    assert other.process.returncode is not None


BREACHES = {
    "apply.install_filter = lambda scratch: None": {"open_socket", "start_process"},
    "apply._set_resource_limits = lambda limits: None": {"use_memory"},
    "namespaces.enter = lambda folders: None\nlandlock.version = lambda: 0": {"read_outside", "list_outside"},
}


@pytest.mark.parametrize("breach", BREACHES)
def test_the_probe_notices_missing_isolation(breach: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patch_bootstrap(monkeypatch, breach)
    server = server_or_skip("namespaces")
    try:
        assert set(find_leaks(server)) >= BREACHES[breach]
    finally:
        server.close()


def test_without_isolation_everything_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the kernel provides nothing, and on systems other than Linux."""
    patch_bootstrap(monkeypatch, "apply.install_filter = lambda scratch: None")
    pool._probe_isolation.cache_clear()
    try:
        with pytest.raises(SandboxError, match=r"cannot be confined on this machine: .*open_socket"):
            pool.run_python("print(1)")
        assert pool.sandbox_status().startswith("no sandbox, generated code is refused")
        pool._probe_isolation.cache_clear()
        patch_bootstrap(monkeypatch, "kernel.NUMBERS.clear()")
        with pytest.raises(SandboxError, match=r"Linux kernel of 5\.13"):
            pool.available_isolation()
        pool._probe_isolation.cache_clear()
        monkeypatch.setattr(sys, "platform", "darwin")
        with pytest.raises(SandboxError, match="on darwin"):
            pool.available_isolation()
    finally:
        pool._probe_isolation.cache_clear()
