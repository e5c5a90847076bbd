"""HumanEval's and MBPP's published solutions in Parakit's sandbox, and for each of HumanEval's problems a wrong program.

A benchmark of generated code is worth what its grading is: a right program must pass, a wrong one must not.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.harness import DATA
from benchmarks.quality.measures.program_mutants import changed_program
from benchmarks.registry import NO_TARGET, Figures, benchmark


@benchmark("generated_code", {
    "humaneval.solutions_passed": ("== 164", "HumanEval: of 164 published solutions pass their tests"),
    "humaneval.wrong_programs_failed": ("== 164", "HumanEval: of 164 programs with one operator or constant changed fail"),
    "mbpp.solutions_passed": ("== 499", "MBPP: of the 499 published solutions whose tests pass plain data pass"),
    "humaneval.seconds": (NO_TARGET, "seconds for the 164 solutions"),
})  # fmt: skip
def generated_code(*, data: Path = DATA) -> Figures:
    """`data` holds the folders humaneval and mbpp."""
    from parakit.evaluation.measures.code import MBPP_TEST, humaneval_problem, mbpp_problem
    from parakit.evaluation.measures.rows import read_rows
    from parakit.sandbox import run_tests_of_many

    rows = read_rows(data / "humaneval" / "HumanEval.jsonl.gz")
    problems = [humaneval_problem(row) for row in rows]
    started = time.perf_counter()
    right = run_tests_of_many([(one.solution, one.tests) for one in problems])
    seconds = time.perf_counter() - started
    programs = [changed_program(row) for row in rows]
    wrong = run_tests_of_many(
        [(text, one.tests) for text, one in zip(programs, problems, strict=True) if text is not None]
    )
    tasks = [row for row in read_rows(data / "mbpp" / "mbpp.jsonl.gz") if row["task_id"] in MBPP_TEST]
    short = [problem for row in tasks if (problem := mbpp_problem(row)) is not None]
    solved = run_tests_of_many([(one.solution, one.tests) for one in short])
    return {
        "humaneval": {
            "problems": len(problems),
            "solutions_passed": sum(result.outcome == "passed" for result in right),
            "wrong_programs_failed": sum(result.outcome != "passed" for result in wrong),
            "seconds": seconds,
        },
        "mbpp": {"problems": len(short), "solutions_passed": sum(r.outcome == "passed" for r in solved)},
    }
