"""Write the README's table of measured results from benchmarks/results/*.json: `make bench-table`.

One row for every figure that has a bar; a result without a bar is a baseline and shows its ratios, or all
it has. The table stands between two markers, and everything outside them is left as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, ROOT, SHOWN, holds
from parakit.common.errors import UserError
from parakit.common.files import read_json, write_text_atomic

START, END = "<!-- bench-table:start -->", "<!-- bench-table:end -->"
HEAD = "| benchmark | figure | measured | bar | holds |\n| --- | --- | --- | --- | --- |"
KEYS = {"name", "figures", "bar", "holds", "hardware", "versions", "commit", "date"}


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Every result of a folder, by name; one that lacks a key is a UserError."""
    results = []
    for path in sorted(folder.glob("*.json")):
        result = read_json(path)
        if missing := KEYS - set(result):
            raise UserError(
                f"{path}: has no {', '.join(sorted(missing))}", f"run it again: make bench NAME={path.stem}"
            )
        results.append(result)
    return results


def table(results: list[dict[str, Any]]) -> str:
    """The results as Markdown, with a line that says on what they were measured."""
    if not results:
        return "No results yet: `make bench` lists what can be measured."
    rows = [f"| {' | '.join(row)} |" for result in results for row in _rows(result)]
    return "\n".join([HEAD, *rows, "", *_measured_on(results)])


def _rows(result: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    figures = result["figures"]
    bar = {path.removesuffix(".median"): limit for path, limit in result["bar"].items()}
    if not bar and isinstance(
        figures.get("ratio"), Mapping
    ):  # a comparison: what divides the sides says it all
        figures = {"ratio": figures["ratio"]}
    for path, value in _flat(figures):
        if path in bar or not bar:
            verdict = {True: "yes", False: "**no**", None: ""}[_holds_alone(value, bar.get(path))]
            yield (
                result["name"],
                path.replace("_", " ").replace(".", ", "),
                _shown(value),
                bar.get(path, ""),
                verdict,
            )


def _flat(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Figures with dotted names; a summary counts as one figure, texts and lists are left out."""
    for name, value in figures.items():
        if isinstance(value, Mapping) and "median" not in value:
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, Mapping) or (isinstance(value, int | float) and not isinstance(value, bool)):
            yield f"{prefix}{name}", value


def _holds_alone(value: Any, limit: str | None) -> bool | None:
    return holds({"it": value}, {"it": limit or SHOWN})


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        low, high = _number(value["low"]), _number(value["high"])
        return f"{_number(value['median'])} ({low} to {high}, {value['n']} runs)"
    return _number(value)


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _measured_on(results: list[dict[str, Any]]) -> list[str]:
    lines = set()
    for result in results:
        hardware, versions = result["hardware"], result["versions"]
        machine = hardware.get("accelerator") or f"{hardware['processor']}, {hardware['cores']} cores"
        memory, torch = hardware.get("memory_gib", "?"), versions.get("torch", "?")
        lines.add(f"Measured on {machine}, {memory} GiB, torch {torch}.")
    return sorted(lines)


def put_between_markers(page: str, content: str) -> str:
    """`page` with what stands between the markers replaced; a page without them is a UserError."""
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise UserError("the page has no markers for the table", f"add the lines {START} and {END}")
    return f"{before}{START}\n{content}\n{END}{after}"


def main(page: Path = ROOT / "README.md", results: Path = RESULTS) -> None:
    """Rewrite the table of a page."""
    try:
        text = put_between_markers(page.read_text(encoding="utf-8"), table(read_results(results)))
        write_text_atomic(page, text)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
