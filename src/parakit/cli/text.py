"""`parakit text`: prepare a corpus, conversations, preferences or examples, from files or from the primer."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field
from rich.console import Console
from rich.markup import escape

from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.cleaning import cleaning_lines
from parakit.cli.rendering.conditions import Needs, refuse_inert
from parakit.cli.rendering.inventory import show_inventory
from parakit.cli.rendering.show_sets import split_table
from parakit.cli.rendering.skipped_files import reading_lines, skipped_lines
from parakit.common.artifacts import LINEAGE, open_artifact
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, is_file, read_json
from parakit.common.formatting import quantity
from parakit.common.progress import progress
from parakit.common.remote import uploading
from parakit.data.cleaning.config import parse_step
from parakit.data.config import TextConfig
from parakit.data.conversations.from_documents import DocumentQuestionsConfig
from parakit.data.conversations.sets import prepare_conversations
from parakit.data.corpus import prepare_corpus
from parakit.data.mixing import check_shares
from parakit.data.mixture import CurriculumStage, TextSource
from parakit.data.preferences.sets import prepare_preferences
from parakit.data.row_report import skip_summary
from parakit.primer.config import PrimerConfig
from parakit.primer.sources import primer_conversations, primer_documents, primer_preferences
from parakit.primer.statistics import compute_statistics
from parakit.stages.data_config import CorpusConfig, ExamplesConfig
from parakit.training.doctor.corpus import check_corpus
from parakit.training.doctor.registry import log_warnings
from parakit.training.task_names import ExampleTaskName

_MAX_NAMES = 5
RULES = "rules"  # in place of the model that writes questions
_COUNTS = {
    "duplicates": "duplicates left out",
    "validation_duplicates": "duplicates of validation documents left out",
    "headers_stripped": "Project Gutenberg headers left out",
    "windows_newlines": "Windows line ends made plain",
    "bad_bytes": "bytes that are not text in their file's encoding replaced",
    "broken_rows": "broken rows left out",
    "empty_rows": "empty rows left out",
    "long_lines": "lines over the limit left out",
    "quoted_lines": "quoted lines of e-mails left out",
    "signature_lines": "lines of e-mails' signatures left out",
    "running_heads": "running heads and page numbers of PDF files left out",
    "scanned_pages": "pages of PDF files left out: pictures without text, for text recognition (OCR)",
}
_LEFT_OUT = {
    "near_duplicates": "near-duplicates of a text that is held out",
    "over_max_source_share": "over max_source_share",
}

DEFAULT_STEPS = tuple(step.step for step in TextConfig().cleaning)
_SPLITS = {  # the settings of text that each other kind of data has
    "--task": ("validation_paths", "validation_fraction", "test_fraction"),
    "--conversations": ("validation_fraction",),
    "--preferences": ("validation_fraction", "test_fraction"),
}


class TextCommandConfig(TextConfig):
    """Prepare text as a corpus: cleaned, deduplicated, split into train, validation and test."""

    paths: tyro.conf.Positional[tuple[str, ...]] = Field(default=(), description="Files and folders to read.")
    output: str = Field(default="", description="The folder to write.")
    dry_run: bool = Field(
        default=False,
        description="Only list what would be read and what not, and why; nothing is written.",
    )
    use_primer: Annotated[bool, tyro.conf.arg(name="primer")] = Field(
        default=False, description="Generate the built-in primer instead of reading files."
    )
    seed: int = Field(default=0, description="Seed of the primer, and of the sampling with --shares.")
    conversations: bool = Field(
        default=False, description="Read (or generate) conversations for fine-tuning instead of text."
    )
    cleaning: Annotated[tuple[str, ...], tyro.conf.arg(name="clean")] = Field(  # type: ignore[assignment]
        default=DEFAULT_STEPS,
        description="Cleaning steps, in their order, with parameters where wanted: repair_text language:keep=en,de;"
        " --clean alone: none. See docs/cleaning.md.",
    )
    shares: tuple[float, ...] = Field(
        default=(),
        description="Proportions in which the paths are mixed, for example 3 1: of text, in the training tokens of every"
        " run; of --conversations, in rows.",
    )
    questions_from: str | None = Field(
        default=None,
        description="Make conversations about the documents: questions with answers, which are checked against the text."
        " Who writes them: a chat model's folder, the URL of an OpenAI-compatible API, or `rules`, plain patterns for English"
        " that find facts and word several questions about each.",
    )
    questions_model: str | None = Field(
        default=None,
        description="With --questions-from URL: the model's name there. Default: the first that it lists.",
    )
    template: str | None = Field(
        default=None,
        description="With --questions-from: a file with the request, in which {passage} is the text.",
    )
    n_questions: int = Field(
        default=3, ge=1, le=20, description="With --questions-from: questions for each passage."
    )
    max_passages: int = Field(
        default=1_000, ge=1, description="With --questions-from: passages of each split at most."
    )
    sources: tyro.conf.Suppress[tuple[TextSource, ...]] = ()
    curriculum: tyro.conf.Suppress[tuple[CurriculumStage, ...]] = ()
    preferences: bool = Field(
        default=False, description="Read (or generate) preferences for alignment instead of text."
    )
    task: ExampleTaskName | None = Field(
        default=None, description="Read (or generate) examples of this task instead of text."
    )
    statistics: bool = Field(
        default=False,
        description="With --primer: print how varied the text is, and how much of the suites occurs in it.",
    )
    overwrite: bool = Field(default=False, description="Replace an existing output folder.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the report as one JSON object."
    )

    @property
    def primer(self) -> PrimerConfig | None:
        """The primer to generate; None: the paths are read."""
        return PrimerConfig(seed=self.seed) if self.use_primer else None


_NEEDS = (
    Needs(
        ("questions_model", "template", "n_questions"),
        lambda command: command.questions_from not in (None, RULES),
        "no model writes questions",
        "add --questions-from MODEL",
    ),
    Needs(
        ("max_passages",),
        lambda command: command.questions_from,
        "no questions are made",
        "add --questions-from MODEL or --questions-from rules",
    ),
    Needs(
        ("dry_run",),
        lambda command: (
            not (command.use_primer or command.conversations or command.preferences or command.task)
        ),
        "it lists files of text",
        "name files or folders of text alone",
    ),
    Needs(
        ("fetch",),
        lambda command: not command.dry_run,
        "with --dry-run nothing is fetched, what was saved before is listed",
        "leave --dry-run out",
    ),
    Needs(
        ("output", "overwrite"),
        lambda command: not command.dry_run,
        "with --dry-run nothing is written",
        "leave --dry-run out",
    ),
    Needs(("statistics",), lambda command: command.use_primer, "it describes the primer", "add --primer"),
    Needs(
        ("shares",),
        lambda command: not (command.use_primer or command.preferences or command.task),
        "it mixes files of text or of conversations",
        "name files",
    ),
    Needs(
        ("seed",),
        lambda command: (
            command.use_primer or command.questions_from or (command.shares and command.conversations)
        ),
        "nothing is drawn at random",
        "add --primer, --questions-from, or --shares with --conversations",
    ),
    Needs(
        ("test_fraction",),
        lambda command: not (command.use_primer and command.preferences),
        "the primer's preferences have no test split",
        "name files",
    ),
)


def main(argv: list[str]) -> int:
    """Run `parakit text` with these arguments; 0 when the folder was written."""
    command = parse_command(TextCommandConfig, argv, "parakit text")
    refuse_inert(command, _NEEDS)
    if command.use_primer and command.paths:
        raise UserError("both --primer and paths were given", "keep one of the two")
    if command.dry_run:
        if not command.paths:
            raise UserError("no text was given", "name files or folders to read")
        config = command.model_copy(update={"cleaning": tuple(map(parse_step, command.cleaning))})
        return show_inventory(config, command.as_json)
    if not command.output:
        raise UserError(
            "no folder to write was given", "add --output FOLDER, or --dry-run to list the files only"
        )
    with uploading(command.output, command.overwrite) as folder:
        _preparation(command)(command.model_copy(update={"output": folder}))
        report = read_json(f"{folder}/report.json")
        artifact = open_artifact(folder, verify=False)
    if command.statistics:
        report["primer"] = compute_statistics(PrimerConfig(seed=command.seed))
    if command.as_json:
        print(json.dumps({"path": command.output, "kind": artifact.kind, "digest": artifact.digest} | report))
    else:
        _show(command, report)
        if command.statistics:
            print(json.dumps(report["primer"], indent=2))
    return 0


def _preparation(command: TextCommandConfig) -> Callable[[TextCommandConfig], None]:
    """The function that makes the requested folder; two requests are a `UserError`."""
    kinds = {"--task": _examples, "--conversations": _conversations, "--preferences": _preferences}
    kinds["--questions-from"] = _questions
    given = [flag for flag in kinds if getattr(command, flag.removeprefix("--").replace("-", "_"))]
    if len(given) > 1:
        raise UserError(
            f"{given[0]} and {given[1]} were both given",
            "keep one: chat learns from conversations, a reward model and DPO from preferences",
        )
    if given and given[0] in _SPLITS:
        _refuse_unused(command, given[0])
    return kinds[given[0]] if given else _corpus


def _refuse_unused(command: TextCommandConfig, kind: str) -> None:
    """`UserError` for a setting of plain text that is set and that `kind` does not have."""
    set_here = command.model_fields_set & set(TextConfig.model_fields)
    if unused := sorted(set_here - {"paths", *_SPLITS[kind]}):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in unused).replace("--cleaning", "--clean")
        has = ", ".join(f"--{name.replace('_', '-')}" for name in _SPLITS[kind])
        raise UserError(
            f"{flags} {'is' if len(unused) == 1 else 'are'} set but {'has' if len(unused) == 1 else 'have'} no effect"
            f" with {kind}",
            f"remove it; what sets the splits there: {has}",
        )


def _questions(command: TextCommandConfig) -> None:
    from parakit.stages.corpora.questions import make_document_questions

    values: JsonObject = {"max_passages": command.max_passages}
    if command.questions_from == RULES:
        values |= {"writer": RULES}
    else:
        values |= {"model": command.questions_from, "model_name": command.questions_model}
        values |= {"n_questions": command.n_questions}
        values |= {"template": command.template} if command.template else {}
    config = DocumentQuestionsConfig.parse(values, "parakit text")
    with tempfile.TemporaryDirectory(prefix="parakit-text-") as folder:
        corpus = Path(command.paths[0]) if len(command.paths) == 1 else Path(folder) / "corpus"
        if not is_file(corpus / LINEAGE):
            corpus = Path(folder) / "corpus"
            _corpus(command, str(corpus))
        make_document_questions(
            config, corpus, Path(command.output), overwrite=command.overwrite, seed=command.seed
        )


def _corpus(command: TextCommandConfig, output: str = "") -> None:
    values = {
        name: getattr(command, name) for name in TextConfig.model_fields if name in command.model_fields_set
    }
    if command.shares:
        check_shares(command.shares, command.paths)
        pairs = zip(values.pop("paths"), command.shares, strict=True)
        values["sources"] = [{"paths": [path], "weight": share, "name": path} for path, share in pairs]
    if command.primer:
        values["primer"] = {"seed": command.seed}
    config = CorpusConfig.parse(values, "parakit text")
    source = primer_documents(config.primer) if config.primer else None
    with progress("text", unit="bytes") as bar:
        made = prepare_corpus(config, output or command.output, command.overwrite, bar, source)
    log_warnings("text", check_corpus(read_json(made / "report.json")))


def _conversations(command: TextCommandConfig) -> None:
    with progress("conversations", unit="conversations") as bar:
        prepare_conversations(
            primer_conversations(command.primer) if command.primer else command.paths,
            command.output,
            validation_fraction=command.validation_fraction,
            shares=command.shares,
            seed=command.seed,
            overwrite=command.overwrite,
            progress=bar,
        )


def _preferences(command: TextCommandConfig) -> None:
    with progress("preferences", unit="rankings") as bar:
        prepare_preferences(
            primer_preferences(command.primer) if command.primer else command.paths,
            command.output,
            validation_fraction=command.validation_fraction,
            test_fraction=0.0 if command.primer else command.test_fraction,
            overwrite=command.overwrite,
            progress=bar,
        )


def _examples(command: TextCommandConfig) -> None:
    from parakit.stages.data import make_examples

    values: JsonObject = {"validation_paths": command.validation_paths}
    values |= {"primer": {"seed": command.seed}} if command.primer else {"paths": command.paths}
    for name in ("validation_fraction", "test_fraction"):
        if name in command.model_fields_set:
            values[name] = getattr(command, name)
    assert command.task is not None
    config = ExamplesConfig.parse(values, "parakit text")
    make_examples(config, command.task, Path(command.output), command.overwrite)


def _show(command: TextCommandConfig, report: JsonObject) -> None:
    console = Console()
    console.print(split_table(report, command.output))
    if report.get("split_by") == "region":
        console.print(
            "too few texts to hold whole ones out: held out are regions at the ends of texts, each after a gap of"
            f" {quantity(report['gap']['bytes'])} bytes in all that no split has"
        )
    if (
        max_chars := report.get("max_document_chars", command.max_document_chars)
    ) < command.max_document_chars:
        console.print(f"texts cut to at most {max_chars:,} characters, so that every split has documents")
    for line in _notes(report, command.output):
        console.print(escape(line), highlight=False)


def _notes(report: JsonObject, folder: str) -> list[str]:
    """What was changed or left out, a line each, with the first few names."""
    notes = [f"{report[name]:,} {meaning}" for name, meaning in _COUNTS.items() if report.get(name)]
    notes += reading_lines(report)
    notes += cleaning_lines(report)
    if "pairs" in report:
        notes.append(
            f"{report['kept']:,} of {report['pairs']:,} pairs of question and answer pass the checks"
        )
        notes += [f"  left out, {reason}: {n:,}" for reason, n in report["rejected"].items()]
        notes.append(f"{report['test_of_held_out_documents']:,} about held-out documents: test.jsonl")
    if n := report.get("near_duplicate_texts"):
        notes.append(f"{n:,} texts resemble another one: they are in its split")
    if n := report.get("templated_texts"):
        notes.append(f"{n:,} texts share a template; each is split by itself")
    for name, meaning in _LEFT_OUT.items():
        if (counts := report.get(name, {})).get("documents"):
            notes.append(
                f"{counts['documents']:,} documents ({quantity(counts['bytes'])} bytes) left out: {meaning}"
            )
    notes += [
        f"read as {name}: {n:,} file{'' if n == 1 else 's'}"
        for name, n in report.get("encodings", {}).items()
        if name != "utf-8"
    ]
    guessed = list(report.get("guessed_files", {}).items())
    notes += [f"  {name}: {encoding}, recognized from its letters" for name, encoding in guessed[:_MAX_NAMES]]
    bad = sorted(report.get("bad_files", {}).items(), key=lambda item: -item[1])
    notes += [f"  {name}: {n:,} bytes that are not text" for name, n in bad[:_MAX_NAMES]]
    scanned = list(report.get("scanned_files", {}).items())
    notes += [f"  {name}: {n:,} scanned pages" for name, n in scanned[:_MAX_NAMES]]
    broken = report.get("broken_files", {}).items()
    notes += [
        f"  {name}: {rows['n']:,} broken rows; {rows['why']}" for name, rows in list(broken)[:_MAX_NAMES]
    ]
    notes += skip_summary(report)
    notes += [
        f"{row['source']}: {row['taken']:,} in the mixture ({row['share']:.1%}), of {row['conversations']:,};"
        f" {row['skipped_rows']:,} left out"
        for row in report.get("mixture", [])
    ]
    return notes + list(skipped_lines(report, folder))
