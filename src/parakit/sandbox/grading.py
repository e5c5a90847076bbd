"""Unit tests of an untrusted program, with a verdict that it cannot reach.

Two confined processes: one holds the program and answers calls, the other holds the tests and asks. Between them there
is nothing but plain data (`calls.py`). The program never sees a test, an expected value, the process that compares,
or the pipe on which the verdict comes; whatever it prints, patches, raises or kills, it does to itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

from parakit.sandbox.limits import Ended, Limit, Limits
from parakit.sandbox.pool import Job, borrowed_keeper, n_at_once
from parakit.sandbox.running import open_pipe, sealed
from parakit.sandbox.unit_tests import UnitTests

Outcome = Literal["passed", "failed", "timed_out", "broken"]
_MOST_SAID = 1 << 16  # bytes of a verdict
_PATIENCE = 4  # times as long as the program's processor time, by the clock


@dataclass(frozen=True)
class Verdict:
    """How many of how many tests passed. `broken`: the tests themselves are wrong, and `why` says how."""

    outcome: Outcome
    n_passed: int
    n_tests: int
    why: str
    seconds: float

    @property
    def share(self) -> float:
        """Of the tests that passed."""
        return self.n_passed / self.n_tests


def run_tests(code: str, tests: UnitTests, limits: Limits | None = None) -> Verdict:
    """Judge one program. `SandboxError` where nothing confines it."""
    limits = replace(limits or Limits(), cpu_seconds=tests.cpu_seconds)
    limits_of_judge = replace(limits, cpu_seconds=2 * tests.cpu_seconds)
    started = time.monotonic()
    served = json.dumps({"code": tests.program(code)}).encode()
    asked = {"setup": tests.setup, "names": tests.names, "tests": tests.tests}
    wall_seconds = min(limits.wall_seconds, 2.0 + _PATIENCE * tests.cpu_seconds)
    with borrowed_keeper() as keeper, contextlib.ExitStack() as stack:
        nothing = stack.enter_context(open(os.devnull, "r+b", 0))
        program = stack.enter_context(sealed(served))
        judge = stack.enter_context(sealed(json.dumps(asked).encode()))
        (asks, asked_of), (answered, answers), (said, says) = (open_pipe(stack) for _ in range(3))
        groups = [
            ("judge", limits_of_judge, [nothing, nothing, nothing, judge, answered, asked_of, says]),
            ("serve", limits, [nothing, nothing, nothing, program, asks, answers]),
        ]
        jobs = [Job(role, within, [file.fileno() for file in files]) for role, within, files in groups]
        keeper.start(jobs, wall_seconds)
        for end in (asks, asked_of, answered, answers, says):
            end.close()
        told = _read(said.fileno())
        judged, program_end = keeper.ended()
    slow = program_end.limit(limits) or judged.limit(limits_of_judge)
    return _verdict(told, tests, judged, slow, time.monotonic() - started)


def run_tests_of_many(rows: Sequence[tuple[str, UnitTests]], limits: Limits | None = None) -> list[Verdict]:
    """`run_tests` of each (code, tests), some at a time; equal rows are run once."""
    different = list(dict.fromkeys(rows))
    with ThreadPoolExecutor(n_at_once()) as pool:
        found = list(pool.map(lambda row: run_tests(row[0], row[1], limits), different))
    by_row = dict(zip(different, found, strict=True))
    return [by_row[row] for row in rows]


def _read(said: int) -> list[list[str | int]]:
    """The judge's lines, whole ones only, until it closes the pipe."""
    text = b""
    while len(text) <= _MOST_SAID and (data := os.read(said, 1 << 16)):
        text += data
    return [json.loads(line) for line in text.split(b"\n")[:-1]]


def _verdict(
    told: list[list[str | int]],
    tests: UnitTests,
    judge: Ended,
    slow: Limit | None,
    seconds: float,
) -> Verdict:
    """What the judge's lines and its end amount to; `slow`: which time was over, the program's before the judge's."""
    n_tests = len(tests.tests)
    n_passed = sum(outcome == "passed" for outcome, *_ in told)
    broken = next((str(why) for outcome, why, _ in told if outcome == "broken"), "")
    n_calls = max((int(n) for *_, n in told), default=0)
    if not broken and n_passed == n_tests and not n_calls:
        broken = "all pass without a call of the program"
    why = broken or next((str(why) for outcome, why, _ in told if outcome != "passed"), "")
    if broken:
        return Verdict("broken", 0, n_tests, why, seconds)
    if len(told) == n_tests == n_passed and judge.status == 0:
        return Verdict("passed", n_passed, n_tests, "", seconds)
    outcome: Outcome = "timed_out" if slow else "failed"
    return Verdict(
        outcome,
        n_passed,
        n_tests,
        why or (f"{slow} time was over" if slow else "the tests ended early"),
        seconds,
    )
