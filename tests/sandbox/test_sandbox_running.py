"""Programs that do nothing wrong: what comes back, what they can use, and how long they may take."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from parakit.common.errors import UserError
from parakit.sandbox import Limits, SandboxError, run_many, run_python, sandbox_status
from parakit.sandbox.pool import pooled_server
from parakit.sandbox.running import run_on

pytestmark = pytest.mark.usefixtures("isolation")


def test_a_program_gets_its_input_and_gives_its_output() -> None:
    run = run_python(
        "import sys\nname = input()\nprint(f'hello {name}é')\nprint('oh', file=sys.stderr)", "Ada\n"
    )
    assert (run.status, run.stdout, run.stderr, run.limit) == (0, "hello Adaé\n", "oh\n", None)
    assert 0 < run.cpu_seconds < 5


@pytest.mark.parametrize(
    ("code", "status", "last"),
    [
        ("raise SystemExit(3)", 3, ""),
        ("raise SystemExit('no')", 1, "no"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
        ("def f(:", 1, "SyntaxError: invalid syntax"),
        ("import os; os._exit(7)", 7, ""),
        ("import atexit; atexit.register(print, 'end'); raise SystemExit", 0, ""),
        ("if __name__ == '__main__': raise KeyError('x')", 1, "KeyError: 'x'"),
        ("print('\\x00'); import os; os.abort()", -6, ""),
    ],
)
def test_a_run_reports_how_the_program_ended(code: str, status: int, last: str) -> None:
    run = run_python(code)
    assert run.stderr.strip().rpartition("\n")[2] == last
    if status == -6:  # abort() signals itself, which is refused, and falls back to an instruction that traps
        assert run.status < 0
    else:
        assert run.status == status


def test_the_standard_library_is_there() -> None:
    modules = "asyncio bz2 collections.abc csv ctypes dataclasses datetime decimal difflib email.message enum fractions"
    modules += (
        " graphlib hashlib heapq html.parser inspect ipaddress json logging lzma math numbers pathlib pprint"
    )
    modules += (
        " random re sched statistics string struct textwrap typing unittest uuid xml.etree.ElementTree zlib"
    )
    code = "\n".join(f"import {name}" for name in modules.split())
    code += "\nimport hashlib, random, time\nrandom.random(); time.sleep(0.01); print(hashlib.md5(b'').hexdigest()[:4])"
    run = run_python(code, limits=Limits(cpu_seconds=10))
    assert (run.status, run.stdout) == (0, "d41d\n"), run.stderr


def test_unit_tests_of_the_standard_library_run_inside() -> None:
    code = "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(1, 1)\nunittest.main()"
    assert run_python(code).status == 0


def test_nothing_is_left_of_one_program_for_the_next() -> None:
    run_python(
        "import builtins, sys, os\nbuiltins.left = 1\nsys.modules['left'] = 1\nos.environ['LEFT'] = '1'"
    )
    code = "import builtins, os, sys\nprint(hasattr(builtins, 'left'), 'left' in sys.modules, dict(os.environ), sys.argv)"
    assert run_python(code).stdout == "False False {} ['program']\n"


def test_the_environment_and_the_caller_s_secrets_stay_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", "tr0ub4dor")
    code = """
import ctypes, os
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
print(dict(os.environ), libc.getenv(b"PASSWORD"))
"""
    assert run_python(code).stdout == "{} None\n"


def test_the_order_of_sets_is_always_the_same() -> None:
    code = "print([*{str(i) for i in range(20)}])"
    outputs = {run.stdout for run in run_many([code] * 6)}
    fresh = f"from parakit.sandbox import run_python; print(run_python({code!r}).stdout, end='')"
    other = subprocess.run([sys.executable, "-c", fresh], capture_output=True, text=True, check=True)
    assert outputs == {other.stdout}


def test_many_run_side_by_side_in_order() -> None:
    runs = run_many([f"print({i})" for i in range(20)])
    assert [run.stdout for run in runs] == [f"{i}\n" for i in range(20)]


def test_output_is_bounded_and_kept_up_to_the_bound() -> None:
    run = run_python("print('x' * 1000)", limits=Limits(output_bytes=10))
    assert (run.stdout, run.limit) == ("x" * 10, "output")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_servers_of_its_own() -> None:
    assert run_python("print(1)").stdout == "1\n"
    with pooled_server() as server:
        parent_pid = server.process.pid
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        with pooled_server() as server:
            os.write(writing, f"{server.process.pid} {run_python('print(2)').stdout}".encode())
            server.close()
        os._exit(0)
    os.waitpid(pid, 0)
    child_pid, output = os.read(reading, 100).split()
    os.close(reading)
    os.close(writing)
    assert (int(child_pid) != parent_pid, output) == (True, b"2")
    assert run_python("print(3)").stdout == "3\n"


def test_a_server_that_died_is_an_error_and_no_result() -> None:
    def killed() -> None:
        with pooled_server() as server:
            server.process.kill()
            server.process.wait()
            run_on(server, "print(1)", "", Limits())

    with pytest.raises(SandboxError, match=r"ended by itself|is gone"):
        killed()
    assert run_python("print(1)").stdout == "1\n", "the next one is new"


def test_limits_that_cannot_be_meant_are_refused() -> None:
    for name, value in {
        "cpu_seconds": 0,
        "memory_bytes": 1,
        "wall_seconds": float("inf"),
        "output_bytes": -1,
    }.items():
        with pytest.raises(UserError, match=name):
            Limits(**{name: value})  # type: ignore[arg-type]


def test_the_status_is_one_line() -> None:
    assert sandbox_status().startswith("sandbox: ")
    assert "\n" not in sandbox_status()
