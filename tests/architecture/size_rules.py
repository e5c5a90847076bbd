"""Packages are small: lines of a file, lines of a function, files of a folder, and names that say nothing."""

from __future__ import annotations

import ast
from pathlib import Path

from package import at, functions, nodes, python_files, tree

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_FOLDER_FILES = 20
CATALOGUES = {"architectures", "attacks", "cli", "checks"}  # one file a thing: as many as there are things
FORBIDDEN_STEMS = {
    *("utils", "util", "helpers", "helper", "base", "misc", "manager", "managers", "handler", "handlers"),
    *("common_utils", "stuff", "tools_misc"),
}
FORBIDDEN_TAILS = ("_utils", "_util", "_helpers", "_helper", "_misc", "_manager", "_handler")


def long_files(src: Path) -> list[str]:
    """Files of more than 400 lines."""
    counted = ((path, len(path.read_text(encoding="utf-8").splitlines())) for path in python_files(src))
    return [
        f"{at(p, n, src)}: {n} lines, {MAX_FILE_LINES} at most: split it"
        for p, n in counted
        if n > MAX_FILE_LINES
    ]


def long_functions(src: Path) -> list[str]:
    """Functions of more than 60 lines, signature and docstring included."""
    violations = []
    for path in python_files(src):
        for function in functions(tree(path)):
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                where = at(path, function, src)
                violations.append(f"{where}: {function.name} has {lines} lines, {MAX_FUNCTION_LINES} at most")
    return violations


def full_folders(src: Path) -> list[str]:
    """Folders with more than 20 Python files of their own."""
    counts: dict[Path, int] = {}
    for path in python_files(src):
        counts[path.parent] = counts.get(path.parent, 0) + 1
    return [
        f"{folder.relative_to(src).as_posix()}/: {n} files, {MAX_FOLDER_FILES} at most"
        for folder, n in sorted(counts.items())
        if n > MAX_FOLDER_FILES and folder.name not in CATALOGUES
    ]


def empty_names(src: Path) -> list[str]:
    """Files and folders whose name says nothing about what is inside."""
    violations = []
    for path in python_files(src):
        for part in path.relative_to(src).with_suffix("").parts:
            name = part.removeprefix("test_").strip("_")
            if name in FORBIDDEN_STEMS or name.endswith(FORBIDDEN_TAILS):
                violations.append(f"{at(path, 1, src)}: {part!r} says nothing: name it after what it does")
    return violations


def unfinished_code(src: Path) -> list[str]:
    """Notes to oneself and functions that only raise NotImplementedError."""
    violations = []
    notes = ("TO" + "DO", "FIX" + "ME", "XX" + "X")
    for path in python_files(src):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            violations += [
                f"{at(path, number, src)}: unfinished: {note}" for note in notes if f"# {note}" in line
            ]
        for node in nodes(tree(path)):
            if (
                isinstance(node, ast.Raise)
                and node.exc is not None
                and "NotImplementedError" in ast.unparse(node.exc)
            ):
                violations.append(f"{at(path, node, src)}: unfinished: NotImplementedError")
    return violations
