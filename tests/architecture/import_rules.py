"""Who may import whom: the table of the design, held against every import statement, wherever it stands.

Imports inside functions and under TYPE_CHECKING count for the table between packages: a dependency is a
dependency. For foreign packages it matters where the statement stands: torch may be imported inside a
function where it may not be at the top.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from package import ROOT, at, is_type_checking, package_of, python_files, tree

_ORDER = (
    *(
        "common",
        "sandbox",
        "data",
        "primer",
        "tokens",
        "model",
        "checkpoints",
        "inference",
        "training",
        "planning",
    ),
    *(
        "evaluation",
        "inspection",
        "alignment",
        "compression",
        "assistants",
        "reports",
        "stages",
        "recipe",
        "serving",
    ),
)


def _above(package: str, *but: str) -> set[str]:
    """All packages that stand above `package` in the design's order, but some."""
    return set(_ORDER[: _ORDER.index(package)]) - set(but)


_MEASURING = {"common", "sandbox", "data", "primer", "tokens", "model", "checkpoints", "inference"}
_CHANGING = _MEASURING | {"training", "evaluation"}

MAY_IMPORT: dict[str, set[str]] = {
    "": set(_ORDER) | {"cli"},  # __init__.py, the Python API, and __main__.py
    "common": set(),
    "sandbox": {"common"},
    "data": {"common"},
    "primer": {"common", "data"},
    "tokens": {"common", "data"},
    "model": {"common"},
    "checkpoints": {"common", "tokens", "model"},
    "inference": {"common", "data", "tokens", "model", "checkpoints"},
    "training": {"common", "data", "tokens", "model", "checkpoints"},
    "planning": {"common", "model"},
    "evaluation": _MEASURING,
    "inspection": _MEASURING,
    "alignment": _CHANGING,
    "compression": _CHANGING,
    "assistants": {"common", "data", "tokens", "checkpoints", "inference"},
    "reports": _above("reports"),
    "stages": _above("stages"),
    "recipe": _above("recipe"),
    "serving": _above("serving"),
    "cli": set(_ORDER),
}
API_USERS = {"", "cli", "serving"}  # packages that may import the modules at the top of src/parakit
TORCH_FREE = {"common", "data", "primer", "tokens", "cli"}
NEVER_TORCH = {"data", "primer"}
WEB = {"fastapi", "starlette", "uvicorn", "nicegui"}
EXTRA_OF_PACKAGE = {"data": "data", "serving": "serve", "evaluation": "eval", "assistants": "assist"}
IMPORT_NAME = {
    "opentsne": "openTSNE",
    "pyyaml": "yaml",
    "tensorboardx": "tensorboardX",
    "lm-eval": "lm_eval",
    "rouge-score": "rouge_score",
}


@dataclass(frozen=True)
class Import:
    """One import statement: the module named, and where it stands."""

    module: str
    line: int
    inside: bool  # inside a function, where it costs nothing until called
    typing_only: bool

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def imports(path: Path, src: Path) -> list[Import]:
    """Every import of a file, relative ones resolved."""
    package = ["parakit", *path.relative_to(src).parts[:-1]]
    return list(_walk(tree(path), package, inside=False, typing_only=False))


def _walk(node: ast.AST, package: list[str], inside: bool, typing_only: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, node.lineno, inside, typing_only)
    elif isinstance(node, ast.ImportFrom):
        anchor = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
        module = ".".join(part for part in (anchor, node.module or "") if part)
        names = [f"{module}.{a.name}" for a in node.names] if module in ("", "parakit") else [module]
        for name in names:
            yield Import(name, node.lineno, inside, typing_only)
    if isinstance(node, ast.If) and is_type_checking(node):
        for child in node.body:
            yield from _walk(child, package, inside, True)
        for child in node.orelse:
            yield from _walk(child, package, inside, typing_only)
        return
    deeper = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, package, deeper, typing_only)


def packages_out_of_order(src: Path) -> list[str]:
    """Imports between packages that the design's table does not list, and packages that it does not know."""
    violations = []
    for path in python_files(src):
        package = package_of(path, src)
        if package not in MAY_IMPORT:
            violations.append(f"{at(path, 1, src)}: the design knows no package called {package}")
            continue
        for found in imports(path, src):
            parts = found.module.split(".")
            if parts[0] != "parakit" or len(parts) < 2 or parts[1].startswith("__"):
                continue
            if (src / f"{parts[1]}.py").is_file():  # a module of the Python API, at the top
                allowed = package in API_USERS
            else:
                allowed = parts[1] == package or parts[1] in MAY_IMPORT[package]
            if not allowed:
                violations.append(
                    f"{at(path, found.line, src)}: {package or 'the top'} may not import {parts[1]}"
                )
    return violations


def torch_where_it_must_not_be(src: Path) -> list[str]:
    """torch at the top of a torch-free package, of any config.py or __init__.py, or anywhere in `data`."""
    violations = []
    for path in python_files(src):
        package = package_of(path, src)
        torch_free = package in TORCH_FREE or package == "" or path.name in ("config.py", "__init__.py")
        for found in imports(path, src):
            if found.top != "torch" or found.typing_only:
                continue
            if package in NEVER_TORCH:
                violations.append(f"{at(path, found.line, src)}: {package} never imports torch")
            elif torch_free and not found.inside:
                violations.append(f"{at(path, found.line, src)}: torch only inside functions here")
    return violations


def foreign_packages_out_of_place(src: Path, project: Path = ROOT / "pyproject.toml") -> list[str]:
    """A web framework outside serving, an undeclared package, an extra's package at a core module's top."""
    core, extras = declared(project)
    violations = []
    for path in python_files(src):
        package = package_of(path, src)
        at_top = core | extras.get(EXTRA_OF_PACKAGE.get(package, ""), set())
        for found in imports(path, src):
            where = at(path, found.line, src)
            if found.top == "parakit" or found.top in sys.stdlib_module_names or found.typing_only:
                continue
            if found.top in WEB and package != "serving":
                violations.append(f"{where}: only serving/ may import {found.top}")
            elif found.top not in core.union(*extras.values()):
                violations.append(f"{where}: {found.top} is not among pyproject.toml's dependencies")
            elif found.top in extras["dev"] and found.top not in core:
                violations.append(f"{where}: {found.top} is for tests and benchmarks only")
            elif not found.inside and found.top not in at_top:
                violations.append(
                    f"{where}: {found.top} belongs to an extra: import it inside the function that needs it"
                )
    return violations


def declared(project: Path) -> tuple[set[str], dict[str, set[str]]]:
    """Import names of the core dependencies, and of each extra's."""
    table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    extras = {
        name: _import_names(lines) | ({"starlette"} if name == "serve" else set())
        for name, lines in table["optional-dependencies"].items()
    }
    return _import_names(table["dependencies"]), extras


def _import_names(requirements: list[str]) -> set[str]:
    names = {re.match(r"[\w.-]+", line).group().lower() for line in requirements}  # type: ignore[union-attr]
    return {IMPORT_NAME.get(name, name.replace("-", "_")) for name in names}
