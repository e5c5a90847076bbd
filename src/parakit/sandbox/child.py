"""What a forked process does under isolation: run a program, answer calls of a program's functions, or run tests that
make such calls. It reads its job from an open file before isolation is applied; the file is then closed.

File descriptors: 0 to 2 as usual, 3 the job, 4 and 5 the pipes of calls and results, 6 the report of the tests.
"""

from __future__ import annotations
import __future__

import atexit
import contextlib
import functools
import gc
import importlib
import json
import operator
import os
import sys
import traceback
import types
from typing import Any

from parakit.sandbox.calls import BrokenTest, CandidateProxy, CandidateUnavailable, answer_calls
from parakit.sandbox.isolation.apply import OPEN_FILES, IsolationSpec, apply_isolation
from parakit.sandbox.limits import Limits

JOB_FD, FIRST_PIPE_FD = 3, 4
CONFINED = b"confined"
_TEST = "a test"
_FUTURE = functools.reduce(
    operator.or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)


def run_confined(role: str, limits: Limits, isolation: IsolationSpec, report: int) -> int:
    """Confine this process, report that on the descriptor `report`, and do the job; returns the exit status."""
    try:
        with open(JOB_FD, "rb") as file:
            job = json.loads(file.read())
        apply_isolation(limits, isolation)
    except Exception as error:
        os.write(report, f"{type(error).__name__}: {error}".encode()[:2000])
        return 70
    os.write(report, CONFINED)
    os.closerange(report, report + OPEN_FILES)  # the ruleset too
    os.environ.clear()
    sys.argv[:] = ["program"]
    for name in [name for name in sys.modules if name.partition(".")[0] == "parakit"]:
        del sys.modules[name]
    gc.collect()
    status = {"program": _run_program, "serve": _serve, "judge": _judge}[role](job)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # closed by the program, or nobody reads
            status = status or 1
    return status


def _new_namespace(name: str) -> dict[str, Any]:
    module = types.ModuleType(name)
    sys.modules[name] = module
    return module.__dict__


def compile_program(setup: str, code: str, name: str) -> list[types.CodeType]:
    """The setup and the program. One that is complete is compiled by itself, so that it may begin with `from __future__`,
    under the setup's own future statements; one that continues the setup, together with it. A byte order mark counts for
    nothing; an encoding line neither, in a text.
    """
    setup, code = (source.removeprefix("\ufeff") for source in (setup, code))
    if not setup:
        return [compile(code, name, "exec", dont_inherit=True)]
    first = compile(setup, name, "exec", dont_inherit=True)
    try:
        return [first, compile(code, name, "exec", first.co_flags & _FUTURE, dont_inherit=True)]
    except SyntaxError:
        return [compile(f"{setup.rstrip()}\n{code}", name, "exec", dont_inherit=True)]


def _execute(setup: str, code: str, namespace: dict[str, Any], name: str) -> int:
    """Run a source to its end, printing its traceback; returns the exit status."""
    try:
        for part in compile_program(setup, code, name):
            exec(part, namespace)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        os.write(2, f"{error.code}\n".encode(errors="replace"))
        return 1
    except BaseException:
        traceback.print_exc(limit=-8)
        return 1
    return 0


def _run_program(job: dict[str, Any]) -> int:
    status = _execute("", job["code"], _new_namespace("__main__"), "program.py")
    atexit._run_exitfuncs()
    return status


def _serve(job: dict[str, Any]) -> int:
    calls, results = (os.fdopen(FIRST_PIPE_FD + i, mode) for i, mode in enumerate(("rb", "wb")))
    namespace = _new_namespace("candidate")
    if status := _execute(job["setup"], job["code"], namespace, "candidate.py"):
        return status
    answer_calls(namespace, calls, results)
    return 0


def _judge(job: dict[str, Any]) -> int:
    results, calls, report = (os.fdopen(FIRST_PIPE_FD + i, mode) for i, mode in enumerate(("rb", "wb", "wb")))
    candidate, namespace = CandidateProxy(calls, results), _new_namespace("tests")

    def write_outcome(outcome: str, reason: str = "") -> None:
        report.write(json.dumps([outcome, reason[:500], candidate.n_calls]).encode() + b"\n")
        report.flush()

    for module in job["modules"]:
        with contextlib.suppress(ImportError):  # a Python without it
            namespace[module] = importlib.import_module(module)
    flags = 0
    if job["setup"]:
        outcome, reason = _run_test(job["setup"], "the setup", namespace)
        if outcome != "passed":
            write_outcome("broken", f"the setup raised {reason}")
            return 0
        flags = compile(job["setup"].removeprefix("\ufeff"), "", "exec", dont_inherit=True).co_flags & _FUTURE
    for name in job["names"]:
        namespace[name] = candidate.function(name)
    for name in job["exceptions"]:
        namespace[name] = candidate.exception(name)
    for test in job["tests"]:
        write_outcome(*_run_test(test, _TEST, namespace, flags))
    return 0


def _run_test(source: str, name: str, namespace: dict[str, Any], flags: int = 0) -> tuple[str, str]:
    """The outcome (passed, failed or broken) and the reason."""
    try:
        exec(compile(source.removeprefix("\ufeff"), name, "exec", flags, dont_inherit=True), namespace)
    except BrokenTest as error:
        return "broken", str(error)
    except CandidateUnavailable as error:
        return "failed", str(error)
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return ("broken" if _lacks_module(error) else "failed"), reason
    return "passed", ""


def _lacks_module(error: BaseException) -> bool:
    """Whether a test imports a module that is missing here, which is not the program's fault."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return isinstance(error, ImportError) and frame is not None and frame.tb_frame.f_code.co_filename == _TEST
