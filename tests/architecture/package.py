"""Reads the package: where its folders are, and its Python files as syntax trees.

Every rule of this folder is a function from a folder of packages to a list of violations, each a line that
names file, line and way out. So a rule can be run on `src/parakit`, and on a planted violation in a
temporary folder: each rule is shown to fail.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "parakit"
IGNORED_FOLDERS = {".venv", ".git", ".peers", "builds", "runs", "dist", "build", "__pycache__"}


@functools.cache
def _parse(path: Path, modified: int) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def tree(path: Path) -> ast.Module:
    """The syntax tree of a Python file (parsed once)."""
    return _parse(path, path.stat().st_mtime_ns)


@functools.cache
def nodes(module: ast.Module) -> tuple[ast.AST, ...]:
    """All nodes of a syntax tree (walked once)."""
    return tuple(ast.walk(module))


def python_files(folder: Path) -> list[Path]:
    """Every Python file of the project below `folder`, sorted."""
    return sorted(p for p in folder.rglob("*.py") if not IGNORED_FOLDERS & set(p.relative_to(folder).parts))


def package_of(path: Path, src: Path) -> str:
    """The package a file belongs to; "" for the files that are at its top."""
    parts = path.relative_to(src).parts
    return parts[0] if len(parts) > 1 else ""


def at(path: Path, node: ast.AST | int, src: Path) -> str:
    """`package/file.py:12`, for the head of a violation."""
    line = node if isinstance(node, int) else getattr(node, "lineno", 1)
    return f"{path.relative_to(src).as_posix()}:{line}"


def functions(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a file, nested ones included."""
    for node in nodes(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[ast.arg]:
    """All parameters of a function, in order."""
    arguments = function.args
    extra = [a for a in (arguments.vararg, arguments.kwarg) if a]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *extra]


def docstring_lines(module: ast.Module) -> set[int]:
    """Line numbers that docstrings cover."""
    lines: set[int] = set()
    for node in nodes(module):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            lines |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return lines


def is_type_checking(node: ast.AST) -> bool:
    """True for `if TYPE_CHECKING:`."""
    if not isinstance(node, ast.If):
        return False
    return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
