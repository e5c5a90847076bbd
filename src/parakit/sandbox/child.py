"""What a forked process does behind the walls: run a program, answer calls to a program's functions, or run tests that
ask for those. It reads its job before the walls rise, from an open file, which is then closed.

File descriptors: 0 to 2 as usual, 3 the job, 4 and 5 to ask and to be answered, 6 the verdict.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import sys
import traceback
import types
from typing import Any

from parakit.sandbox.calls import BrokenTest, Candidate, CandidateGone, answer_calls
from parakit.sandbox.isolation.apply import OPEN_FILES, Surroundings, raise_walls
from parakit.sandbox.limits import Limits

JOB, FIRST_WIRE = 3, 4
CONFINED = b"confined"
_TEST = "a test"


def run_job(role: str, limits: Limits, around: Surroundings, report: int) -> int:
    """Confine this process, say so on the descriptor `report`, and do the job; returns the exit status."""
    with open(JOB, "rb") as file:
        job = json.loads(file.read())
    try:
        raise_walls(limits, around)
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
    status = {"program": _program, "serve": _serve, "judge": _judge}[role](job)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # closed by the program, or nobody reads
            status = status or 1
    return status


def _namespace(name: str) -> dict[str, Any]:
    module = types.ModuleType(name)
    sys.modules[name] = module
    return module.__dict__


def _execute(source: str, namespace: dict[str, Any], name: str) -> int:
    """Exit status of running a source to its end, its traceback printed."""
    try:
        exec(compile(source, name, "exec", dont_inherit=True), namespace)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        os.write(2, f"{error.code}\n".encode(errors="replace"))
        return 1
    except BaseException:
        traceback.print_exc(limit=-8)
        return 1
    return 0


def _program(job: dict[str, Any]) -> int:
    status = _execute(job["code"], _namespace("__main__"), "program.py")
    atexit._run_exitfuncs()
    return status


def _serve(job: dict[str, Any]) -> int:
    asked, answers = (os.fdopen(FIRST_WIRE + i, mode) for i, mode in enumerate(("rb", "wb")))
    namespace = _namespace("candidate")
    if status := _execute(job["code"], namespace, "candidate.py"):
        return status
    answer_calls(namespace, asked, answers)
    return 0


def _judge(job: dict[str, Any]) -> int:
    answers, asking, verdict = (os.fdopen(FIRST_WIRE + i, mode) for i, mode in enumerate(("rb", "wb", "wb")))
    candidate, namespace = Candidate(asking, answers), _namespace("tests")

    def tell(outcome: str, why: str = "") -> None:
        verdict.write(json.dumps([outcome, why[:500], candidate.n_calls]).encode() + b"\n")
        verdict.flush()

    if job["setup"]:
        outcome, why = _tested(lambda: exec(compile(job["setup"], "the setup", "exec"), namespace))
        if outcome != "passed":
            tell("broken", f"the setup raised {why}")
            return 0
    for name in job["names"]:
        namespace[name] = candidate.function(name)
    for test in job["tests"]:
        tell(*_tested(lambda test=test: exec(compile(test, _TEST, "exec"), namespace)))
    return 0


def _tested(test: Any) -> tuple[str, str]:
    """Whether a test passed, failed, or is itself broken, and why."""
    try:
        test()
    except BrokenTest as error:
        return "broken", str(error)
    except CandidateGone as error:
        return "failed", str(error)
    except BaseException as error:
        why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return ("broken" if _lacks_module(error) else "failed"), why
    return "passed", ""


def _lacks_module(error: BaseException) -> bool:
    """Whether a test imports what is not there, which is no fault of the program's."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return isinstance(error, ImportError) and place is not None and place.tb_frame.f_code.co_filename == _TEST
