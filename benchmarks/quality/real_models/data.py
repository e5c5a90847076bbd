"""What the real models are tuned and measured on: public instructions, pairs, questions and a book, a few of each."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from benchmarks.harness import run_parakit
from benchmarks.registry import Figures

Rows = list[dict[str, Any]]


def find_source(name: str) -> Path:
    """What `parakit import` takes for a published model; ends the program with the way out where it was not fetched."""
    from tests.real_models import find_model

    found = find_model(name)
    if found is None:
        raise SystemExit(f"no published model {name!r}: `make real-models` fetches it")
    return found


def imported(name: str, folder: Path) -> Path:
    """A published model in Parakit's own layout at `folder`, imported unless it is there."""
    if not (folder / "config.json").exists():
        run_parakit("import", find_source(name), "--output", folder)
    return folder


def read_lines(path: Path) -> Rows:
    """The rows of a JSON-lines file, compressed or not."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    return [json.loads(line) for line in text.splitlines() if line]


def write_lines(path: Path, rows: Rows) -> Path:
    """`rows` as JSON lines; returns the path."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def instructions(data: Path) -> Rows:
    """1,100 short instructions, each a conversation of two turns."""
    file = data / "llms_from_scratch_instruct" / "instruction-data.json.gz"
    return [
        conversation(_request(row), row["output"]) for row in json.loads(gzip.decompress(file.read_bytes()))
    ]


def pairs(data: Path, n: int) -> Rows:
    """The `n` shortest of 1,100 pairs of a chosen and a rejected answer."""
    file = data / "llms_from_scratch_instruct" / "instruction-data-with-preference.json.gz"
    rows = [row for row in json.loads(gzip.decompress(file.read_bytes())) if row["chosen"] != row["rejected"]]
    rows.sort(key=lambda row: len(_request(row)) + len(row["chosen"]) + len(row["rejected"]))
    return [
        {
            "prompt": [{"role": "user", "content": _request(row)}],
            "chosen": row["chosen"],
            "rejected": row["rejected"],
        }
        for row in rows[:n]
    ]


def conversation(request: str, answer: str) -> dict[str, Any]:
    """One request and its answer, as a row of a file of conversations."""
    return {"messages": [{"role": "user", "content": request}, {"role": "assistant", "content": answer}]}


def _request(row: Figures) -> str:
    return row["instruction"] + (f"\n\n{row['input']}" if row["input"] else "")
