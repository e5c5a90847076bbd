"""Right programs pass, whatever stands before them and whatever they return or raise: a wrong 0 is a wrong reward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from parakit.sandbox import UnitTests, parse_tests, run_tests, run_tests_of_many

pytestmark = pytest.mark.usefixtures("isolation")

PROMPT = 'from typing import List\n\n\ndef first(xs: List[int]) -> int:\n    """The first."""\n'
CHECK = {
    "check": "def check(candidate):\n    assert candidate([3, 1]) == 3\n",
    "entry_point": "first",
    "setup": PROMPT,
}
BODY = "    return xs[0]\n"
_DATACLASS = "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\nA(1)\n"
FRONTS = {
    "nothing": "",
    "a future line": "from __future__ import annotations\n",
    "a docstring": '"""A module."""\n',
    "a docstring and a future line": '"""A module."""\nfrom __future__ import annotations\n',
    "an encoding line": "# -*- coding: utf-8 -*-\n",
    "another encoding": "# -*- coding: latin-1 -*-\n",
    "an encoding that nobody knows": "# coding: martian\n",
    "a shebang": "#!/usr/bin/env python3\n",
    "a shebang, an encoding, a docstring and a future line": (
        "#!/usr/bin/env python3\n# coding: cp1252\n'''é'''\nfrom __future__ import annotations, division\n"
    ),
    "a byte order mark": "\ufeff",
    "a byte order mark and a future line": "\ufefffrom __future__ import annotations\n",
    "a form feed": "\f\n",
    "blank lines": "\n\n  \n",
    "a main part": "if __name__ == '__main__':\n    raise SystemExit('only as a program')\n",
    "annotations of what is not there": (
        "from __future__ import annotations\ndef other(x: Missing) -> Absent: ...\n"
    ),
    "a dataclass": "from __future__ import annotations\n" + _DATACLASS,
}
ENDS = {"unix": "\n", "windows": "\r\n", "old mac": "\r"}


def variants(program: str) -> Iterator[tuple[str, str]]:
    """A whole program with every front and every kind of line end."""
    for front, text in FRONTS.items():
        for name, end in ENDS.items():
            yield f"{front}, {name}", (text + program).replace("\n", end)


def failures(programs: dict[str, str], tests: UnitTests) -> dict[str, str]:
    results = run_tests_of_many([(code, tests) for code in programs.values()])
    return {name: r.reason for name, r in zip(programs, results, strict=True) if r.outcome != "passed"}


def test_what_stands_in_front_changes_nothing() -> None:
    tests = parse_tests(CHECK, "here")
    assert failures(dict(variants(PROMPT + BODY)), tests) == {}
    continued = {name: BODY.replace("\n", end) for name, end in ENDS.items()} | {
        "a comment": "# mine\n" + BODY,
        "a byte order mark": "\ufeff" + BODY,
        "its own docstring": '    """Mine."""\n' + BODY,
    }
    assert failures(continued, tests) == {}


def test_the_setup_s_future_lines_hold_for_the_program_and_the_tests() -> None:
    setup = "\ufefffrom __future__ import annotations\n"
    source = {"asserts": ["def t(x: Nothing): ...\nassert f() == 'X'"], "setup": setup, "entry_point": "f"}
    tests = parse_tests(source, "here")
    for body in ("return f.__annotations__['x']", "return 'X'"):
        result = run_tests(f"def f(x: X = 1) -> X:\n    {body}", tests)
        assert (result.outcome, result.reason) == ("passed", "")
    plain = parse_tests({"asserts": source["asserts"], "entry_point": "f"}, "here")
    assert "NameError" in run_tests("def f(): return 'X'", plain).reason, "no setup, no future line"


PASSES: dict[str, tuple[str, str]] = {
    "5,000 digits": ("f() == 10**5000", "return 10**5000"),
    "5,000 digits passed": ("f(10**5000) == -(10**5000)", "return -a[0]"),
    "200 deep": ("depth(f(200)) == 200", "x = []\n    for _ in range(200): x = [x]\n    return x"),
    "a deep argument": ("depth(f(nested)) == 300", "return [a[0]]"),
    "not a number": ("f() == [math.nan]", "import math; return [math.nan]"),
    "another not a number": ("f() != f()", "return float('nan')"),
    "a set": ("f() == {1, (2, 3)}", "return {(2, 3), 1}"),
    "a counter": ("f()['z'] == 0", "import collections; return collections.Counter('ab')"),
    "a default": ("f()['new'] == []", "import collections; return collections.defaultdict(list)"),
    "a deque": ("f()[0] == 1", "import collections; return collections.deque([1])"),
    "a named tuple": (
        "f().x == 1 and f() == (1, 2)",
        "import collections; return collections.namedtuple('P', 'x y')(1, 2)",
    ),
    "a decimal": ("str(f()) == '1.10'", "import decimal; return decimal.Decimal('1.10')"),
    "a fraction": ("f() * 3 == 1", "import fractions; return fractions.Fraction(1, 3)"),
    "a date": ("f().year == 2024", "import datetime; return datetime.date(2024, 1, 1)"),
    "keys": ("f() == {1, 2}", "return {1: 0, 2: 0}.keys()"),
    "items": ("sorted(f()) == [(1, 0)]", "return {1: 0}.items()"),
    "a type": ("f() is int and f(str)", "return int"),
    "an integer of its own type": ("f() == 3", "class Own(int): pass\n    return Own(3)"),
    "an enumeration": ("f() == 2", "import enum\n    class E(enum.IntEnum): A = 2\n    return E.A"),
    "text that UTF-8 cannot write": ("f() == chr(0xd800)", "return chr(0xd800)"),
    "the library": ("f() < sys.maxsize and math.floor(1.5) == 1", "return 1"),
}
_SETUP = """
def depth(x):
    n = 0
    while x: x, n = x[0], n + 1
    return n
