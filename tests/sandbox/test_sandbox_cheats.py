"""Fifty and more programs that cheat: none earns anything, and none makes the tests look broken."""

from __future__ import annotations

import pytest

from parakit.sandbox import UnitTestResult, UnitTests, parse_tests, run_tests, run_tests_of_many
from tests.sandbox.cheats import CHEATS, HONEST, TESTS

pytestmark = pytest.mark.usefixtures("isolation")


@pytest.fixture(scope="module")
def tests() -> UnitTests:
    return parse_tests({**TESTS, "cpu_seconds": 1}, "here")


def test_there_are_fifty() -> None:
    assert len(CHEATS) >= 50


def test_what_does_the_work_passes(tests: UnitTests) -> None:
    result = run_tests(HONEST, tests)
    assert (result.outcome, result.n_passed, result.reason) == ("passed", 6, "")


def test_no_cheat_passes_a_single_test(tests: UnitTests) -> None:
    results = run_tests_of_many([(code, tests) for code in CHEATS.values()])
    earned = {name: result for name, result in zip(CHEATS, results, strict=True) if result.n_passed}
    assert not earned
    outcomes = dict(zip(CHEATS, (result.outcome for result in results), strict=True))
    assert set(outcomes.values()) == {"failed", "timed_out"}
    for name in ("endless work", "endless work at import"):
        assert outcomes[name] == "timed_out"
    assert run_tests(HONEST, tests).outcome == "passed", "the fork servers keep running"


CHECK = {
    "check": """
def check(candidate):
    import random
    for _ in range(20):
        a, b = random.randint(0, 99), random.randint(0, 99)
        assert candidate(a, b) == a + b
""",
    "entry_point": "add",
    "cpu_seconds": 1,
}


def test_no_cheat_passes_a_check_function() -> None:
    tests = parse_tests(CHECK, "here")
    quick = {
        name: code for name, code in CHEATS.items() if "endless" not in name and "without end" not in name
    }
    results = run_tests_of_many([(code, tests) for code in quick.values()])
    assert {name for name, result in zip(quick, results, strict=True) if result.fraction_passed} == set()
    assert run_tests(HONEST, tests).outcome == "passed"


def run(code: str, tests: object) -> UnitTestResult:
    return run_tests(code, parse_tests(tests, "here"))


def test_a_share_counts_each_test() -> None:
    result = run("def f(x): return x if x < 3 else 1 / 0", [f"assert f({i}) == {i}" for i in range(5)])
    assert (result.outcome, result.n_passed, result.fraction_passed) == ("failed", 3, 0.6)
    assert result.reason == "ZeroDivisionError: division by zero"


def test_tests_before_one_without_end_count() -> None:
    code = "def f(x):\n    while x > 1: pass\n    return x"
    result = run(code, {"asserts": [f"assert f({i}) == {i}" for i in range(4)], "cpu_seconds": 1})
    assert (result.outcome, result.n_passed) == ("timed_out", 2)


def test_exceptions_arrive_as_what_they_are() -> None:
    tests = [
        "try:\n    f('v')\nexcept ValueError as e:\n    assert str(e) == 'bad v'\nelse:\n    assert 0",
        "try:\n    f('k')\nexcept KeyError:\n    pass\nelse:\n    assert 0",
        "try:\n    f('own')\nexcept Exception as e:\n    assert 'Own: mine' in str(e)\nelse:\n    assert 0",
    ]
    code = """
class Own(Exception): pass
def f(what):
    raise {'v': ValueError('bad v'), 'k': KeyError(what), 'own': Own('mine')}[what]
"""
    assert run(code, tests).outcome == "passed"


def test_a_program_that_ends_satisfies_no_test_that_waits_for_an_exception() -> None:
    test = "try:\n    f(1)\nexcept Exception:\n    pass"
    for way in ("import os; os._exit(1)", "raise SystemExit", "return object()"):
        assert run(f"def f(x): {way}", [test]).fraction_passed == 0, way


def test_arguments_are_given_by_value() -> None:
    """A program cannot change what the tests compare with."""
    code = "def smallest(xs):\n    xs.clear()\n    return xs"
    assert run(code, ["xs = [3, 1]\nassert smallest(xs) == sorted(xs)"]).fraction_passed == 0


@pytest.mark.parametrize(
    ("code", "tests", "why"),
    [
        ("def f(x): return 1", ["assert f(lambda: 1) == 1"], "arguments of f: function is not plain data"),
        ("def f(x): return 1", {"asserts": ["import numpy\nassert f(1) == 1"]}, "No module named 'numpy'"),
        ("def f(x): return 1", {"asserts": ["assert f(1) == 1"], "setup": "1 / 0"}, "ZeroDivisionError"),
        ("def f(x): return 1", ["if False: f(1)"], "without a call of the program"),
    ],
)
def test_broken_tests_are_reported_as_broken(code: str, tests: object, why: str) -> None:
    result = run(code, tests)
    assert (result.outcome, result.fraction_passed) == ("broken", 0)
    assert why in result.reason


def test_a_program_cannot_make_tests_look_wrong_through_what_it_returns() -> None:
    """Nested to the limit, or so large that it cannot be passed on; absent, so that a name is unbound."""
    tests = ["assert f(f(1)) == 1", "try:\n    got = f(2)\nexcept Exception:\n    pass\nassert got == 2"]
    for result in ("deep", "[x, 'y' * (3 << 20)]", "10 ** 4000", "1 / 0"):
        code = f"deep = []\nfor _ in range(96): deep = [deep]\ndef f(x): return {result}"
        assert run(code, tests).outcome == "failed"
