"""`parakit agent`: a model works on a task with tools."""

import json
import sys
from typing import TYPE_CHECKING, Annotated

import tyro
from pydantic import Field
from rich.console import Console

from parakit.assistants.agent.config import AgentConfig
from parakit.cli.rendering.arguments import parse_command
from parakit.cli.rendering.conditions import GREEDY, Needs, refuse_inert
from parakit.cli.rendering.safe_text import plain, safe
from parakit.common.errors import UserError
from parakit.common.progress import log
from parakit.inference.chat_models.locations import is_endpoint

if TYPE_CHECKING:
    from parakit.assistants.agent.loop import AgentStep
    from parakit.assistants.tools.tool import AgentTool
    from parakit.data.conversations.messages import ToolCall

_NEEDS = (
    GREEDY,
    Needs(("model_name",), lambda command: is_endpoint(command.model), "the model is a folder", "name a URL"),
    Needs(
        ("device",), lambda command: not is_endpoint(command.model), "the model is at a URL", "name a folder"
    ),
)
SHOWN_LINES, SHOWN_CHARS = 6, 200  # of a result


class AgentCommandConfig(AgentConfig):
    """Let a model work on a task with tools: functions of a file, built-in ones, MCP servers. A call that may change something
    waits for your yes.
    """

    model: tyro.conf.Positional[str] = Field(
        description="A model folder, the folder of a build, or the URL of an endpoint."
    )
    task: tyro.conf.Positional[str] = Field(default="-", description="The task; - reads standard input.")
    tools: tuple[str, ...] = Field(
        default=(),
        description="calculator, date, python (in the sandbox), read_file=FOLDER, search=INDEX (of `parakit index`), and files"
        " FILE.py whose functions with type hints become tools.",
    )
    mcp: tuple[str, ...] = Field(
        default=(),
        description="MCP servers: each a command in quotation marks, or a URL; PREFIX=... puts a prefix before the names of its"
        " tools.",
    )
    allow: tuple[str, ...] = Field(
        default=(), description="Tools whose calls need no confirmation; all: every tool."
    )
    system: str = Field(default="", description="The system prompt.")
    transcripts: str = Field(
        default="agent-runs",
        description="The folder of the records: a file for each run, and conversations.jsonl to tune on.",
    )
    model_name: str | None = Field(default=None, description="The model's name at an endpoint.")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = Field(
        default=False, description="Print the run as one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run `parakit agent` with these arguments; 0 where the model answered, 1 where a limit ended the run."""
    command = parse_command(AgentCommandConfig, argv, "parakit agent")
    refuse_inert(command, _NEEDS)
    task = (sys.stdin.read() if command.task == "-" else command.task).strip()
    if not task:
        raise UserError("the task is empty", "parakit agent MODEL 'What is 12 * 34?' --tools calculator")
    from parakit.api_agents import open_agent_model, open_tools
    from parakit.assistants.agent.loop import run_agent
    from parakit.assistants.agent.models import LocalAgentModel
    from parakit.assistants.agent.transcripts import RunTranscript
    from parakit.data.conversations.messages import Message

    config = AgentConfig(**{name: getattr(command, name) for name in AgentConfig.model_fields})
    messages = [Message("system", command.system)] if command.system else []
    messages.append(Message("user", task))
    with open_tools(command.tools, command.mcp, command.allow, config) as box:
        if not command.as_json:
            log("tools: " + (", ".join(_described(tool) for tool in box.tools) or "none"))
        model = open_agent_model(command.model, device=command.device, name=command.model_name)
        if isinstance(model, LocalAgentModel) and box.tools and not model.has_tool_form:
            log("the chat template has no form for tools: the system prompt describes them")
        console = Console(stderr=command.as_json, highlight=False)
        with RunTranscript(command.transcripts, model.name, messages, box, config) as record:

            def show(step: "AgentStep") -> None:
                record.add(step)
                if not command.as_json:
                    _show(console, step)

            run = run_agent(model, messages, box, config, confirm=_confirm, on_step=show)
            record.finish(run)
    if command.as_json:
        rows = [one.to_row() for one in run.calls]
        print(json.dumps(run.to_row() | {"calls": rows, "transcript": str(record.path)}, ensure_ascii=False))
    else:
        if run.outcome != "answered":
            log(run.reason)
        log(
            f"{len(run.steps)} turns, {run.n_tokens} tokens, {run.seconds:.1f} s; the record is {record.path}"
        )
    return 0 if run.outcome == "answered" else 1


def _described(tool: "AgentTool") -> str:
    return f"{tool.name} ({tool.origin}{', confirmed' if tool.changes else ''})"


def _show(console: Console, step: "AgentStep") -> None:
    """A turn: its words, and its calls with their results."""
    if step.message.content:
        console.print(safe(step.message.content))
    for one in step.calls:
        console.print(f"[bold]{safe(one.call.name)}[/bold] {safe(one.call.arguments)}")
        lines = one.result.text.splitlines() or [""]
        shown = [safe(line[:SHOWN_CHARS]) for line in lines[:SHOWN_LINES]]
        more = len(lines) - len(shown)
        console.print("  " + "\n  ".join([*shown, *([f"({more} more lines)"] if more else [])]), style="dim")


def _confirm(tool: "AgentTool", call: "ToolCall") -> bool:
    """Wait for a yes on the terminal; where there is none, nothing is changed."""
    if not sys.stdin.isatty():
        return False
    question = f"{tool.name} ({tool.origin}) may change something: {plain(call.arguments)}"
    print(question, file=sys.stderr)
    return input("make this call? [y/N] ").strip().lower() in ("y", "yes")
