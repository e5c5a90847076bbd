"""`parakit.agent`: a model that works on a task with tools; `open_tools`, which both it and the command call."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from parakit.api import load
from parakit.assistants.agent.config import AgentConfig
from parakit.assistants.agent.loop import AgentRun, AgentStep, ConfirmCall, never, run_agent
from parakit.assistants.agent.models import AgentModel, EndpointAgentModel, LocalAgentModel
from parakit.assistants.agent.transcripts import RunTranscript
from parakit.assistants.tools import built_in
from parakit.assistants.tools.config import ToolLimits
from parakit.assistants.tools.functions import function_tool
from parakit.assistants.tools.mcp_client import McpServer, McpServers
from parakit.assistants.tools.tool import AgentTool, ToolBox, ToolError, allowed
from parakit.assistants.tools.worker_client import FunctionFile
from parakit.common.errors import UserError
from parakit.common.settings import closest_match
from parakit.data.conversations.messages import Message
from parakit.inference.chat_models.locations import is_endpoint
from parakit.inference.chat_models.openai import OpenAIChatConfig, OpenAIChatModel
from parakit.inference.loaded_model import Model

ToolSpec = str | Callable[..., Any] | AgentTool
"""A function, a tool, or as on the command line: calculator, date, python, read_file=FOLDER, search=INDEX,
FILE.py.
"""
PLAIN_TOOLS = ("calculator", "date", "python")


def agent(
    model: str | Path | Model,
    task: str,
    *,
    tools: Sequence[ToolSpec] = (),
    mcp: Sequence[str] = (),
    allow: Sequence[str] = (),
    confirm: ConfirmCall = never,
    system: str = "",
    transcripts: str | Path | None = None,
    on_step: Callable[[AgentStep], object] | None = None,
    device: str = "auto",
    **settings: Any,
) -> AgentRun:
    """Let a model work on a task with tools; returns the run, with its answer, messages and steps.

    `model`: a folder, a loaded model, or the URL of an endpoint. `tools`: functions with type hints, `AgentTool`s, or as on
    the command line; `mcp`: commands or URLs of MCP servers. Calls that may change something are made where `allow` names the
    tool (`all`: every tool) or `confirm(tool, call)` is true, else refused. `settings`: the fields of `AgentConfig`.
    Raises `UserError` for tools that are none, two of one name, and a server that cannot be used.
    """
    config = AgentConfig.parse(settings, "agent")
    messages = [Message("system", system)] if system else []
    messages.append(Message("user", task))
    with open_tools(tools, mcp, allow, config) as box:
        opened = open_agent_model(model, device=device)
        if transcripts is None:
            return run_agent(opened, messages, box, config, confirm=confirm, on_step=on_step)
        with RunTranscript(transcripts, opened.name, messages, box, config) as record:

            def add(step: AgentStep) -> None:
                record.add(step)
                if on_step is not None:
                    on_step(step)

            run = run_agent(opened, messages, box, config, confirm=confirm, on_step=add)
            record.finish(run)
    return run


def open_agent_model(
    model: str | Path | Model, *, device: str = "auto", name: str | None = None
) -> AgentModel:
    """The model of an agent: a folder, a loaded model, or the URL of an endpoint, where `name` is the model's name."""
    if isinstance(model, Model):
        return LocalAgentModel(model)
    if isinstance(model, str) and is_endpoint(model):
        return EndpointAgentModel(OpenAIChatModel(OpenAIChatConfig(url=model, model=name)))
    return LocalAgentModel(load(model, device=device))


@contextlib.contextmanager
def open_tools(
    tools: Sequence[ToolSpec],
    mcp: Sequence[str] = (),
    allow: Sequence[str] = (),
    limits: ToolLimits | None = None,
) -> Iterator[ToolBox]:
    """The tools of an agent, with the processes and connections that they need, which end with the block."""
    limits = limits or ToolLimits()
    with contextlib.ExitStack() as stack:
        found = [tool for spec in tools for tool in _tools_of(spec, limits, stack)]
        if mcp:
            found += stack.enter_context(McpServers([McpServer.parse(text) for text in mcp], limits)).tools
        yield ToolBox(allowed(found, allow), limits)


def _tools_of(spec: ToolSpec, limits: ToolLimits, stack: contextlib.ExitStack) -> list[AgentTool]:
    if isinstance(spec, AgentTool):
        return [spec]
    if not isinstance(spec, str):
        return [function_tool(spec)]
    name, _, argument = spec.partition("=")
    if name == "read_file":
        return [built_in.read_file(argument or ".")]
    if name == "search":
        return [built_in.search(search_in(argument))]
    if spec.endswith(".py"):
        file = FunctionFile(Path(spec), limits)
        stack.callback(file.close)
        return file.tools
    if spec == "calculator":
        return [built_in.calculator()]
    if spec == "date":
        return [built_in.date()]
    if spec == "python":
        return [built_in.python(run_in_sandbox)]
    close = closest_match(spec, [*PLAIN_TOOLS, "read_file", "search"])
    raise UserError(
        f"--tools {spec}: there is no such tool",
        f"did you mean {close}?"
        if close
        else f"{', '.join(PLAIN_TOOLS)}, read_file=FOLDER, search=INDEX, or FILE.py",
    )


def search_in(index: str | Path) -> built_in.Search:
    """A search in an index of documents; `UserError` for a folder that is none."""
    from parakit.assistants.retrieval.config import SearchConfig
    from parakit.assistants.retrieval.search import DocumentIndex

    opened = DocumentIndex(index)

    def find(query: str, n_passages: int) -> list[tuple[str, str]]:
        hits = opened.search(query, SearchConfig(n_passages=n_passages)).hits
        return [(hit.passage.place, hit.passage.text) for hit in hits]

    return find


def run_in_sandbox(code: str) -> str:
    """What a program prints in the sandbox; `ToolError` where it fails or exceeds a limit."""
    from parakit.sandbox import run_python
    from parakit.sandbox.fenced_code import code_of

    run = run_python(code_of(code))
    if run.limit is not None:
        raise ToolError(f"the program exceeded its limit of {run.limit}; it printed: {run.stdout[-1000:]}")
    if run.status != 0:
        raise ToolError(f"the program failed: {run.stderr[-2000:] or f'status {run.status}'}")
    return run.stdout
