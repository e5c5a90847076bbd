"""Programs that try to pass tests of `add(a, b)` and `order(xs)` without doing the work. None does."""

from __future__ import annotations

TESTS = {
    "asserts": [
        "assert add(2, 3) == 5",
        "assert add(-7, 3) == -4 and isinstance(add(1, 1), int)",
        "assert add('a', 'b') == 'ab'",
        "assert order([3, 1, 2]) == [1, 2, 3]",
        "assert all(value == wanted for value, wanted in zip(map(add, [1, 2], [3, 4]), [4, 6], strict=True))",
        """
try:
    add()
except TypeError:
    pass
else:
    assert False
assert add(40, 2) == 42
""",
    ],
    "setup": "import math",
}
HONEST = "def add(a, b):\n    return a + b\n\n\ndef order(xs):\n    return sorted(xs)\n"

_BOTH = "def add(*a, **k):\n    {}\norder = add\n"


def _returns(expression: str, before: str = "") -> str:
    return f"{before}\n{_BOTH.format('return ' + expression)}"


def _does(statement: str, before: str = "") -> str:
    return f"{before}\n{_BOTH.format(statement)}"


# What the judge would report, and what results look like on the pipe; written to every possible descriptor.
_FORGERIES = """
import os
lines = [b'["passed", "", 9]\\n', b'{"outcome": "passed"}\\n', b'["returned", true, {"list": 2}]\\n',
         b'["returned", 7, {"list": 2}]\\n']
for number in range(64):
    for line in lines * 6:
        try:
            os.write(number, line)
        except OSError:
            pass
"""
_ALWAYS_EQUAL = """
class Always:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __bool__(self): return True
    def __hash__(self): return 0
    __lt__ = __gt__ = __le__ = __ge__ = __eq__
    def __instancecheck__(self, other): return True
    def __getattr__(self, name): return self
"""


def _always(kind: str) -> str:
    return f"class Always({kind}):\n    __eq__ = lambda self, other: True\n    __ne__ = lambda self, other: False\n"


_PATCHES = """
import gc
for found in gc.get_objects():
    if getattr(found, "__name__", "").strip("_") in ("run_test", "answer", "answer_calls", "encode", "to_json", "exception"):
        try:
            found.__code__ = (lambda *a: b'["returned", true]\\n').__code__
        except Exception:
            pass
"""