nested = []
for _ in range(299): nested = [nested]
"""


@pytest.mark.parametrize("name", PASSES)
def test_results_arrive(name: str) -> None:
    test, body = PASSES[name]
    tests = parse_tests({"asserts": [f"assert {test}"], "setup": _SETUP, "entry_point": "f"}, "here")
    result = run_tests(f"def f(*a):\n    {body}", tests)
    assert (result.outcome, result.reason) == ("passed", "")


RAISES: dict[str, tuple[str, str]] = {
    "a decoding error": ("UnicodeDecodeError", "b'\\xff'.decode()"),
    "an encoding error": ("UnicodeEncodeError", "'é'.encode('ascii')"),
    "an operating system's error": ("FileNotFoundError", "open('/nothing')"),
    "one of JSON": ("json.JSONDecodeError", "import json; json.loads('{')"),
    "one of JSON as what it is": ("ValueError", "import json; json.loads('{')"),
    "one of decimal": ("decimal.InvalidOperation", "import decimal; decimal.Decimal('x')"),
    "one of statistics": ("statistics.StatisticsError", "import statistics; statistics.mean([])"),
    "its own, of a built-in": ("ValueError", "class Own(ValueError): pass\n    raise Own('x', 2)"),
    "its own, of an error with arguments": (
        "UnicodeDecodeError",
        "class Own(UnicodeDecodeError): pass\n    raise Own('utf-8', b'', 0, 1, 'x')",
    ),
    "its own": ("Exception", "class Own(Exception): pass\n    raise Own"),
    "its own, that cannot be printed": (
        "ValueError",
        "class Own(ValueError):\n        def __str__(self): raise KeyError\n"
        "        __repr__ = __reduce__ = __str__\n    raise Own",
    ),
    "one that pickles wrongly": (
        "TypeError",
        "class Own(TypeError):\n        def __init__(self, a, b): super().__init__(a)\n    raise Own(1, 2)",
    ),
    "an exit": ("SystemExit", "import sys; sys.exit(3)"),
    "an overflow": ("OverflowError", "2.0 ** 100000"),
    "depth": ("RecursionError", "return f()"),
    "an assertion": ("AssertionError", "assert 0"),
    "a key": ("KeyError", "{}['x']"),
}


def caught(kind: str, more: str = "") -> dict[str, Any]:
    test = f"try:\n    f()\nexcept {kind} as error:\n    pass{more}\nelse:\n    assert False\n"
    return {"asserts": [test], "setup": "import json, decimal, statistics", "entry_point": "f"}


@pytest.mark.parametrize("name", RAISES)
def test_expected_exceptions_arrive(name: str) -> None:
    kind, body = RAISES[name]
    result = run_tests(f"def f(*a):\n    {body}", parse_tests(caught(kind), "here"))
    assert (result.outcome, result.reason) == ("passed", "")
    other = run_tests(f"def f(*a):\n    {body}", parse_tests(caught("ZeroDivisionError"), "here"))
    assert other.outcome == "failed", "and no other"


def test_what_an_exception_says_arrives() -> None:
    code = "def f():\n    b'ab\\xff'.decode()"
    more = "\n    assert (error.start, error.object) == (2, b'ab\\xff')"
    assert run_tests(code, parse_tests(caught("UnicodeDecodeError", more), "here")).outcome == "passed"
    more = "\n    assert str(error) == repr('x') and error.args == ('x',)"
    assert (
        run_tests("def f(): return {}['x']", parse_tests(caught("KeyError", more), "here")).outcome
        == "passed"
    )


def test_exceptions_of_the_program_can_be_named() -> None:
    test = (
        "try:\n    f(1)\nexcept TooSmall as error:\n    assert 'one' in str(error)\nelse:\n    assert False"
    )
    tests = parse_tests([test], "here")
    assert (tests.names, tests.exceptions) == (("f",), ("TooSmall",))
    own = "class TooSmall({}): pass\n"
    for base in ("Exception", "ValueError"):
        result = run_tests(own.format(base) + "def f(x): raise TooSmall('one')", tests)
        assert (result.outcome, result.reason) == ("passed", "")
    for body in ("raise ValueError('one')", "raise type('Other', (Exception,), {})('one')", "return 1"):
        assert run_tests(own.format("Exception") + f"def f(x): {body}", tests).outcome == "failed"


def test_modules_of_the_library_are_no_functions_of_the_program() -> None:
    tests = parse_tests(["assert math.isclose(f(2), math.sqrt(4)) and sys.maxsize"], "here")
    assert (tests.names, tests.modules) == (("f",), ("math", "sys"))
    assert run_tests("def f(x): return x * x / 2", tests).outcome == "passed"
    mine = parse_tests(["assert queue(2) == 3"], "here")
    assert (mine.names, mine.modules) == (("queue",), ())
