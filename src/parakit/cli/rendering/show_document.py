"""`parakit show --document` and `--search`: a document of a corpus, where it came from, and the runs and steps that saw it."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from parakit.cli.rendering.safe_text import safe
from parakit.common.artifacts import LINEAGE, read_lineage
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, is_file
from parakit.common.lineages import find_ancestors
from parakit.data.document_search import find_documents, history, search_documents
from parakit.stages.corpora.history import runs_that_saw

MAX_FOUND, MAX_STEPS, TEXT_CHARS = 20, 12, 600


def show_document(path: Path, document_id: str, folders: list[Path], as_json: bool) -> int:
    """Print a document of the corpus `path`, or of those that the run `path` was trained on, with the steps that saw it;
    the exit status is 0.
    """
    corpora, runs = _corpora(path)
    entries, errors = [], []
    for corpus in corpora:
        try:
            found = find_documents(corpus, document_id)
        except UserError as error:
            errors.append(error)
            continue
        for one in found:
            seen = runs_that_saw(corpus, one.split, one.number, folders, runs)
            entries.append(
                {"corpus": str(corpus)} | history(corpus, one) | {"text": one.document.text, "runs": seen}
            )
    if not entries:
        raise errors[0]
    if as_json:
        print(json.dumps({"documents": entries}, ensure_ascii=False))
    else:
        for entry in entries:
            _print(entry, Console())
    return 0


def search(path: Path, text: str, as_json: bool) -> int:
    """Print the documents that have `text`; the exit status is 1 where none has."""
    corpora, _ = _corpora(path)
    rows: list[JsonObject] = []
    n = 0
    for corpus in corpora:
        for one in search_documents(corpus, text):
            n += 1
            if len(rows) < MAX_FOUND:
                rows.append(
                    {"id": one.id, "corpus": str(corpus), "split": one.split, "number": one.number}
                    | {"source": one.document.source, "excerpt": one.excerpt(len(text))}
                )
    if as_json:
        print(json.dumps({"n_documents": n, "documents": rows}, ensure_ascii=False))
        return 0 if n else 1
    console = Console()
    for row in rows:
        console.print(
            f"[bold]{row['id']}[/bold]  {safe(row['split'])}  {safe(row['source'])}", highlight=False
        )
        console.print(Padding(safe(row["excerpt"]), (0, 0, 1, 2)), highlight=False)
    more = f", the first {len(rows)} shown" if n > len(rows) else ""
    console.print(f"{n:,} documents have this text{more}; --document ID shows what saw one", highlight=False)
    return 0 if n else 1


def _corpora(path: Path) -> tuple[list[Path], list[Path] | None]:
    """The corpora of a folder: itself, or those that a run was trained on, with the run and those before it."""
    if not is_file(path / LINEAGE):
        raise UserError(
            f"{path}: is no corpus and no run", "name the folder of a corpus or of a trained model"
        )
    if read_lineage(path).get("kind") == "corpus":
        return [path], None
    found = find_ancestors(path)
    corpora = found.of_kinds("corpus")
    if not corpora:
        raise UserError(
            f"{path}: no corpus that it was made from is found",
            "name the corpus, and the run's folder with --runs",
        )
    return corpora, found.of_kinds("model", "adapter")


def _print(entry: JsonObject, console: Console) -> None:
    console.print(f"[bold]{safe(entry['id'])}[/bold]  {safe(entry['source'])}", highlight=False)
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_row("split", f"{safe(entry['split'])}, row {entry['number'] + 1:,} of {safe(entry['corpus'])}")
    facts.add_row("file", safe(entry["file"] or "not found on this machine"))
    facts.add_row("size", f"{entry['characters']:,} characters, {entry['bytes']:,} bytes")
    for name, value in entry["reading"].items():
        facts.add_row(safe(name), safe(value))
    for step in entry["steps"]:
        rest = ", ".join(f"{name} = {value}" for name, value in step.items() if name != "step")
        facts.add_row("changed by", safe(step["step"] + (f" ({rest})" if rest else "")))
    console.print(Padding(facts, (0, 0, 0, 2)), highlight=False)
    text = entry["text"]
    console.print(
        Padding(safe(text[:TEXT_CHARS] + (" ..." if len(text) > TEXT_CHARS else "")), (1, 2)), highlight=False
    )
    if not entry["runs"]:
        console.print(
            "no run on this corpus is found next to it; --runs FOLDER names others", highlight=False
        )
    for run in entry["runs"]:
        _print_run(run, console)


def _print_run(run: JsonObject, console: Console) -> None:
    console.print(f"[bold]{safe(run['run'])}[/bold]  {safe(run['stage'])}", highlight=False)
    if "why" in run:
        console.print(Padding(safe(run["why"]), (0, 0, 0, 2)), highlight=False)
        return
    n_steps = len({one["step"] for one in run["steps"]})
    console.print(
        f"  {n_steps:,} of {run['n_steps']:,} steps read {run['tokens']:,} tokens of it, in {run['times']:,} epochs",
        highlight=False,
    )
    table = Table("step", "row", "columns", "tokens of the document", "epoch", box=None, pad_edge=False)
    for one in islice(run["steps"], MAX_STEPS):
        last, end = one["column"] + one["n_tokens"] - 1, one["first_token"] + one["n_tokens"] - 1
        table.add_row(
            f"{one['step']:,}",
            f"{one['row']}",
            f"{one['column']} to {last}",
            f"{one['first_token']} to {end}",
            f"{one['epoch']:.2f}",
        )
    if run["steps"]:
        console.print(Padding(table, (0, 0, 0, 2)))
    if (more := len(run["steps"]) - MAX_STEPS) > 0:
        console.print(f"  and {more:,} more; --json lists all", highlight=False)
