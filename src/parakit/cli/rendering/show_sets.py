"""What `parakit show` reports of preferences and examples: splits, skipped rows, first rows; the table of a prepared set."""

from __future__ import annotations

import json
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from parakit.cli.rendering.show_shapes import ExampleReport, PreferenceReport, RankingRow, first_rows
from parakit.common.files import JsonObject, read_json
from parakit.common.formatting import quantity

N_ROWS, MAX_CHARS = 3, 300
_UNITS = ("examples", "rankings", "conversations", "documents", "bytes")


def describe_preferences(path: Path, lineage: JsonObject) -> tuple[str, JsonObject, dict[str, list[str]]]:
    """Rankings, best first."""
    report = read_json(path / "report.json", PreferenceReport)
    splits = [{"split": name, "rankings": n} for name, n in report["splits"].items()]
    texts = []
    for row in first_rows(path / "train.jsonl", RankingRow, N_ROWS):
        prompt = "\n".join(f"{turn['role']}: {turn['content']}" for turn in row["prompt"])
        ranked = [f"{place}. {answer}" for place, answer in enumerate(row["ranking"], 1)]
        texts.append(_cut("\n".join([prompt, *ranked])))
    n = sum(report["splits"].values())
    read = {"completions": report["completions"], "duplicates": report["duplicates"]}
    what = f"{n:,} rankings of answers for alignment"
    return what, {"splits": splits, "reading": read | _skipped(report)}, {"first rankings": texts}


def describe_examples(path: Path, lineage: JsonObject) -> tuple[str, JsonObject, dict[str, list[str]]]:
    """Examples of a task."""
    report = read_json(path / "report.json", ExampleReport)
    splits = [{"split": name, "examples": facts["examples"]} for name, facts in report["splits"].items()]
    labels = report["splits"].get("train", {}).get("labels", {})
    n = sum(row["examples"] for row in splits)
    task = (lineage.get("config") or {}).get("task") or report.get("task")
    rows = first_rows(path / "train.jsonl", JsonObject, N_ROWS)
    texts = [_cut(json.dumps(row, ensure_ascii=False)) for row in rows]
    return f"{n:,} examples of the task {task}", {"splits": splits, "labels": labels}, {"first": texts}


def _skipped(report: JsonObject) -> dict[str, int]:
    return {f"skipped: {reason}": n for reason, n in report["skipped_rows"].items()}


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARS else text[:MAX_CHARS].rstrip() + " ..."


def split_table(report: JsonObject, title: str) -> Table:
    """A row for each split, with the sizes that its report has."""
    splits = {
        name: counts if isinstance(counts, dict) else {"conversations": counts}
        for name, counts in report["splits"].items()
    }
    keys = [*_UNITS, "sources"] if "split_by" in report else [*_UNITS]
    shown = [key for key in keys if any(key in counts for counts in splits.values())]
    headings = ("texts" if key == "sources" else key for key in shown)
    table = Table("split", *headings, title=escape(title), title_justify="left")
    for name, counts in splits.items():
        table.add_row(name, *(quantity(counts[k]) if k == "bytes" else f"{counts[k]:,}" for k in shown))
    return table
