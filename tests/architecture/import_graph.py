"""The imports between modules: who imports whom, and the circles among them.

Every import statement counts, also inside functions and under TYPE_CHECKING: a circle that is hidden in a function is a
circle. `from parakit.data import Document` counts as an import of the module that defines `Document`, where the package
exports it lazily; importing a module does not count as importing the packages around it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from package import nodes, python_files, tree


def import_graph(src: Path) -> dict[str, set[str]]:
    """For each module below `src` (dotted, without the leading `parakit.`) the modules that it imports."""
    modules = {_dotted(path, src): path for path in python_files(src)}
    exports = {
        name: _lazy_exports(tree(path)) for name, path in modules.items() if path.name == "__init__.py"
    }
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        graph[name] = set(_targets(tree(path), package, exports, modules)) - {name}
    return graph


def import_circles(src: Path) -> list[str]:
    """Groups of modules that import each other, each as one line."""
    return [
        f"{' <-> '.join(sorted(group))}: these modules import each other: move what they share into a third"
        for group in _components(import_graph(src))
        if len(group) > 1
    ]


def _dotted(path: Path, src: Path) -> str:
    parts = path.relative_to(src).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _lazy_exports(module: ast.Module) -> dict[str, str]:
    """The table {exported name: submodule} of a package that uses `lazy_exports`."""
    for node in nodes(module):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy_exports":
            table = next(argument for argument in node.args if isinstance(argument, ast.Dict))
            return {
                ast.literal_eval(k): ast.literal_eval(v)
                for k, v in zip(table.keys, table.values, strict=True)
                if k
            }
    return {}


def _targets(
    module: ast.Module, package: str, exports: dict[str, dict[str, str]], modules: dict[str, Path]
) -> Iterator[str]:
    for node in nodes(module):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("parakit.")]
            yield from (
                name.removeprefix("parakit.") for name in names if name.removeprefix("parakit.") in modules
            )
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, package)
            if base is None:
                continue
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                lazy = exports.get(base, {}).get(alias.name)
                target = inner if inner in modules else f"{base}.{lazy}" if lazy else base
                if target in modules:
                    yield target


def _base(node: ast.ImportFrom, package: str) -> str | None:
    """The package or module that a `from ... import` names, without `parakit.`; None where it is another library's."""
    if node.level:
        parts = package.split(".")
        anchor = parts[: len(parts) - node.level + 1]
        return ".".join([*anchor, *([node.module] if node.module else [])])
    module = node.module or ""
    if module == "parakit":
        return ""
    return module.removeprefix("parakit.") if module.startswith("parakit.") else None


def _components(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph.get(node, ())):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = []
            while not group or group[-1] != node:
                group.append(stack.pop())
            found.append(group)

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found
