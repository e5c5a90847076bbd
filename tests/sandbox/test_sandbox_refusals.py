"""Where a machine lacks what the sandbox needs, the refusal names it: no reason is empty."""

from __future__ import annotations

import os
import re

import pytest

from parakit.sandbox import Limits, SandboxError, fork_server, pool, running
from parakit.sandbox.fork_server import ForkServer
from parakit.sandbox.isolation.kernel import NUMBERS
from parakit.sandbox.probe import find_leaks
from parakit.sandbox.running import run_on
from tests.sandbox.test_sandbox_escapes import patch_bootstrap, server_or_skip

IN_BOTH = {"close_range", "prctl", "capset"}
IN_NAMESPACES = {"mount", "pivot_root", "umount2", "unshare"}
MISSING = "kernel.NUMBERS[{0!r}] = (9999, 9999)"  # which the kernel answers with "Function not implemented"
OTHER_FAULTS = {
    "os.pidfd_open": ("import os\ndel os.pidfd_open", "pidfd_open"),
    "a filter that is refused": (
        "def refused(*a, **k): raise OSError(22, 'x')\napply.install_filter = refused",
        "OSError",
    ),
    "limits that cannot be set": (
        "import resource\ndef refused(*a): raise ValueError('not allowed')\nresource.setrlimit = refused",
        r"setrlimit \(RLIMIT_CPU\): not allowed",
    ),
    "a child that dies": ("import os\napply.install_filter = lambda s: os.abort()", "SIGABRT"),
    "a server that dies": ("import os\nos._exit(3)", "status 3"),
}


def reason(kind: str) -> str:
    """Why a kind of isolation is refused, as `sandbox_status` would show it."""
    with pytest.raises(SandboxError) as caught:
        find_leaks_of(kind)
    return caught.value.message


def find_leaks_of(kind: str) -> None:
    server = ForkServer(kind)
    try:
        find_leaks(server)
        run_on(server, "print(1)", "", Limits())
    finally:
        server.close()


@pytest.mark.parametrize("kind", pool.KINDS)
@pytest.mark.parametrize("call", sorted(IN_BOTH | IN_NAMESPACES))
def test_a_missing_system_call_is_named(kind: str, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {name for name in NUMBERS if not name.startswith("landlock")} - {
        "setfsuid"
    } == IN_BOTH | IN_NAMESPACES
    server_or_skip(kind).close()
    if call in IN_NAMESPACES and kind == "landlock":
        pytest.skip("it makes no such call")
    patch_bootstrap(monkeypatch, MISSING.format(call))
    assert re.search(rf"{call}\b.*: Function not implemented", reason(kind))


@pytest.mark.parametrize("fault", OTHER_FAULTS)
def test_other_faults_are_named(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server_or_skip("landlock").close()
    change, wanted = OTHER_FAULTS[fault]
    patch_bootstrap(monkeypatch, change)
    found = reason("landlock")
    assert re.search(wanted, found), found


def test_a_missing_memory_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(running.os, "memfd_create", refused)
    pool._probe_isolation.cache_clear()
    try:
        assert "memfd_create: Function not implemented" in pool.sandbox_status()
    finally:
        pool._probe_isolation.cache_clear()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a root to leave")
def test_root_s_programs_are_nobody_s_with_landlock_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    server = server_or_skip("landlock")
    code = "import os; print(os.getuid(), os.geteuid(), os.getgid(), os.getegid())"
    try:
        assert run_on(server, code, "", Limits()).stdout == "65534 65534 65534 65534\n"
    finally:
        server.close()
    patch_bootstrap(monkeypatch, "kernel.leave_root = lambda folders: None")
    kept = server_or_skip("landlock")
    try:
        assert find_leaks(kept) == ["keep_root"], "the probe notices"
    finally:
        kept.close()
    refused = (
        "import os\ndef refused(*a): raise OSError(1, 'Operation not permitted')\nos.setresuid = refused"
    )
    monkeypatch.undo()
    patch_bootstrap(monkeypatch, refused)
    assert "setresuid" in reason("landlock")


def test_no_reason_is_empty() -> None:
    assert fork_server.HINT
    assert pool.sandbox_status().partition(": ")[2]
