"""Running programs that nobody vouches for, behind walls that the kernel holds: a program with its output and limits,
and a program's functions against unit tests whose verdict it cannot reach. See docs/sandbox.md.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Limits": "limits",
        "Run": "running",
        "SandboxError": "pool",
        "UnitTests": "unit_tests",
        "Verdict": "grading",
        "parse_tests": "unit_tests",
        "run_many": "running",
        "run_python": "running",
        "run_tests": "grading",
        "run_tests_of_many": "grading",
        "sandbox_status": "pool",
    },
)

__all__ = [
    "Limits",
    "Run",
    "SandboxError",
    "UnitTests",
    "Verdict",
    "parse_tests",
    "run_many",
    "run_python",
    "run_tests",
    "run_tests_of_many",
    "sandbox_status",
]
