"""`parakit index DOCS --output INDEX`, and `parakit index search|eval|fit|data`: one's own documents, found by words and by
vectors.
"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from pydantic import Field
from rich.console import Console
from rich.table import Table

from parakit.assistants.retrieval.config import AskConfig, IndexConfig, SearchConfig
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import Needs, refuse_inert
from parakit.cli.rendering.documents.passages import hit_lines
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, read_json
from parakit.common.progress import log, progress
from parakit.common.settings import Config
from parakit.data.cleaning.config import parse_step
from parakit.data.cleaning.repair_text import RepairTextConfig

if TYPE_CHECKING:
    from parakit.assistants.retrieval.questions import IndexQuestion
    from parakit.assistants.retrieval.search import DocumentIndex

QUESTIONS = (
    'JSON lines {"question": ..., "relevant": [FILE, ...], "answers": [...]}; an empty `relevant` says that the documents have'
    " no answer. Default: questions that rules make about passages that are held out of training data."
)
ENCODER = "The index's encoder, if it is no longer where it was."
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
    `parakit index search|eval|fit|data INDEX ...`; a folder of documents with such a name is given as ./search.
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
    encoder: str | None = Field(default=None, description=ENCODER)
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON object."
    )


class IndexEvalCommandConfig(AskConfig):
    """Measure how well an index finds documents: recall, nDCG@10 and MRR of words, vectors, both, and a reranker, with
    intervals; with --model also the answers, closed-book, open-book and with the right passage.
    """

    index: tyro.conf.Positional[str] = Field(description="The folder of an index.")
    questions: str | None = Field(default=None, description=QUESTIONS)
    n_questions: int = Field(default=200, ge=1, description="Made questions at most.")
    model: str | None = Field(
        default=None, description="A chat model's folder, or a URL: its answers are measured too."
    )
    encoder: str | None = Field(default=None, description=ENCODER)
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    by: tyro.conf.Suppress[Literal["fused", "words", "vectors"]] = "fused"  # every kind is measured
    rewrite: tyro.conf.Suppress[Literal["words", "model", "none"]] = "words"
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON object."
    )


class IndexFitCommandConfig(SearchConfig):
    """Fit the threshold below which a question has no answer in the documents, and keep it with the index."""

    index: tyro.conf.Positional[str] = Field(description="The folder of an index.")
    questions: str | None = Field(default=None, description=QUESTIONS)
    n_questions: int = Field(default=200, ge=1, description="Made questions at most.")
    max_refused: float = Field(
        default=0.1, ge=0, lt=1, description="Share of the questions with an answer that may be refused."
    )
    encoder: str | None = Field(default=None, description=ENCODER)
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON object."
    )


class IndexDataCommandConfig(Config):
    """Write training data out of an index: pairs for an encoder, scored pairs for a reranker, conversations with citations
    for a model. `parakit finetune` reads them.
    """

    index: tyro.conf.Positional[str] = Field(description="The folder of an index.")
    output: str = Field(description="The folder to write.")
    kind: Literal["conversations", "embed", "regress"] = Field(
        default="conversations",
        description="conversations: questions with passages, answers with citations, and refusals; embed: questions with the"
        " passages that answer them and hard ones that do not; regress: questions with passages, 1 or 0.",
    )
    wordings: int = Field(default=2, ge=1, le=8, description="Questions about each fact at most.")
    n_negatives: int = Field(
        default=3,
        ge=1,
        le=20,
        description="With --kind embed or regress: passages that lack the answer, of each question.",
    )
    n_passages: int | None = Field(
        default=None,
        ge=1,
        le=1_000,
        description="With --kind conversations: passages of each at most. Default: as many as an answer has.",
    )
    refusal_share: float = Field(
        default=0.3,
        ge=0,
        lt=1,
        description="With --kind conversations: share whose passages lack the answer.",
    )
    encoder: str | None = Field(default=None, description=ENCODER)
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    overwrite: bool = Field(default=False, description="Replace an existing output folder.")
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
    index = _open(command)
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


def _values(settings: type[SearchConfig], command: Config) -> JsonObject:
    """The fields of `settings` that are set on the command line."""
    return {
        name: getattr(command, name) for name in settings.model_fields if name in command.model_fields_set
    }


MADE = Needs(
    ("n_questions",), lambda command: not command.questions, "the file's are taken", "leave --questions out"
)
_ANSWERS = ("n_passages", "context_tokens", "max_new_tokens", "temperature", "threshold")
_EVAL_NEEDS = (
    Needs(_ANSWERS, lambda command: command.model, "no answers are measured", "add --model MODEL"),
    Needs(("n_candidates",), lambda command: command.model, "100 are compared", "add --model MODEL"),
    RERANKED,
    MADE,
)
_DATA_NEEDS = (
    Needs(
        ("n_negatives",),
        lambda command: command.kind != "conversations",
        "a conversation has none",
        "take --kind embed or regress",
    ),
    Needs(
        ("n_passages", "refusal_share"),
        lambda command: command.kind == "conversations",
        "no conversation is written",
        "take --kind conversations",
    ),
)


def _eval(argv: list[str]) -> int:
    command = parse_command(IndexEvalCommandConfig, argv, "parakit index eval")
    refuse_inert(command, _EVAL_NEEDS)
    index = _open(command)
    from parakit.stages.documents.measuring import measure_answers, measure_retrieval

    questions = _questions(index, command)
    results: JsonObject = {"retrieval": measure_retrieval(index, questions, command.reranker)}
    if command.model:
        from parakit.api_documents import document_assistant

        assistant = document_assistant(
            command.model, index, device=command.device, **_values(AskConfig, command)
        )
        results["answers"] = measure_answers(assistant, questions)
    if command.as_json:
        print(json.dumps(results, ensure_ascii=False))
    else:
        _show(results)
    return 0


def _fit(argv: list[str]) -> int:
    command = parse_command(IndexFitCommandConfig, argv, "parakit index fit")
    refuse_inert(command, (RERANKED, FUSED, MADE))
    index = _open(command)
    from parakit.assistants.retrieval.indexing import store_threshold
    from parakit.stages.documents.measuring import measure_threshold

    config = SearchConfig(**_values(SearchConfig, command))
    fitted = measure_threshold(index, _questions(index, command), config, command.max_refused).to_json()
    store_threshold(command.index, fitted)
    if command.as_json:
        print(json.dumps(fitted))
        return 0
    figures, weights = fitted["figures"], " + ".join(f"{w:g} {name}" for name, w in fitted["weights"].items())
    print(f"{command.index}: questions below {fitted['value']:.4g} of {weights} are refused")
    for label, prefix in (("fitted", ""), ("held out", "held_out_")):
        refused = [figures[f"{prefix}refused_{kind}"] for kind in ("unanswerable", "answerable")]
        print(f"{label}: refuses {refused[0]:.1%} without an answer, {refused[1]:.1%} with one")
    return 0


def _data(argv: list[str]) -> int:
    command = parse_command(IndexDataCommandConfig, argv, "parakit index data")
    refuse_inert(command, _DATA_NEEDS)
    index = _open(command)
    from parakit.stages.documents.training_data import TrainingDataConfig, write_training_data

    names = ("wordings", "n_negatives", "refusal_share", "n_passages")
    config = TrainingDataConfig(**{name: getattr(command, name) for name in names})
    with progress("training data", unit="rows") as bar:
        write_training_data(command.kind, index, command.output, config, overwrite=command.overwrite, bar=bar)
    report = read_json(f"{command.output}/report.json")
    counts = {name: n if isinstance(n, int) else n["examples"] for name, n in report["splits"].items()}
    if command.as_json:
        print(json.dumps({"path": command.output, "kind": command.kind, "splits": counts}))
    else:
        task = "" if command.kind == "conversations" else f" --task {command.kind}"
        rows = ", ".join(f"{n:,} {name}" for name, n in counts.items())
        print(f"{command.output}: {rows} rows for parakit finetune{task}")
    return 0


def _open(command: Config) -> "DocumentIndex":
    from parakit.assistants.retrieval.search import DocumentIndex

    values = vars(command)
    return DocumentIndex(values["index"], encoder=values["encoder"], device=values["device"])


def _questions(index: "DocumentIndex", command: Config) -> "list[IndexQuestion]":
    from parakit.assistants.retrieval.questions import made_questions, read_questions

    values, passages = vars(command), index.passages()
    if values["questions"]:
        return read_questions(values["questions"], (one.source for one in passages))
    return made_questions(passages, values["n_questions"])


def _show(results: JsonObject) -> None:
    console, retrieval = Console(), results["retrieval"]
    names = list(next(iter(retrieval["searches"].values())))
    table = Table("search", *names, title=f"{retrieval['n_questions']:,} questions")
    for search, figures in retrieval["searches"].items():
        table.add_row(search, *(_cell(figures[name]) for name in names))
    console.print(table)
    for search, found in retrieval["differences"].items():
        line = f"nDCG@10 of {retrieval['compared_with']} over {search}: {found['value']:+.3f}"
        console.print(f"{line} ({found['low']:+.3f} to {found['high']:+.3f}, p = {found['p_value']:.3g})")
    if answers := results.get("answers"):
        shown = Table("answers", "figure")
        for name, value in answers.items():
            if value is not None:
                shown.add_row(name.replace("_", " "), _cell(value))
        console.print(shown)


def _cell(value: JsonObject | int) -> str:
    if isinstance(value, dict):
        return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
    return f"{value:,}"


_VERBS: dict[str, Callable[[list[str]], int]] = {
    "search": _search,
    "eval": _eval,
    "fit": _fit,
    "data": _data,
}
