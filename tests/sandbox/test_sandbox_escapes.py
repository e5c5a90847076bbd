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

from parakit.sandbox import pool
from parakit.sandbox.limits import Limits
from parakit.sandbox.pool import Job, Keeper, SandboxError
from parakit.sandbox.probe import examine
from parakit.sandbox.running import Run, run_python, run_with, sealed
from tests.sandbox.escapes import ALONE, ALONE_CODE, PROGRAM, TOGETHER

SECRET = "nobody should see this\n"


def keeper_or_skip(kind: str) -> Keeper:
    try:
        return Keeper(kind)
    except SandboxError as error:
        pytest.skip(f"not on this machine: {error.message}")


@pytest.fixture(scope="module", params=["namespaces", "landlock", "namespaces alone"])
def keeper(request: pytest.FixtureRequest) -> Iterator[Keeper]:
    """Each kind of walls by itself, and both."""
    kind, _, alone = request.param.partition(" ")
    with pytest.MonkeyPatch.context() as patch:
        if alone:
            changed_begin(patch, "landlock.version = lambda: 0")
        found = keeper_or_skip(kind)
    yield found
    found.close()


@pytest.fixture(scope="module")
def strongest(walls: str) -> Iterator[Keeper]:
    found = Keeper(walls)
    yield found
    found.close()


def changed_begin(patch: pytest.MonkeyPatch, change: str) -> None:
    """Keepers that are started from now on execute `change` before they build walls."""
    given = f"from parakit.sandbox.isolation import kernel, landlock, raising, rooms\n{change}\nmain(int"
    patch.setattr(pool, "_BEGIN", pool._BEGIN.replace("main(int", given))


@pytest.fixture
def outside(tmp_path: Path) -> dict[str, object]:
    """What there is to reach: a file that everyone may read, a process, a port that listens."""
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


def attempt(keeper: Keeper, category: str, outside: dict[str, object], limits: Limits) -> Run:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        exact = category == "system calls"
        given = outside | {"port": port, "exact": exact, "attempts": TOGETHER[category]}
        run = run_with(keeper, PROGRAM, json.dumps(given), limits)
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
    return run


@pytest.mark.parametrize("category", TOGETHER)
def test_no_attempt_gets_out(keeper: Keeper, category: str, outside: dict[str, object]) -> None:
    before = Path(str(outside["canary"])).stat()
    run = attempt(keeper, category, outside, Limits())
    assert run.stderr == ""
    assert json.loads(run.stdout) == []
    folder = Path(str(outside["folder"]))
    assert [file.name for file in folder.iterdir()] == ["canary"]
    after = (folder / "canary").stat()
    assert (folder / "canary").read_text() == SECRET
    for what in ("st_mode", "st_uid", "st_mtime_ns", "st_ctime_ns", "st_nlink"):
        assert getattr(after, what) == getattr(before, what)


@pytest.mark.parametrize("name", ALONE)
def test_what_would_take_others_with_it_is_ended(strongest: Keeper, name: str) -> None:
    machine, wanted = ALONE[name]
    if machine == "x86" and platform.machine() != "x86_64":
        pytest.skip("a door of x86_64 only")
    limits = Limits(cpu_seconds=1, wall_seconds=0.6 if "sleep" in name else 20, memory_bytes=128 << 20)
    run = run_with(strongest, ALONE_CODE[name], "", limits)
    assert eval(wanted, {}, vars(run)), run
    assert len(run.stdout) <= limits.output_bytes
    assert run_with(strongest, "print(1)", "", limits).stdout == "1\n", "the keeper goes on"


def test_the_same_attempts_succeed_without_walls(outside: dict[str, object]) -> None:
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
    keeper = keeper_or_skip("namespaces")
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
            run = run_with(keeper, code, "", limits)
            assert "'open" not in run.stdout
            assert run.stdout.startswith("[1000"), run
            assert run_with(keeper, "import os; print(os.listdir('/tmp'))", "", limits).stdout == "[]\n"
    finally:
        keeper.close()


def test_what_a_keeper_started_ends_with_it(strongest: Keeper) -> None:
    """Even when nobody says goodbye: the socket's end is enough."""
    other = Keeper(strongest.kind)
    with open(os.devnull, "r+b") as nothing, sealed(json.dumps({"code": "while True: pass"}).encode()) as job:
        files = [nothing.fileno()] * 3 + [job.fileno()]
        other.start([Job("program", Limits(cpu_seconds=60), files)], 60)
    time.sleep(0.1)
    other.control.close()
    other.process.wait(20)
    assert other.process.returncode is not None


BREACHES = {
    "raising.install_filter = lambda scratch: None": {"open_socket", "start_process"},
    "raising._account = lambda limits: None": {"use_memory"},
    "rooms.enter_room = lambda folders: None\nlandlock.version = lambda: 0": {"read_outside", "list_outside"},
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_wall_that_is_missing_is_noticed_by_trial(breach: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changed_begin(monkeypatch, breach)
    keeper = keeper_or_skip("namespaces")
    try:
        assert set(examine(keeper)) >= BREACHES[breach]
    finally:
        keeper.close()


def test_where_no_walls_hold_everything_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the kernel gives nothing at all; and elsewhere than on Linux."""
    changed_begin(monkeypatch, "raising.install_filter = lambda scratch: None")
    pool._examined.cache_clear()
    try:
        with pytest.raises(SandboxError, match=r"cannot be confined on this machine: .*open_socket"):
            run_python("print(1)")
        assert pool.sandbox_status().startswith("no sandbox, generated code is refused")
        pool._examined.cache_clear()
        changed_begin(monkeypatch, "kernel.NUMBERS.clear()")
        with pytest.raises(SandboxError, match=r"Linux kernel of 5\.13"):
            pool.walls_here()
        pool._examined.cache_clear()
        monkeypatch.setattr(sys, "platform", "darwin")
        with pytest.raises(SandboxError, match="on darwin"):
            pool.walls_here()
    finally:
        pool._examined.cache_clear()
