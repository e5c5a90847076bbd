"""Unit tests of an untrusted program, with a result that the program cannot reach.

Two confined processes: one holds the program and answers calls, the other (the judge) holds the tests and calls. Only
plain data passes between them (`calls.py`). The program never sees a test, an expected value, the process that
compares, or the pipe on which the result comes; whatever it prints, patches, raises or kills affects only itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Literal

from parakit.sandbox.fork_server import Job
from parakit.sandbox.limits import ExitInfo, Limit, Limits
from parakit.sandbox.pool import max_parallel, pooled_server
from parakit.sandbox.running import open_pipe, sealed_file
from parakit.sandbox.unit_tests import UnitTests

Outcome = Literal["passed", "failed", "timed_out", "broken"]
_MAX_REPORT = 1 << 16  # bytes
_WALL_PER_CPU = 4  # wall-clock seconds allowed for each second of the program's processor time


@dataclass(frozen=True)
class UnitTestResult:
    """How many of how many tests passed. `broken`: the tests themselves are wrong; `reason` explains."""

    outcome: Outcome
    n_passed: int
    n_tests: int
    reason: str
    seconds: float

    @property
    def fraction_passed(self) -> float:
        """Between 0 and 1."""
        return self.n_passed / self.n_tests


def run_tests(code: str, tests: UnitTests, limits: Limits | None = None) -> UnitTestResult:
    """Test one program. `SandboxError` where this machine provides no isolation."""
    limits = replace(limits or Limits(), cpu_seconds=tests.cpu_seconds)
    judge_limits = replace(limits, cpu_seconds=2 * tests.cpu_seconds)
    started = time.monotonic()
    program_job = json.dumps({"setup": tests.setup, "code": code}).encode()
    judge_job = json.dumps(asdict(tests)).encode()
    wall_seconds = min(limits.wall_seconds, 2.0 + _WALL_PER_CPU * tests.cpu_seconds)
    with pooled_server() as server, contextlib.ExitStack() as stack:
        null = stack.enter_context(open(os.devnull, "r+b", 0))
        program = stack.enter_context(sealed_file(program_job))
        judge = stack.enter_context(sealed_file(judge_job))
        (calls_out, calls_in), (results_out, results_in), (report_out, report_in) = (
            open_pipe(stack) for _ in range(3)
        )
        groups = [
            ("judge", judge_limits, [null, null, null, judge, results_out, calls_in, report_in]),
            ("serve", limits, [null, null, null, program, calls_out, results_in]),
        ]
        jobs = [
            Job(role, role_limits, [file.fileno() for file in files]) for role, role_limits, files in groups
        ]
        server.start(jobs, wall_seconds)
        for end in (calls_out, calls_in, results_out, results_in, report_in):
            end.close()
        report = _read_report(report_out.fileno())
        judge_exit, program_exit = server.wait()
    time_limit = program_exit.time_limit(limits) or judge_exit.time_limit(judge_limits)
    return _result(report, tests, judge_exit, time_limit, time.monotonic() - started)


def run_tests_of_many(
    programs: Sequence[tuple[str, UnitTests]], limits: Limits | None = None
) -> list[UnitTestResult]:
    """`run_tests` of each (code, tests), several in parallel; equal ones are run once."""
    distinct = list(dict.fromkeys(programs))
    with ThreadPoolExecutor(max_parallel()) as threads:
        results = list(threads.map(lambda program: run_tests(program[0], program[1], limits), distinct))
    by_program = dict(zip(distinct, results, strict=True))
    return [by_program[program] for program in programs]


def _read_report(descriptor: int) -> list[list[str | int]]:
    """The judge's lines (outcome, reason, number of calls so far), whole ones only, until it closes the pipe."""
    text = b""
    while len(text) <= _MAX_REPORT and (data := os.read(descriptor, 1 << 16)):
        text += data
    return [json.loads(line) for line in text.split(b"\n")[:-1]]


def _result(
    report: list[list[str | int]],
    tests: UnitTests,
    judge_exit: ExitInfo,
    time_limit: Limit | None,
    seconds: float,
) -> UnitTestResult:
    """The result from the judge's report and exit; `time_limit`: the one that was hit, the program's before the judge's."""
    n_tests = len(tests.tests)
    n_passed = sum(outcome == "passed" for outcome, *_ in report)
    broken = next((str(reason) for outcome, reason, _ in report if outcome == "broken"), "")
    n_calls = max((int(n) for *_, n in report), default=0)
    if not broken and n_passed == n_tests and not n_calls:
        broken = "all pass without a call of the program"
    if broken:
        return UnitTestResult("broken", 0, n_tests, broken, seconds)
    if len(report) == n_tests == n_passed and judge_exit.status == 0:
        return UnitTestResult("passed", n_passed, n_tests, "", seconds)
    reason = next((str(reason) for outcome, reason, _ in report if outcome != "passed"), "")
    reason = reason or (f"{time_limit} time limit exceeded" if time_limit else "the tests ended early")
    return UnitTestResult("timed_out" if time_limit else "failed", n_passed, n_tests, reason, seconds)
