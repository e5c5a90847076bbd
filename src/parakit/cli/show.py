"""`parakit show`: describe what a folder holds and how it was made."""

import json
import math
from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic import Field
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.tree import Tree

from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import Needs, refuse_inert
from parakit.cli.rendering.safe_text import safe
from parakit.cli.rendering.show_details import describe
from parakit.cli.rendering.show_document import search, show_document
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.formatting import byte_size, long_duration, number
from parakit.common.progress import log
from parakit.common.remote import is_remote
from parakit.common.settings import Config
from parakit.reports.corpus_page import write_corpus_page


class ShowCommandConfig(Config):
    """Describe a folder (a corpus, a model, a build, ...): what it holds and how it was made."""

    path: tyro.conf.Positional[str] = Field(description="The folder to describe.")
    verify: bool = Field(default=True, description="Check the sha256 sum of every file.")
    seed: int = Field(default=0, description="Of a corpus: draws the random pieces of each split.")
    page: str | None = Field(
        default=None, description="Of a corpus: write its page, an HTML file, to this path."
    )
    document: str | None = Field(
        default=None,
        description="Of a corpus, or of a model trained on one: the id of a document, to see where it came from, what was"
        " done to it, and which runs and steps read it.",
    )
    search: str | None = Field(
        default=None,
        description="Of a corpus, or of a model trained on one: list the documents that have this text.",
    )
    runs: tuple[str, ...] = Field(
        default=(),
        description="With --document: more folders in which shards and runs of the corpus are looked for.",
    )
    family: tuple[str, ...] = Field(
        default=(),
        description="Of an evaluation: the evaluations of other sizes of the model, or with other numbers of shots; the scores"
        " are listed by both.",
    )
    plot: str | None = Field(
        default=None, description="With --family: draw the scores with intervals to this SVG file."
    )
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON object."
    )


_NEEDS = (
    Needs(("plot",), lambda command: command.family, "there is one evaluation", "name others with --family"),
    Needs(
        ("runs",), lambda command: command.document is not None, "it is about a document", "add --document ID"
    ),
    Needs(
        ("verify", "seed", "page"),
        lambda command: command.document is None and command.search is None,
        "it is about the whole folder, and documents were requested",
        "leave --document and --search out",
    ),
    Needs(
        ("verify", "seed", "page", "document", "search", "runs"),
        lambda command: not command.family,
        "scores of several evaluations are listed",
        "leave --family out",
    ),
    Needs(
        ("search",),
        lambda command: command.document is None,
        "the document is named by its id",
        "leave --document out",
    ),
)


def main(argv: list[str]) -> int:
    """Run `parakit show` with these arguments; 0 when the folder is intact."""
    command = parse_command(ShowCommandConfig, argv, "parakit show")
    refuse_inert(command, _NEEDS)
    if is_remote(command.path):
        raise UserError(f"{command.path}: is on object storage", "copy the folder to this machine first")
    if command.family:
        return _show_family(command)
    if command.document is not None:
        folders = [Path(folder) for folder in command.runs]
        return show_document(Path(command.path), command.document, folders, command.as_json)
    if command.search is not None:
        return search(Path(command.path), command.search, command.as_json)
    description = describe(command.path, verify=command.verify, seed=command.seed)
    if description["kind"] != "corpus" and command.model_fields_set & {"seed", "page"}:
        raise UserError(
            f"{command.path}: is no corpus but {description['what']}", "--seed and --page are of a corpus"
        )
    if command.page:
        write_corpus_page(command.path, command.page, command.seed)
        log(f"{command.page}: the page of the corpus")
    if command.as_json:
        print(json.dumps(description, ensure_ascii=False, indent=2))
    else:
        _show(description, Console())
    return 0


def _show_family(command: ShowCommandConfig) -> int:
    """List, and draw, the scores of several evaluations."""
    from parakit.evaluation.family import family_scores
    from parakit.reports.sweeps.family import write_family_pictures

    scores = family_scores([command.path, *command.family])
    for file in write_family_pictures(scores, Path(command.plot)) if command.plot else ():
        log(f"{file}: the picture")
    if command.as_json:
        print(json.dumps([score.to_dict() for score in scores], ensure_ascii=False))
        return 0
    rows = [
        {
            **{"benchmark": one.benchmark, "shots": one.n_shots, "parameters": one.parameters},
            **{"score": f"{one.value:.4g}", "models": one.n_models},
            "95 % interval": f"{one.low:.3g} to {one.high:.3g}" if one.low > -math.inf else "",
            "guessing": one.chance,
        }
        for one in scores
    ]
    Console().print(_table(rows))
    return 0


def _show(description: JsonObject, console: Console) -> None:
    console.print(f"[bold]{safe(description['path'])}[/bold]  {safe(description['what'])}", highlight=False)
    for title, figures in description["figures"].items():
        console.print()
        console.print(f"[bold]{safe(title)}[/bold]", highlight=False)
        console.print(Padding(_table(figures), (0, 0, 0, 2)))
    for title, texts in description["samples"].items():
        console.print()
        console.print(f"[bold]{safe(title)}[/bold]", highlight=False)
        for text in texts:
            console.print(Padding(safe(text), (0, 0, 1, 2)), highlight=False)
    if description["lineage"]:
        console.print()
        console.print("[bold]lineage[/bold]")
        console.print(Padding(_tree(description["lineage"]), (0, 0, 0, 2)), highlight=False)
    if description["files"]:
        total = byte_size(sum(file["size"] for file in description["files"]))
        names = ", ".join(
            f"{safe(file['name'])} ({byte_size(file['size'])})" for file in description["files"]
        )
        checked = {True: "intact", False: "not checked", None: "no manifest to check against"}[
            description["intact"]
        ]
        console.print()
        console.print(f"[bold]files[/bold]  {total}; {checked}\n  {names}", highlight=False)


def _table(figures: Any) -> Table:
    """A mapping as two columns, or rows of equal keys as a table."""
    if isinstance(figures, list):
        columns = list(figures[0])
        table = Table(*(safe(name) for name in columns), box=None, pad_edge=False)
        for column, name in zip(table.columns, columns, strict=True):
            column.justify = "left" if isinstance(figures[0][name], str) else "right"
        for row in figures:
            table.add_row(*(_cell(row.get(name)) for name in columns))
        return table
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in figures.items():
        table.add_row(safe(name), _cell(value))
    return table


def _tree(entry: JsonObject, tree: Tree | None = None) -> Tree:
    took = f", {long_duration(entry['seconds'])}" if entry.get("seconds") is not None else ""
    note = f"  [yellow]{safe(entry['note'])}[/yellow]" if entry.get("note") else ""
    label = f"{safe(entry['kind'])} {safe(entry['digest'][:12])}  {safe(entry['path'])}{took}{note}"
    branch = Tree(label) if tree is None else tree.add(label)
    for parent in entry["parents"]:
        _tree(parent, branch)
    return branch


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int | float) else safe(value)
