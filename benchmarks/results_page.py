"""Write docs/benchmarks.md and the README's ten rows from benchmarks/results/*.json: `make bench-table`.

The page groups the benchmarks and begins with the targets that are missed. What a row says in words comes from the
benchmark's own `@benchmark`; its figure from the result, judged here again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import registry
from benchmarks.harness import RESULTS, ROOT
from parakit.common.errors import UserError
from parakit.common.files import read_json, write_text_atomic
from parakit.common.formatting import number

START, END = "<!-- bench-table:start -->", "<!-- bench-table:end -->"
KEYS = {"name", "figures", "target", "met", "hardware", "versions", "commit", "date"}
# Benchmark and figure of the rows that the README shows.
README_ROWS = (
    ("quickstart", "minutes_from_clone"),
    ("quickstart", "last_model_mean_accuracy"),
    ("against_trl", "sft.ratio.rows_per_processor_second"),
    ("against_trl", "grpo.ratio.rows_per_processor_second"),
    ("against_transformers", "ratio.generate-1 1m tokens_per_second"),
    ("families", "ratio.bert small train"),
    ("tokenizer", "encode.speedup"),
    ("adapters", "points_lost_by_lora"),
    ("distillation", "decoder.kept"),
    ("encoder_tasks", "cola.gain"),
)
INTRODUCTION = (
    "# Benchmarks\n\n"
    "Every row comes from a program in `benchmarks/` that you can run: `make bench NAME=...`, or `make bench` for a list."
    " `make bench-table` generates this page from `benchmarks/results/`, which also hold every figure that has no row here,"
    " the commit and the versions. A figure is a median with the lowest and the highest run in brackets. Ratios are Parakit"
    " over the other library: for speeds more than 1 is better, for times and memory less.\n"
)


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Every result of a folder by name; one that lacks a key is a UserError."""
    results = {}
    for path in sorted(folder.glob("*.json")):
        result = read_json(path)
        if missing := KEYS - set(result):
            raise UserError(
                f"{path}: has no {', '.join(sorted(missing))}", f"run it again: make bench NAME={path.stem}"
            )
        results[path.stem] = result
    return results


def page(results: Mapping[str, Mapping[str, Any]]) -> str:
    """docs/benchmarks.md."""
    listings = registry.listings()
    judged = {
        name: registry.rows(result["figures"], registry.load(name).targets)
        for name, result in results.items()
        if name in listings
    }
    missed = [(name, row) for name, rows in judged.items() for row in rows if row.met is False]
    parts = [INTRODUCTION, "## Targets that are missed\n"]
    parts.append(_table((name, row) for name, row in missed) if missed else "None.\n")
    for group, title in registry.GROUPS.items():
        parts.append(f"## {title}\n")
        for name, rows in judged.items():
            if listings[name].group == group:
                parts += [f"### {name}\n", f"{listings[name].summary}\n", _table((None, row) for row in rows)]
                parts.append(f"{_measured_on(results[name])}\n")
    return "\n".join(parts)


def readme_rows(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The rows of `README_ROWS`; one that no result has is a UserError."""
    found = []
    for name, path in README_ROWS:
        rows = registry.rows(results[name]["figures"], registry.load(name).targets) if name in results else []
        row = next((row for row in rows if row.path == path and row.value is not None), None)
        if row is None:
            raise UserError(
                f"no result has {name}: {path}", "change README_ROWS in benchmarks/results_page.py"
            )
        found.append((name, row))
    return _table(found).rstrip("\n")


def _table(rows: Iterable[tuple[str | None, registry.Row]]) -> str:
    """Rows as a Markdown table, with the benchmark's name in front where it is given."""
    lines, named = [], False
    for name, row in rows:
        verdict = {True: "yes", False: "**no**", None: ""}[row.met]
        cells = [row.words, "not measured" if row.value is None else _shown(row.value), row.limit, verdict]
        named = name is not None
        lines.append(f"| {' | '.join([name, *cells] if name else cells)} |")
    head = ["figure", "measured", "target", "met"]
    head = ["benchmark", *head] if named else head
    return "\n".join([f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *lines]) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        low, high = _number(value["low"]), _number(value["high"])
        if value["n"] == 1:
            return f"{low} (1 run)"
        return f"{_number(value['median'])} ({low} to {high}, {value['n']} runs)"
    return _number(value)


def _number(value: float) -> str:
    return number(value, digits=4, pad=False)


def _measured_on(result: Mapping[str, Any]) -> str:
    hardware, versions = result["hardware"], result["versions"]
    cores = f"{hardware['cores']} core{'s' if hardware['cores'] != 1 else ''}"
    machine = hardware.get("accelerator") or f"{hardware['processor']}, {cores}"
    memory, torch = hardware.get("memory_gib", "?"), versions.get("torch", "?")
    return f"Measured on {result['date']} on {machine}, {memory} GiB, torch {torch}."


def put_between_markers(text: str, content: str) -> str:
    """`text` with what is between the markers replaced; a page without them is a UserError."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise UserError("the page has no markers for the table", f"add the lines {START} and {END}")
    return f"{before}{START}\n{content}\n{END}{after}"


def main(
    readme: Path = ROOT / "README.md", target: Path = ROOT / "docs" / "benchmarks.md", results: Path = RESULTS
) -> None:
    """Write both pages."""
    try:
        found = read_results(results)
        write_text_atomic(target, page(found))
        write_text_atomic(readme, put_between_markers(readme.read_text(encoding="utf-8"), readme_rows(found)))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
