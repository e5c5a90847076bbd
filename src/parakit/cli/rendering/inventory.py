"""What `parakit text --dry-run` prints: files that would be read, by kind; files left out, and the way to include them."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from parakit.cli.rendering.safe_text import safe
from parakit.cli.rendering.skipped_files import skipped_by_reason
from parakit.common.files import JsonObject
from parakit.common.formatting import byte_size, duration
from parakit.data.config import TextConfig
from parakit.data.readers.inventory import list_inputs
from parakit.data.readers.skip_reasons import way_to_include

N_SHOWN = 50


def show_inventory(config: TextConfig, as_json: bool) -> int:
    """List what `config` reads; the exit status is 0 where anything would be read, else 1."""
    found = list_inputs(config)
    if config.workers > 1 or config.executor != "local":
        from parakit.data.parallel.plan import plan_corpus  # it loads what makes a corpus

        found |= {"plan": plan_corpus(config)}
    if as_json:
        print(json.dumps({"dry_run": True} | found))
    else:
        _print(found, Console())
    return 0 if found["files"] else 1


def _print(found: JsonObject, console: Console) -> None:
    console.print(f"[bold]{found['files']:,} files would be read[/bold], {byte_size(found['bytes'])}")
    kinds = Table("kind", "files", "size", box=None, pad_edge=False)
    for kind, counts in found["formats"].items():
        kinds.add_row(safe(kind), f"{counts['files']:,}", byte_size(counts["bytes"]))
    if found["formats"]:
        console.print(kinds)
    for file in found["read"][:N_SHOWN]:
        line = f"  {file['source']}  {file['format']}, {byte_size(file['bytes'])}"
        console.print(safe(line), highlight=False, soft_wrap=True)
    if (more := found["files"] - min(N_SHOWN, len(found["read"]))) > 0:
        console.print(f"  and {more:,} more")
    if plan := found.get("plan"):
        for line in _plan_lines(plan):
            console.print(line, highlight=False, soft_wrap=True)
    for row in skipped_by_reason({"skipped": found["skipped"], "skipped_files": found["left_out"]}):
        line = f"left out, {row['reason']}: {row['files']:,} ({row['kinds']}), such as {row['examples']}"
        console.print(safe(line), highlight=False, soft_wrap=True)
        if way := way_to_include(row["reason"]):
            console.print(f"  to include them: {way}", highlight=False, soft_wrap=True)


def _plan_lines(plan: JsonObject) -> list[str]:
    """What the corpus will take, from a sample."""
    tasks = ", ".join(f"{stage}: {n:,}" for stage, n in plan["tasks"].items())
    seconds, memory = plan["seconds"], plan["memory_bytes"]
    return [
        f"planned from a sample of {byte_size(plan['sample_bytes'])}, for machines like this one:",
        f"  tasks: {tasks}; the largest file, which one task reads, has {byte_size(plan['largest_file_bytes'])}",
        f"  time: {duration(seconds['tasks'])} of tasks, {duration(seconds['first_process'])} of this process",
        f"  memory: {byte_size(memory['task'])} a task, {byte_size(memory['first_process'])} this process,"
        f" with {plan['texts']:,} texts",
        f"  disk: {byte_size(plan['disk_bytes'])} until the corpus is finished",
    ]
