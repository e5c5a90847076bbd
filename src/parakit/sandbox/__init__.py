"""Running untrusted programs under isolation that the kernel enforces: a program with its output and limits, and a
program's functions against unit tests whose result it cannot reach. See docs/sandbox.md.
"""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Limits": "limits",
        "SandboxError": "fork_server",
        "UnitTests": "unit_tests",
        "UnitTestResult": "grading",
        "parse_tests": "unit_tests",
        "run_many": "pool",
        "run_python": "pool",
        "run_tests": "grading",
        "run_tests_of_many": "grading",
        "sandbox_status": "pool",
    },
)

__all__ = [
    "Limits",
    "SandboxError",
    "UnitTestResult",
    "UnitTests",
    "parse_tests",
    "run_many",
    "run_python",
    "run_tests",
    "run_tests_of_many",
    "sandbox_status",
]
