"""`parakit index DOCS --output INDEX`, and `parakit index search`: one's own documents, found by words and by vectors."""

import json
from collections.abc import Callable
from typing import Annotated

import tyro
from pydantic import Field

from parakit.assistants.retrieval.config import IndexConfig, SearchConfig
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import Needs, refuse_inert
from parakit.cli.rendering.passages import hit_lines
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import log
from parakit.data.cleaning.config import parse_step
from parakit.data.cleaning.repair_text import RepairTextConfig

DEFAULT_STEPS = (RepairTextConfig().step,)
RERANKED = Needs(
    ("n_reranked",), lambda command: command.reranker, "nothing is ranked again", "add --reranker MODEL"
)
FUSED = Needs(
    ("n_candidates",),
    lambda command: command.by == "fused" or command.reranker,
    "one kind of search has nothing to fuse",
    "search --by fused",
)


class IndexCommandConfig(IndexConfig):
    """Index documents, or bring an index up to date: only files that were added, changed or removed are read. Verbs:
    `parakit index search INDEX QUERY`. A folder of documents with a verb's name is given as ./search.
    """

    paths: tyro.conf.Positional[tuple[str, ...]] = Field(
        default=(), description="Files and folders of documents. Default: those of the index."
    )
    output: str = Field(default="", description="The index: a folder to write or to bring up to date.")
    cleaning: Annotated[tuple[str, ...], tyro.conf.arg(name="clean")] = Field(  # type: ignore[assignment]
        default=DEFAULT_STEPS, description="Cleaning steps, as in `parakit text`; --clean alone: none."
    )
    device: str = Field(default="auto", description="Of the encoder: auto, cpu, cuda, cuda:1, mps.")
    overwrite: bool = Field(default=False, description="Make the index from nothing.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the report as one JSON object."
    )


class IndexSearchCommandConfig(SearchConfig):
    """Find passages of an index."""

    index: tyro.conf.Positional[str] = Field(description="The folder of an index.")
    query: tyro.conf.Positional[str] = Field(description="What to look for.")
    encoder: str | None = Field(
        default=None, description="The index's encoder, if it is no longer where it was."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit index` with these arguments; 0 when the index is up to date, or the verb has done its work."""
    if argv and argv[0] in _VERBS:
        return _VERBS[argv[0]](argv[1:])
    command = parse_command(IndexCommandConfig, argv, "parakit index")
    if not command.output:
        raise UserError("no index was named", "add --output INDEX")
    values: JsonObject = {
        name: getattr(command, name) for name in IndexConfig.model_fields if name in command.model_fields_set
    }
    if "cleaning" in values:
        values["cleaning"] = tuple(map(parse_step, command.cleaning))
    from parakit.assistants.retrieval.indexing import index_documents  # imports numpy

    config = IndexConfig.parse(values, "parakit index", flags=True)
    report = index_documents(config, command.output, overwrite=command.overwrite, device=command.device)
    if command.as_json:
        print(json.dumps({"path": command.output} | report, ensure_ascii=False))
        return 0
    changes = ", ".join(f"{n:,} {name}" for name, n in report["files"].items() if n)
    print(f"{command.output}: {report['n_passages']:,} passages of {report['n_files']:,} files ({changes})")
    for reason, n in sorted(report["skipped"].items()):
        log(f"left out: {n:,} x {reason}")
    if report["files"]["unreadable"]:
        log("files that cannot be read keep the passages that the index had of them")
    return 0


def _search(argv: list[str]) -> int:
    command = parse_command(IndexSearchCommandConfig, argv, "parakit index search")
    refuse_inert(command, (RERANKED, FUSED))
    from parakit.assistants.retrieval.search import DocumentIndex

    index = DocumentIndex(command.index, encoder=command.encoder, device=command.device)
    found = index.search(command.query, SearchConfig(**_values(SearchConfig, command)))
    if command.as_json:
        passages = [hit.to_json() for hit in found.hits]
        print(json.dumps({"passages": passages, "signals": found.signals}, ensure_ascii=False))
        return 0
    if not found.hits:
        print("nothing found")
    for number, hit in enumerate(found.hits, 1):
        print("\n".join(hit_lines(number, hit)))
    return 0


def _values(settings: type[SearchConfig], command: SearchConfig) -> JsonObject:
    """The fields of `settings` that are set on the command line."""
    return {
        name: getattr(command, name) for name in settings.model_fields if name in command.model_fields_set
    }


_VERBS: dict[str, Callable[[list[str]], int]] = {"search": _search}
