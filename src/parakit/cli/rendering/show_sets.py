"""What `parakit show` reports of preferences and examples: splits, skipped rows, first rows."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

from parakit.common.files import JsonObject, read_json

N_ROWS, MAX_CHARS = 3, 300


def describe_preferences(path: Path, lineage: JsonObject) -> tuple[str, JsonObject, dict[str, list[str]]]:
    """Rankings, best first."""
    report = read_json(path / "report.json")
    splits = [{"split": name, "rankings": n} for name, n in report["splits"].items()]
    texts = []
    for row in _first(path):
        prompt = "\n".join(f"{turn['role']}: {turn['content']}" for turn in row["prompt"])
        ranked = [f"{place}. {answer}" for place, answer in enumerate(row["ranking"], 1)]
        texts.append(_cut("\n".join([prompt, *ranked])))
    n = sum(report["splits"].values())
    read = {"completions": report["completions"], "duplicates": report["duplicates"]}
    what = f"{n:,} rankings of answers for alignment"
    return what, {"splits": splits, "reading": read | _skipped(report)}, {"first rankings": texts}


def describe_examples(path: Path, lineage: JsonObject) -> tuple[str, JsonObject, dict[str, list[str]]]:
    """Examples of a task."""
    report = read_json(path / "report.json")
    splits = [{"split": name, "examples": facts["examples"]} for name, facts in report["splits"].items()]
    labels = report["splits"]["train"].get("labels", {})
    n = sum(row["examples"] for row in splits)
    task = (lineage.get("config") or {}).get("task") or report.get("task")
    texts = [_cut(json.dumps(row, ensure_ascii=False)) for row in _first(path)]
    return f"{n:,} examples of the task {task}", {"splits": splits, "labels": labels}, {"first": texts}


def _skipped(report: JsonObject) -> dict[str, int]:
    return {f"skipped: {reason}": n for reason, n in report["skipped_rows"].items()}


def _first(path: Path) -> list[JsonObject]:
    with open(path / "train.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in islice(file, N_ROWS)]


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARS else text[:MAX_CHARS].rstrip() + " ..."