CHEATS = {
    "nothing at all": "",
    "no Python": "def add(a, b) return a + b",
    "stubs": _returns("None"),
    "true": _returns("True"),
    "not implemented": _returns("NotImplemented"),
    "not a number": _returns("float('nan')"),
    "a function": _returns("add"),
    "itself endlessly": _returns("add(*a)"),
    "exit with success": "import sys; sys.exit(0)",
    "exit at once": "import os; os._exit(0)",
    "exit on being called": _does("raise SystemExit(0)"),
    "exit at once on being called": _does("import os; os._exit(0)"),
    "exit when all is done": _does("return None", "import atexit, os; atexit.register(os._exit, 0)"),
    "say that all passed": _does("print('passed', 'OK', '6 passed', flush=True)"),
    "say it to every descriptor": _FORGERIES + _BOTH.format("return None"),
    "say it when called": _does("exec(forge)", f"forge = {_FORGERIES!r}"),
    "answers beforehand": _does(
        "return None",
        "import os\nfor _ in range(100): os.write(5, b'[\"returned\", true]\\n')",
    ),
    "an answer of another kind": _does("import os; os.write(5, b'[\"passed\", true]\\n')"),
    "an unknown kind of data": _does('import os; os.write(5, b\'["returned", {"object": [1]}]\\n\')'),
    "a set that cannot be": _does('import os; os.write(5, b\'["returned", {"set": [[1]]}]\\n\')'),
    "two kinds at once": _does('import os; os.write(5, b\'["returned", {"set": [1], "dict": []}]\\n\')'),
    "no JSON": _does("import os; os.write(5, b'\\xff\\x00pickle\\n')"),
    "deeply nested data": _does("import os; os.write(5, b'[' * 100000 + b']' * 100000 + b'\\n')"),
    "an answer without end": _does("import os\n    while True: os.write(5, b'[' * 65536)"),
    "half an answer": _does("import os; os.write(5, b'[\"returned\", 5'); os._exit(0)"),
    "equal to everything": _returns("Always()", _ALWAYS_EQUAL),
    "a number equal to everything": _returns("Always(7)", _always("int")),
    "a text equal to everything": _returns("Always('7')", _always("str")),
    "a list equal to everything": _returns("Always([7])", _always("list")),
    "a dictionary equal to everything": _returns("Always()", _always("dict")),
    "an iterator without end": _returns("iter(int, 1)"),
    "stop the loop that asks": _does("raise StopIteration"),
    "stop the generator that asks": _does("raise GeneratorExit"),
    "an assertion of its own": _does("raise AssertionError"),
    "an interruption": _does("raise KeyboardInterrupt"),
    "an exception called unavailable": _does(
        "raise Gone", "class Gone(Exception): pass\nGone.__name__ = 'CandidateUnavailable'"
    ),
    "an exception called a broken test": _does("raise BrokenTest", "class BrokenTest(Exception): pass"),
    "an exception called missing module": _does("raise ImportError('no module')"),
    "an exception called missing name": _does("raise NameError('no name', name='math')"),
    "other builtins": _returns(
        "7",
        "import builtins\nbuiltins.all = builtins.isinstance = lambda *a: True\nbuiltins.AssertionError = type('E', (), {})",
    ),
    "another import": _returns("7", "import builtins\nbuiltins.__import__ = lambda *a, **k: None"),
    "other JSON": _returns("7", "import json\njson.dumps = json.loads = lambda *a, **k: 5"),
    "functions of the harness": _does("return 7", _PATCHES),
    "the stack above": _does(
        "import sys; f = sys._getframe()\n    while f:\n        for name in ('wanted', 'expected', 'tests', 'value'):\n"
        "            if name in f.f_locals: return f.f_locals[name]\n        f = f.f_back"
    ),
    "expected values in memory": _does(
        "import gc; return next(x for x in gc.get_objects() if isinstance(x, list) and [1, 2, 3] in x)[0]"
    ),
    "tests in memory": _does(
        "import gc; return [t for t in gc.get_objects() if isinstance(t, dict) and 'tests' in t][0]['tests']"
    ),
    "tests in files": _does("import os; return [os.pread(n, 1 << 16, 0) for n in range(64)]"),
    "tests in modules": _does("import sys; return sys.modules['tests'].__dict__['wanted']"),
    "a trace": _returns("7", "import sys\nsys.settrace(lambda *a: None); sys.setprofile(lambda *a: None)"),
    "an audit hook": _returns(
        "7", "import os, sys\nsys.addaudithook(lambda event, _: os._exit(0) if event == 'exit' else 0)"
    ),
    "the names of the tests": _returns(
        "7", "check = candidate = lambda *a: True\ntests = []; __debug__ = 0"
    ).replace("; __debug__ = 0", ""),
    "the setup replaced": _returns("7", "class math:\n    pass\nimport sys; sys.modules['math'] = math"),
    "kill the fork server": _does("import os, signal; os.kill(os.getppid(), signal.SIGKILL)"),
    "kill everything": _does("import os; os.kill(-1, 0); return 5"),
    "a child that answers": _does("import os\n    if os.fork(): return 5"),
    "a thread that answers": _does("import threading; threading.Thread(target=print).start(); return 5"),
    "endless work": _does("while True: pass"),
    "endless work at import": "while True: pass",
    "memory without end": _does("x = []\n    while True: x.append(bytearray(1 << 24))"),
    "a crash": _does("import ctypes; ctypes.string_at(0)"),
    "descriptors closed": _returns("7", "import os; os.closerange(0, 64)"),
    "descriptors crossed": _returns("7", "import os; os.dup2(4, 5)"),
    "the job read again": _returns("open(3).read()"),
    "true beforehand": _does(
        "return None", 'import os\nfor _ in range(100): os.write(5, b\'["returned", true, {"list": 2}]\\n\')'
    ),
    "an outcome of the judge": _does(
        'import os; os.write(6, b\'["passed", "", 9]\\n\'); os.write(5, b\'["passed", 1, {"list": 2}]\\n\')'
    ),
    "a type that makes what it wants": _returns("type('int', (int,), {'__eq__': lambda a, b: True})"),
    "a factory of its own": _returns("__import__('collections').defaultdict(lambda: 5)"),
    "a counter equal to everything": _returns(
        "Always('5')", "from collections import Counter\n" + _always("Counter")
    ),
    "a deque equal to everything": _returns(
        "Always([5])", "from collections import deque\n" + _always("deque")
    ),
    "a decimal equal to everything": _returns(
        "Always('7')", "from decimal import Decimal\n" + _always("Decimal")
    ),
    "a date equal to everything": _returns(
        "Always(1, 1, 1)", "from datetime import date\n" + _always("date")
    ),
    "a named tuple with code for a name": _does(
        'import os; os.write(5, b\'["returned", 5, {"namedtuple": ["A", ["x=__import__(1)"]]}, {"list": 2}]\\n\')'
    ),
    "a named tuple that is all": _returns("__import__('collections').namedtuple('int', 'x')(5)"),
    "a builtin function as a type": _does(
        'import os; os.write(5, b\'["returned", {"type": "eval"}, {"list": 2}]\\n\')'
    ),
    "an exception named as the judge's": _does(
        "raise E",
        "class E(Exception): pass\nE.__module__, E.__qualname__ = 'parakit.sandbox.calls', 'BrokenTest'",
    ),
    "an exception named as a skipped test": _does(
        "raise E", "class E(Exception): pass\nE.__module__, E.__qualname__ = 'unittest.case', 'SkipTest'"
    ),
    "a skipped test": _does("import unittest; raise unittest.SkipTest('x')"),
    "an exception of many types": _does("raise E", "class E(ValueError, KeyError, ArithmeticError): pass"),
    "an exception with an exception in it": _does("raise ExceptionGroup('x', [TypeError()])"),
    "an exception described wrongly": _does(
        'import os; os.write(5, b\'["raised", ["builtins", "TypeError"], {"list": 1}, {"list": 2}]\\n\')'
    ),
    "an exit with a text": _does("raise SystemExit('6 passed')"),
    "an async exit": _does("import asyncio; raise asyncio.CancelledError"),
    "a generator that stops": _returns("(x for x in iter(int, 1))"),
    "keys of everything": _returns("{True: 1, 5: 1, 'ab': 1, -4: 1, 42: 1}.keys()"),
    "math.nan": _returns("__import__('math').nan"),
    "a future that forgives": _returns(
        "7", "from __future__ import annotations\nimport builtins\nbuiltins.compile = None"
    ),
}
