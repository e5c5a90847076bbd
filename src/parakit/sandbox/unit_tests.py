"""Unit tests of a program's functions as a data row gives them: lines of assertions, or a check function in the shape of
HumanEval (Chen et al. 2021).

    ["assert add(2, 3) == 5", ...]
    {"asserts": [...], "setup": "import math"}
    {"check": "def check(candidate): ...", "entry_point": "add", "setup": "the beginning of the program"}

`setup` runs before the tests and before the program: HumanEval's prompt, which a completion continues and whose
helpers the tests use. A test that calls nothing of the program would pass with any program; it is refused.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from parakit.common.errors import UserError
from parakit.common.settings import closest_match

_KEYS = ("asserts", "check", "entry_point", "setup", "cpu_seconds")
_ALWAYS_DEFINED = frozenset(dir(builtins)) | {"__name__", "__file__"}
_HINT = 'write "tests": ["assert add(2, 3) == 5"], or {"check": "def check(candidate): ...", "entry_point": "add"}'


@dataclass(frozen=True)
class UnitTests:
    """`tests` are sources, run one by one; `names` the program's functions that they call, `exceptions` its exceptions
    that they catch, `modules` those of the library that they use without an import.
    """

    tests: tuple[str, ...]
    names: tuple[str, ...]
    setup: str = ""
    cpu_seconds: int = 2
    exceptions: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


def parse_tests(value: object, where: str) -> UnitTests:
    """Tests from a row's `tests`; `UserError` that begins with `where` for invalid ones."""
    if isinstance(value, list):
        value = {"asserts": value}
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: tests are {type(value).__name__}, not a list or an object", _HINT)
    for key in value:
        if key not in _KEYS:
            near = closest_match(str(key), _KEYS)
            raise UserError(f"{where}: unknown key {key!r}", f"did you mean {near!r}?" if near else _HINT)
    if ("asserts" in value) == ("check" in value):
        raise UserError(f"{where}: give one of 'asserts' and 'check'", _HINT)
    setup, seconds = value.get("setup", ""), value.get("cpu_seconds", 2)
    if type(seconds) is not int or not 1 <= seconds <= 60:
        raise UserError(f"{where}: cpu_seconds = {seconds!r}", "a whole number of seconds, 1 to 60")
    defined = _defined_names(_parse(setup, f"{where}: setup"))
    if "check" in value:
        tests, names, trees = _parse_check(value, defined, where)
    else:
        tests, names, trees = _parse_asserts(value, defined, where)
    modules = set().union(*map(_library_names, trees)) - defined - set(names)
    caught = set().union(*map(_caught_names, trees)) & set(names)
    called = tuple(name for name in names if name not in caught)
    return UnitTests(tests, called, setup, seconds, tuple(sorted(caught)), tuple(sorted(modules)))


def _parse_check(
    value: Mapping[str, Any], defined: set[str], where: str
) -> tuple[tuple[str, ...], tuple[str, ...], list[ast.Module]]:
    name = value.get("entry_point")
    if not isinstance(name, str) or not name.isidentifier():
        raise UserError(f"{where}: entry_point is {name!r}", "name the function that check tests")
    tree = _parse(value["check"], f"{where}: check")
    own = _defined_names(tree)
    if "check" not in own:
        raise UserError(f"{where}: check defines no function of that name", _HINT)
    unknown = sorted(_names(tree) - own - defined - {name} - _ALWAYS_DEFINED - _library_names(tree))
    if unknown and "*" not in own | defined:
        raise UserError(f"{where}: check uses {unknown[0]!r}, which is not defined", "define it in 'setup'")
    return (f"{value['check']}\ncheck({name})\n",), (name,), [tree]


def _parse_asserts(
    value: Mapping[str, Any], defined: set[str], where: str
) -> tuple[tuple[str, ...], tuple[str, ...], list[ast.Module]]:
    tests = value["asserts"]
    if not isinstance(tests, list) or not tests:
        raise UserError(f"{where}: asserts are {tests!r:.60}, not a list of tests", _HINT)
    trees = [_parse(test, f"{where}: test {number}") for number, test in enumerate(tests, 1)]
    entry_point = value.get("entry_point")
    known = defined.union(*map(_defined_names, trees)) | _ALWAYS_DEFINED
    names: set[str] = set()
    for number, tree in enumerate(trees, 1):
        called = _names(tree) & {entry_point} if entry_point else _names(tree) - known - _library_names(tree)
        if not called:
            raise UserError(
                f"{where}: test {number} calls nothing of the program, so it tests nothing: {tests[number - 1]!r:.80}",
                "remove it, or name the function in 'entry_point'; imports and helpers belong in 'setup'",
            )
        names |= called
    return tuple(tests), tuple(sorted(names)), trees


def _parse(source: object, where: str) -> ast.Module:
    if not isinstance(source, str):
        raise UserError(f"{where} is {type(source).__name__}, not Python source", _HINT)
    try:
        return ast.parse(source.removeprefix("\ufeff"))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{where} is not valid Python: {error}", "correct it") from None


def _names(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _library_names(tree: ast.AST) -> set[str]:
    """Modules of the library that a source uses, as in `sys.maxsize`, and nothing but that."""
    inside = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    found = {node.id for node in names if id(node) in inside and node.id in sys.stdlib_module_names}
    return found - {node.id for node in names if id(node) not in inside} - _defined_names(tree)


def _caught_names(tree: ast.AST) -> set[str]:
    """Names in `except`."""
    caught = [node.type for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.type]
    return set().union(*map(_names, caught))


def _defined_names(tree: ast.AST) -> set[str]:
    """Every name that a source binds, in any scope."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            found.add(node.name)
    return found
