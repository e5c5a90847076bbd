"""`parakit prompts list|show|run|compare`: prompts as files, measured on one's own inputs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import Field
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from parakit.cli.rendering.arguments import parse_command, parse_setting
from parakit.cli.rendering.conditions import OVERWRITES, Needs, refuse_inert
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import log
from parakit.common.settings import Config, closest_match
from parakit.inference.chat_models.locations import is_endpoint
from parakit.stages.prompts.config import PromptRunConfig, SampleConfig

if TYPE_CHECKING:
    from parakit.assistants.prompts.prompt import PromptTemplate
    from parakit.stages.prompts.running import PromptJob

COMMANDS = {
    "list": "The prompts of the library.",
    "show": "A prompt, as a file and with values in its fields.",
    "run": "Run a prompt on a table of inputs: replies, score, tokens.",
    "compare": "Run several prompts on the same inputs: better, worse, or cannot tell.",
    "sample": "Several replies to each input: votes, best of n, budgets; accuracy against tokens.",
}
SET = "FIELD=VALUE ...: values of the prompts' fields."


class PromptsListCommandConfig(Config):
    """List the prompts of the library."""

    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON array."
    )


class PromptsShowCommandConfig(Config):
    """Show a prompt, and the conversation that it makes."""

    prompt: tyro.conf.Positional[str] = Field(description="A prompt of the library, or a YAML or JSON file.")
    set_values: Annotated[tuple[str, ...], tyro.conf.arg(name="set")] = Field(default=(), description=SET)
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON object."
    )


class ModelFlags(Config):
    """The model of a command and where its results go."""

    model: tyro.conf.Positional[str] = Field(
        description="A chat model's folder, the folder of a build, or the URL of an OpenAI-compatible API."
    )
    set_values: Annotated[tuple[str, ...], tyro.conf.arg(name="set")] = Field(default=(), description=SET)
    model_name: str | None = Field(
        default=None, description="With a URL: the model's name there. Default: the first that it lists."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    output: str | None = Field(default=None, description="Folder for the results, the replies and a page.")
    overwrite: bool = Field(default=False, description="Replace an existing output folder.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print one JSON object."
    )


class PromptsRunCommandConfig(PromptRunConfig, ModelFlags):
    """Run a prompt on a table of inputs, or with --set on one input."""

    prompt: tyro.conf.Positional[str] = Field(description="A prompt of the library, or a YAML or JSON file.")
    items: str | None = Field(
        default=None,
        description="The inputs: a CSV, JSON lines, JSON or Parquet file with a column for each field.",
    )


class PromptsCompareCommandConfig(PromptRunConfig, ModelFlags):
    """Compare prompts with the first by paired tests on the same inputs, with the tokens that each costs. The same command
    resumes an interrupted run.
    """

    prompts: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="PROMPT ...")] = Field(
        description="Prompts of the library, or files; the first is the reference."
    )
    items: str = Field(
        description="The inputs: a CSV, JSON lines, JSON or Parquet file with a column for each field."
    )


class PromptsSampleCommandConfig(SampleConfig, ModelFlags):
    """Sample several replies to each input, and measure what votes, verifiers and longer thinking bring for their tokens. The
    same command resumes an interrupted run.
    """

    prompt: tyro.conf.Positional[str] = Field(description="A prompt of the library, or a YAML or JSON file.")
    items: str = Field(
        description="The inputs: a CSV, JSON lines, JSON or Parquet file with a column for each field."
    )


Command = PromptsRunCommandConfig | PromptsCompareCommandConfig | PromptsSampleCommandConfig
EXAMPLES = Needs(
    ("n_shots", "select"),
    lambda command: command.examples,
    "no training rows are given",
    "add --examples FILE",
)
CRITERION = Needs(
    ("criterion",), lambda command: command.metric == "judge", "no judge grades", "take --metric judge"
)
NAME = Needs(
    ("model_name",),
    lambda command: is_endpoint(command.model),
    "a folder holds one model",
    "give the model's URL",
)
_TABLE = (
    *(
        "metric",
        "checker",
        "judge",
        "criterion",
        "answer_field",
        "limit",
        "examples",
        "n_shots",
        "select",
        "calibrate",
    ),
    *("output", "seed"),
)
ITEMS = Needs(_TABLE, lambda command: command.items, "one input is run, without a score", "add --items FILE")


def main(argv: list[str]) -> int:
    """Run `parakit prompts VERB ...`; returns the exit status."""
    if not argv or argv[0] in ("-h", "--help"):
        lines = [f"  {verb:8} {summary}" for verb, summary in COMMANDS.items()]
        print("\n".join(["usage: parakit prompts VERB ...", "", "Prompts that are measured.", "", *lines]))
        return 0 if argv else 2
    verb, *rest = argv
    if verb not in COMMANDS:
        close = closest_match(verb, COMMANDS)
        raise UserError(
            f"parakit prompts: unknown verb {verb!r}",
            f"did you mean {close!r}?" if close else f"verbs: {', '.join(COMMANDS)}",
        )
    return {"list": _list, "show": _show, "run": _run, "compare": _compare, "sample": _sample}[verb](rest)


def _list(argv: list[str]) -> int:
    command = parse_command(PromptsListCommandConfig, argv, "parakit prompts list")
    from parakit.assistants.prompts.library import library_prompts

    prompts = library_prompts()
    if command.as_json:
        print(json.dumps([one.model_dump(mode="json") for one in prompts], ensure_ascii=False))
        return 0
    table = Table("prompt", "fields", "", box=box.SIMPLE_HEAD, pad_edge=False)
    for one in prompts:
        table.add_row(one.name, ", ".join(one.fields), escape(one.summary))
    Console().print(table)
    return 0


def _show(argv: list[str]) -> int:
    command = parse_command(PromptsShowCommandConfig, argv, "parakit prompts show")
    (prompt,) = _prompts((command.prompt,), command.set_values)
    shown = {name: prompt.values.get(name, f"[{name}]") for name in prompt.fields}
    messages = prompt.messages(shown)
    if command.as_json:
        rows = [one.to_row() for one in messages]
        print(json.dumps({"prompt": prompt.model_dump(mode="json"), "messages": rows}, ensure_ascii=False))
        return 0
    import yaml

    own = prompt.model_dump(mode="json", exclude_defaults=True)
    print(yaml.safe_dump(own, sort_keys=False, allow_unicode=True, width=100).rstrip())
    print()
    for one in messages:
        print(f"# {one.role}\n{one.content}\n")
    return 0


def _run(argv: list[str]) -> int:
    command = parse_command(PromptsRunCommandConfig, argv, "parakit prompts run")
    refuse_inert(command, (ITEMS, EXAMPLES, CRITERION, NAME, OVERWRITES))
    if command.items is not None:
        return _measure(command, (command.prompt,), command.items)
    (prompt,) = _prompts((command.prompt,), command.set_values)
    if missing := prompt.required:
        raise UserError(
            f"the prompt {prompt.name} has no value for {missing[0]!r}",
            f"--set {missing[0]}=VALUE, or --items FILE",
        )
    from parakit.assistants.prompts.items import PromptItem
    from parakit.assistants.prompts.replies import requests_of, run_prompt

    model = _job(command, (prompt,), "").open()
    (answer,) = run_prompt(model, prompt, requests_of([PromptItem("1", {})]))
    if command.as_json:
        print(json.dumps(answer.to_json(), ensure_ascii=False))
        return 0
    if answer.reply is None:
        raise UserError("the prompt does not fit into the model's context window", "shorten it")
    if answer.reasoning:
        log(f"reasoning: {answer.reasoning}")
    print(answer.reply)
    log(f"{answer.n_prompt_tokens} prompt tokens, {answer.n_new_tokens} new ones")
    return 0


def _compare(argv: list[str]) -> int:
    command = parse_command(PromptsCompareCommandConfig, argv, "parakit prompts compare")
    refuse_inert(command, (EXAMPLES, CRITERION, NAME, OVERWRITES))
    if len(command.prompts) < 2:
        raise UserError(
            f"a comparison needs two prompts, and {len(command.prompts)} is named",
            "name the reference first: parakit prompts compare MODEL zero_shot chain_of_thought --items FILE",
        )
    return _measure(command, command.prompts, command.items)


def _sample(argv: list[str]) -> int:
    command = parse_command(PromptsSampleCommandConfig, argv, "parakit prompts sample")
    refuse_inert(command, (CRITERION, NAME, OVERWRITES))
    prompts = _prompts((command.prompt,), command.set_values)
    from parakit.reports.prompts.samples import error_lines, sample_rows
    from parakit.stages.prompts.sampling import measure_samples

    config = SampleConfig.parse({name: getattr(command, name) for name in SampleConfig.model_fields})
    out = Path(command.output) if command.output else None
    results = measure_samples(_job(command, tuple(prompts), command.items), config, out, command.overwrite)
    if command.as_json:
        print(json.dumps(results, ensure_ascii=False))
    else:
        _print_rows(sample_rows(results), error_lines(results))
    if out:
        log(f"replies and page: {out / 'report.html'}")
    return 0


def _measure(
    command: PromptsRunCommandConfig | PromptsCompareCommandConfig, names: tuple[str, ...], items: str
) -> int:
    prompts = _prompts(names, command.set_values)
    from parakit.stages.prompts.running import measure_prompts

    out = Path(command.output) if command.output else None
    results = measure_prompts(_job(command, tuple(prompts), items), out, command.overwrite)
    if command.as_json:
        print(json.dumps(results, ensure_ascii=False))
    else:
        _print(results)
    if out:
        log(f"replies and page: {out / 'report.html'}")
    return 0


def _job(
    command: Command,
    prompts: "tuple[PromptTemplate, ...]",
    items: str,
) -> "PromptJob":
    from parakit.common.devices import pick_device
    from parakit.recipe.build_folder import model_location
    from parakit.stages.prompts.running import PromptJob

    settings = {
        name: getattr(command, name) for name in PromptRunConfig.model_fields if hasattr(command, name)
    }
    device = command.device if is_endpoint(command.model) else str(pick_device(command.device))
    return PromptJob(
        model_location(command.model),
        prompts,
        items,
        PromptRunConfig.parse(settings),
        command.model_name,
        device,
    )


def _prompts(names: tuple[str, ...], settings: tuple[str, ...]) -> "list[PromptTemplate]":
    """Prompts by name, with the values of --set; each value is one of at least one prompt's fields."""
    from parakit.assistants.prompts.library import open_prompts
    from parakit.assistants.prompts.prompt import with_values

    values: JsonObject = dict(map(parse_setting, settings))
    prompts = open_prompts(names)
    fields = {name for prompt in prompts for name in prompt.fields}
    for name in values:
        if name not in fields:
            with_values(prompts[0], {name: ""})  # raises, with the nearest field
    return [
        with_values(prompt, {key: value for key, value in values.items() if key in prompt.fields})
        for prompt in prompts
    ]


def _print(results: JsonObject) -> None:
    from parakit.reports.prompts.compared import prompt_notes, prompt_rows

    _print_rows(prompt_rows(results), prompt_notes(results))


def _print_rows(rows: list[JsonObject], notes: list[str]) -> None:
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for heading in rows[0]:
        table.add_column(heading, no_wrap=True, overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(value)).replace(" (", "\n(") for value in row.values()))
    console = Console()
    console.print(table)
    for note in notes:
        console.print(escape(f"{note}."), highlight=False, soft_wrap=True)
