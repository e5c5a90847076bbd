"""The benchmarks by name: each is a function under `@benchmark`, which takes its options as keyword arguments and returns
its figures.

A target names a figure by its dotted path, in which `*` stands for any part, and gives a limit ("<= 0.2") and a few
words for the results page; `{0}`, `{1}` in the words are what the stars stood for. `NO_TARGET` instead of a limit puts
a figure on the page without judging it. Whether a target is met is computed from the figures, never by a benchmark.
"""

from __future__ import annotations

import ast
import functools
import importlib
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Figures = dict[str, Any]
Targets = Mapping[str, tuple[str, str]]

NO_TARGET = ""
GROUPS = {
    "quality": "How good the models are that Parakit makes",
    "speed": "Speed and memory against other libraries",
    "research": "Experiments",
}
_COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq}
_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Benchmark:
    """A registered benchmark. `run` takes keyword arguments, all of which the command line offers as flags."""

    name: str
    run: Callable[..., Figures]
    targets: Targets


@dataclass(frozen=True)
class Listing:
    """Where a benchmark is, known without importing it."""

    name: str
    group: str
    module: str
    summary: str


@dataclass(frozen=True)
class Row:
    """One figure of the results page. `met` is None where there is no target, or no figure."""

    path: str
    words: str
    value: Any
    limit: str
    met: bool | None


_REGISTERED: dict[str, Benchmark] = {}


def benchmark(name: str, targets: Targets) -> Callable[[Callable[..., Figures]], Callable[..., Figures]]:
    """Register the decorated function under `name`."""

    def register(run: Callable[..., Figures]) -> Callable[..., Figures]:
        _REGISTERED[name] = Benchmark(name, run, targets)
        return run

    return register


@functools.cache
def listings() -> dict[str, Listing]:
    """Every benchmark in speed/, quality/ and research/ by name, read from the decorators without importing anything."""
    found = {}
    for path in sorted(file for group in GROUPS for file in (_FOLDER / group).rglob("*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        dotted = ".".join(("benchmarks", *path.relative_to(_FOLDER).with_suffix("").parts))
        for node in module.body:
            if isinstance(node, ast.FunctionDef) and (name := _registered_name(node)):
                summary = (ast.get_docstring(module) or "").partition("\n\n")[0].replace("\n", " ")
                found[name] = Listing(name, path.relative_to(_FOLDER).parts[0], dotted, summary)
    return dict(sorted(found.items()))


def _registered_name(function: ast.FunctionDef) -> str | None:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "benchmark":
            return str(ast.literal_eval(decorator.args[0]))
    return None


def load(name: str) -> Benchmark:
    """The benchmark, its module imported."""
    importlib.import_module(listings()[name].module)
    return _REGISTERED[name]


def rows(figures: Mapping[str, Any], targets: Targets) -> list[Row]:
    """The figures that `targets` name, each judged once, by the first that names it. A target without a figure gives a row
    without a value.
    """
    numbers = dict(flat(figures))
    found: list[Row] = []
    for pattern, (limit, words) in targets.items():
        judged = {row.path for row in found}
        matching = {
            path: groups
            for path in numbers
            if (groups := _groups(pattern, path)) is not None and path not in judged
        }
        if not matching:
            found.append(Row(pattern, words, None, limit, None))
        for path, groups in matching.items():
            value = numbers[path]
            found.append(Row(path, words.format(*groups), value, limit, is_met(value, limit)))
    return found


def _groups(pattern: str, path: str) -> tuple[str, ...] | None:
    parts = [re.escape(part) for part in pattern.split("*")]
    match = re.fullmatch(r"([^.]+)".join(parts), path)
    return tuple(group.replace("_", " ") for group in match.groups()) if match else None


def flat(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Numbers with their dotted paths; a summary counts as one, and texts and lists are left out."""
    for name, value in figures.items():
        if isinstance(value, Mapping) and "median" not in value:
            yield from flat(value, f"{prefix}{name}.")
        elif isinstance(value, Mapping) or (isinstance(value, int | float) and not isinstance(value, bool)):
            yield f"{prefix}{name}", value


def is_met(value: Any, limit: str) -> bool | None:
    """Whether a number, or the median of a summary, is within the limit; None where there is none."""
    if limit == NO_TARGET:
        return None
    parsed = re.fullmatch(r"(<=|>=|<|>|==)\s*(-?[\d.]+(?:e-?\d+)?)", limit)
    if not parsed:
        raise ValueError(f"target {limit!r}: write it as '<= 0.5'")
    number = value["median"] if isinstance(value, Mapping) else value
    return bool(_COMPARE[parsed[1]](number, float(parsed[2])))


def all_met(judged: list[Row]) -> bool | None:
    """True when every target is met, False when one is missed, None when there is none or one has no figure."""
    with_limit = [row for row in judged if row.limit != NO_TARGET]
    if any(row.met is False for row in with_limit):
        return False
    return True if with_limit and all(row.met for row in with_limit) else None
