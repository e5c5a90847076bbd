"""Tools that come with Parakit: a calculator, the date, files below a folder, Python, and search in documents.

None of them changes anything outside: Python runs in the sandbox, which the caller gives, as is the search.
"""

from __future__ import annotations

import ast
import datetime
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from parakit.assistants.tools.functions import function_tool
from parakit.assistants.tools.tool import AgentTool, ToolError
from parakit.common.errors import UserError

MAX_EXPRESSION = 1000  # characters
MAX_BITS = 10_000  # of a whole number in a calculation
MAX_FILE_CHARS = 20_000  # of one reading
_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs, "round": round, "min": min, "max": max, "sqrt": math.sqrt, "log": math.log, "exp": math.exp,
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "floor": math.floor, "ceil": math.ceil,
}  # fmt: skip
_CONSTANTS = {"pi": math.pi, "e": math.e}


Search = Callable[[str, int], Sequence[tuple[str, str]]]
"""Of a query and a number: so many passages, the best first, each as its place and its text."""


def calculator() -> AgentTool:
    """Numbers, + - * / // % **, parentheses and a few functions; nothing else of Python."""

    def calculate(expression: str) -> str:
        """Compute an arithmetic expression exactly where it is of whole numbers.

        Args:
            expression: such as "3 * (4 + 5)" or "sqrt(2)".
        """
        return evaluate_expression(expression)

    return _built_in(calculate, "calculator")


def evaluate_expression(expression: str) -> str:
    """The value of an arithmetic expression as text; `ToolError` for what is none, or too large."""
    if len(expression) > MAX_EXPRESSION:
        raise ToolError(f"the expression has {len(expression):,} characters; the limit is {MAX_EXPRESSION:,}")
    try:
        value = _value(ast.parse(expression.strip().replace("^", "**"), mode="eval").body)
    except SyntaxError:
        raise ToolError(f"{expression!r:.80} is no arithmetic expression") from None
    except (ArithmeticError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise ToolError(f"{expression!r:.80}: {error}") from None
    if isinstance(value, float):
        return f"{value:.12g}"
    return str(value)


def _value(node: ast.AST) -> Any:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _bounded(_BINARY[type(op)], _value(left), _value(right))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*map(_value, args))
    raise ToolError(
        "only numbers, + - * / // % **, parentheses, and " + ", ".join([*_FUNCTIONS, *_CONSTANTS])
    )


def _bounded(operation: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    """The result, where whole numbers cannot become larger than the limit."""
    is_power = operation is operator.pow and isinstance(a, int) and isinstance(b, int)
    if is_power and b > 0 and a.bit_length() * b > MAX_BITS:
        raise ToolError(f"{a} ** {b} is too large")
    value = operation(a, b)
    if isinstance(value, complex):
        raise ToolError("the result is no real number")
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise ToolError("the result is too large")
    return value


def date(now: Callable[[], datetime.datetime] = datetime.datetime.now) -> AgentTool:
    """The day and the time."""

    def date() -> str:
        """The present date, the day of the week and the time."""
        return now().strftime("%Y-%m-%d, %A, %H:%M")

    return _built_in(date, "date")


def read_file(folder: str | Path) -> AgentTool:
    """Files below one folder; nothing outside can be read, by no path and no link. `UserError` where it is missing."""
    root = Path(folder).resolve()
    if not root.is_dir():
        raise UserError(f"read_file={folder}: is no folder", "name one whose files may be read")

    def read_file(path: str, first_line: int = 1) -> str:
        """Read a text file, or list a folder.

        Args:
            path: of the file, relative to the folder that may be read; "." lists it.
            first_line: where to begin, for a long file.
        """
        return _read_below(root, path, max(first_line, 1))

    return _built_in(read_file, "read_file")


def _read_below(root: Path, path: str, first_line: int) -> str:
    try:
        found = (root / path).resolve()
        if not found.is_relative_to(root):
            raise ToolError(f"{path!r:.200} is outside the folder that may be read")
        if found.is_dir():
            names = sorted(f"{one.name}/" if one.is_dir() else one.name for one in found.iterdir())
            return "\n".join(names[:1000]) or "(empty)"
        if not found.is_file():
            raise ToolError(f"there is no file {path!r:.200}")
        with found.open(encoding="utf-8", errors="replace") as file:
            for _ in range(first_line - 1):
                if not file.readline(MAX_FILE_CHARS):
                    raise ToolError(f"{path!r:.200} has fewer than {first_line} lines")
            text = file.read(MAX_FILE_CHARS)
            return text if not file.read(1) else f"{text}\n[the file continues; read on with first_line]"
    except (OSError, ValueError) as error:
        raise ToolError(f"{path!r:.200} cannot be read: {error}") from None


def python(run: Callable[[str], str]) -> AgentTool:
    """Python programs. `run` executes one in a sandbox and returns what it printed, or raises `ToolError`."""

    def python(code: str) -> str:
        """Run a Python program in a sandbox without files and network; what it prints is the result.

        Args:
            code: the program; print what you want to know.
        """
        return run(code) or "(the program printed nothing)"

    return _built_in(python, "python")


def search(find: Search, about: str = "", n_passages: int = 4) -> AgentTool:
    """Search in documents. `about` says in a few words what they are about."""

    def search(query: str) -> str:
        """Search the documents; the best passages with their sources.

        Args:
            query: a question or key words.
        """
        found = find(query, n_passages)
        return "\n\n".join(f"[{place}]\n{text}" for place, text in found) or "nothing was found"

    tool = _built_in(search, "search")
    return replace(
        tool, schema=replace(tool.schema, description=f"{tool.schema.description} {about}".strip())
    )


def _built_in(function: Callable[..., str], name: str) -> AgentTool:
    return replace(function_tool(function, name=name, changes=False), origin="built-in")
