"""What a package shows: `__init__.py` files, exported names, types of public functions, and who may print."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

from package import at, is_type_checking, nodes, package_of, parameters, python_files, tree

_LAZY_TARGETS = {"__all__", "__version__", "__getattr__", "__dir__"}
_CONSOLES = {"sys.stdout.write", "sys.stderr.write", "sys.__stdout__.write"}


def init_files_with_code(src: Path) -> list[str]:
    """`__init__.py` files that hold more than a docstring, re-exports and `__all__`."""
    violations = []
    for path in python_files(src):
        if path.name != "__init__.py":
            continue
        module = tree(path)
        if ast.get_docstring(module) is None:
            violations.append(f"{at(path, 1, src)}: a package needs a docstring")
        if exported(module) is None and len(module.body) > 1:
            violations.append(f"{at(path, 1, src)}: a package lists its exports in __all__")
        violations += [
            f"{at(path, node, src)}: an __init__.py holds only a docstring, re-exports and __all__"
            for node in module.body[1:]
            if not _belongs_in_init(node)
        ]
    return violations


def _belongs_in_init(node: ast.stmt) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom) or is_type_checking(node):
        return True
    if isinstance(node, ast.AnnAssign):
        return isinstance(node.target, ast.Name) and node.target.id in _LAZY_TARGETS
    if isinstance(node, ast.Assign):
        targets = [e for t in node.targets for e in (t.elts if isinstance(t, ast.Tuple) else [t])]
        return all(isinstance(target, ast.Name) and target.id in _LAZY_TARGETS for target in targets)
    return False


def exported(module: ast.Module) -> list[str] | None:
    """The names in `__all__`, or None where there is none."""
    for node in module.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return list(ast.literal_eval(node.value))
    return None


def exports(src: Path) -> list[str]:
    """Every exported name of every package, as `parakit.package.name`, sorted."""
    names = []
    for path in python_files(src):
        if path.name == "__init__.py":
            package = ".".join(["parakit", *path.relative_to(src).parts[:-1]])
            names += [f"{package}.{name}" for name in exported(tree(path)) or []]
    return sorted(names)


def unused_exports(src: Path, users: Iterable[Path]) -> list[str]:
    """Exported names of packages that no file of `users` (or `src`) imports from there."""
    used = set()
    for path in [*python_files(src), *(file for folder in users for file in python_files(folder))]:
        for node in nodes(tree(path)):
            if isinstance(node, ast.ImportFrom) and not node.level:
                used |= {f"{node.module}.{alias.name}" for alias in node.names}
    return [
        f"{name}: nobody imports it from there: remove it from __all__"
        for name in exports(src)
        if name not in used
    ]


def exports_hidden_by_a_module(src: Path) -> list[str]:
    """Lazily exported names that a module or folder beside the `__init__.py` bears too.

    Once that module is imported, the package's attribute is the module, and the name is never looked up lazily.
    """
    violations = []
    for path in python_files(src):
        if path.name == "__init__.py":
            imports = [node for node in tree(path).body if isinstance(node, ast.ImportFrom)]
            bound = {alias.asname or alias.name for node in imports for alias in node.names}
            siblings = {
                p.stem for p in path.parent.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()
            }
            hidden = sorted(set(exported(tree(path)) or []) & siblings - bound)
            violations += [
                f"{at(path, 1, src)}: the module {name} hides the export {name}" for name in hidden
            ]
    return violations


PRINTING = (
    "common/progress.py",
    "inference/constraint_trial.py",
)  # the latter is a program that answers on stdout


def stray_printing(src: Path) -> list[str]:
    """print and consoles outside cli/, common/progress.py and reports/."""
    violations = []
    for path in python_files(src):
        if package_of(path, src) in ("cli", "reports") or path.relative_to(src).as_posix() in PRINTING:
            continue
        for node in nodes(tree(path)):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in ("print", "pprint", "input") or name in _CONSOLES:
                    violations.append(
                        f"{at(path, node, src)}: {name}: only cli/, common/progress.py and reports/ print"
                    )
            elif isinstance(node, ast.Import | ast.ImportFrom):
                names = (
                    [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                )
                if any(name.partition(".")[0] == "rich" for name in names):
                    violations.append(
                        f"{at(path, node, src)}: rich: only cli/, common/progress.py and reports/ print"
                    )
    return violations


def changed_clocks(root: Path) -> list[str]:
    """`setattr(module.time, "monotonic", ...)` and `setattr("module.time.monotonic", ...)`: the module `time` is one for the
    whole process, and a server's event loop in another thread that reads a changed clock waits for an hour that never comes.
    A module's own name `time` is replaced instead.
    """
    violations = []
    for path in python_files(root):
        for node in nodes(tree(path)):
            if not (isinstance(node, ast.Call) and node.args and ast.unparse(node.func).endswith("setattr")):
                continue
            target, *others = node.args
            if isinstance(target, ast.Constant):
                owner = str(target.value).rpartition(".")[0]
            else:
                owner = ast.unparse(target) if others and isinstance(others[0], ast.Constant) else ""
            if owner.rpartition(".")[2] == "time":
                violations.append(
                    f"{at(path, node, root)}: {owner} is everybody's clock: replace the module's own name"
                )
    return violations


def untyped_public_functions(src: Path) -> list[str]:
    """Public functions and methods with a parameter or a result that has no type."""
    violations = []
    for path in python_files(src):
        for owner in [tree(path), *_public_classes(tree(path))]:
            for function in owner.body:
                if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                    continue
                if function.name.startswith("_") and function.name != "__init__":
                    continue
                untyped = [
                    a.arg
                    for a in parameters(function)
                    if a.annotation is None and a.arg not in ("self", "cls")
                ]
                if function.returns is None and function.name != "__init__":
                    untyped.append("its result")
                if untyped:
                    violations.append(
                        f"{at(path, function, src)}: {function.name}: no type for {', '.join(untyped)}"
                    )
    return violations


def _public_classes(module: ast.Module) -> list[ast.ClassDef]:
    return [node for node in module.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]


def shared_names(src: Path) -> list[str]:
    """Public classes and type aliases that two modules define under one name. A TypeVar may be defined again."""
    places: dict[str, list[str]] = {}
    for path in python_files(src):
        for node in tree(path).body:
            name = node.name if isinstance(node, ast.ClassDef) else _alias(node)
            if name and not name.startswith("_"):
                places.setdefault(name, []).append(at(path, node, src))
    return [
        f"{where[0]}: {name} is also defined in {', '.join(where[1:])}: write it once, or rename one"
        for name, where in sorted(places.items())
        if len(where) > 1
    ]


def _alias(node: ast.stmt) -> str | None:
    """The name that `Name = some type` defines: in capitals and small letters, as classes are named."""
    if not (
        isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
    ):
        return None
    name, value = node.targets[0].id, ast.unparse(node.value)
    is_type = name[0].isupper() and not name.isupper() and not value.startswith("TypeVar(")
    return name if is_type else None


def modules_without_docstring(src: Path) -> list[str]:
    """Files that do not say what they are."""
    return [
        f"{at(path, 1, src)}: a module needs a docstring"
        for path in python_files(src)
        if ast.get_docstring(tree(path)) is None
    ]
