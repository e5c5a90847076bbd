"""A tool that an agent may call, and the box of all its tools, in which a call always ends with a text.

A tool that raises, takes too long or returns too much gives the model a result that says so, and the conversation continues. A
call runs in a thread of its own, which Python cannot end: a tool that hangs is not called again while it does. Functions of a
file run in a process that can be killed instead (`worker_client`).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from parakit.assistants.tools.config import ToolLimits
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.settings import closest_match
from parakit.inference.tool_calls.tools import Tool, ToolChoice, check_tools

MAX_ARGUMENTS = 1_000_000  # characters of a call


class ToolError(Exception):
    """A failure of a tool whose message the model reads."""


@dataclass(frozen=True)
class AgentTool:
    """A function with its schema. `run` gets the arguments as they were parsed; what it returns becomes text, a `ToolResult`
    stays as it is.
    """

    schema: Tool
    run: Callable[[JsonObject], object]
    changes: bool = True
    """Whether a call may change something outside the conversation, so that somebody has to confirm it."""
    origin: str = "function"
    """Where it comes from, for people: function, built-in, the MCP server's name."""
    stop: Callable[[], object] | None = None
    """Ends a call that takes too long; None where nothing can."""
    prepare: Callable[[], object] | None = None
    """Comes before a call, outside its time: starts again what `stop` has ended."""

    @property
    def name(self) -> str:
        return self.schema.name


@dataclass(frozen=True)
class ToolResult:
    """What a call gave: the text for the model. `n_omitted_chars`: characters of the result that it does not read."""

    text: str
    is_error: bool = False
    seconds: float = 0.0
    n_omitted_chars: int = 0


@dataclass
class ToolBox:
    """The tools of a conversation. Raises `UserError` for two of one name, and for schemas that are none."""

    tools: Sequence[AgentTool]
    limits: ToolLimits = field(default_factory=ToolLimits)

    def __post_init__(self) -> None:
        origins: dict[str, str] = {}
        for tool in self.tools:
            if tool.name in origins:
                raise UserError(
                    f"two tools have the name {tool.name!r}: one of {origins[tool.name]}, one of {tool.origin}",
                    "leave one out, or give an MCP server a prefix: --mcp PREFIX=COMMAND",
                )
            origins[tool.name] = tool.origin
        check_tools(self.schemas, ToolChoice())
        self._by_name = {tool.name: tool for tool in self.tools}
        self._hanging: dict[str, threading.Event] = {}

    @property
    def schemas(self) -> list[Tool]:
        """Names, descriptions and parameters, for a model."""
        return [tool.schema for tool in self.tools]

    def find(self, name: str) -> AgentTool | None:
        """The tool of this name."""
        return self._by_name.get(name)

    def call(self, name: str, arguments: str) -> ToolResult:
        """Make a call; `arguments` is its JSON text. Never raises: what goes wrong is the result."""
        started = time.perf_counter()
        try:
            value = self._call(name, arguments)
        except ToolError as error:
            text, n_omitted_chars = _bounded(f"error: {error}", self.limits.max_result_chars)
            return ToolResult(text, True, time.perf_counter() - started, n_omitted_chars)
        if isinstance(value, ToolResult):
            return replace(value, seconds=time.perf_counter() - started)
        text, n_omitted_chars = _bounded(value, self.limits.max_result_chars)
        return ToolResult(text, False, time.perf_counter() - started, n_omitted_chars)

    def call_all(self, calls: Sequence[tuple[str, str]]) -> list[ToolResult]:
        """Several calls of one turn, (name, arguments) each; at once where none of them changes anything."""
        found = [self.find(name) for name, _ in calls]
        if len(calls) < 2 or any(tool is None or tool.changes for tool in found):
            return [self.call(*call) for call in calls]
        with ThreadPoolExecutor(len(calls)) as threads:
            return list(threads.map(lambda call: self.call(*call), calls))

    def _call(self, name: str, arguments: str) -> object:
        tool = self.find(name)
        if tool is None:
            close = closest_match(name, self._by_name)
            ways = (
                f"did you mean {close}?" if close else f"the tools are {', '.join(self._by_name) or 'none'}"
            )
            raise ToolError(f"there is no tool {name!r:.80}; {ways}")
        if len(arguments) > MAX_ARGUMENTS:
            raise ToolError(
                f"the arguments have {len(arguments):,} characters; the limit is {MAX_ARGUMENTS:,}"
            )
        try:
            values = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise ToolError("the arguments are no JSON object")
        earlier = self._hanging.get(name)
        if earlier is not None and not earlier.is_set():
            raise ToolError("an earlier call of this tool has not ended, so it is not called again")
        return self._within_time(tool, values)

    def _within_time(self, tool: AgentTool, values: JsonObject) -> object:
        """What the tool returns; `ToolError` where it raises, or takes longer than it may."""
        done, outcome = threading.Event(), list[Any]()
        if tool.prepare is not None:
            try:
                tool.prepare()
            except UserError as error:
                raise ToolError(f"{error.message}; {error.hint}") from None

        def run() -> None:
            try:
                outcome.append(tool.run(values))
            except BaseException as error:  # a tool may raise anything, SystemExit too
                outcome.append(error)
            finally:
                done.set()

        threading.Thread(target=run, name=f"tool-{tool.name}", daemon=True).start()
        if not done.wait(self.limits.tool_timeout):
            if tool.stop is not None:
                tool.stop()
            self._hanging[tool.name] = done
            raise ToolError(f"no result after {self.limits.tool_timeout:g} s; the call was given up")
        if isinstance(outcome[0], ToolError):
            raise outcome[0]
        if isinstance(outcome[0], BaseException):
            raise ToolError(f"{type(outcome[0]).__name__}: {outcome[0]}".removesuffix(": ")) from outcome[0]
        return outcome[0]


def _bounded(value: object, max_chars: int) -> tuple[str, int]:
    """A result as text of at most so many characters, with a note of what was left out, and how much that is (for a value
    that is no text, at least).
    """
    text = value if isinstance(value, str) else _json_text(value, max_chars)
    if len(text) <= max_chars:
        return text, 0
    n_omitted_chars = len(text) - max_chars
    more = f"{n_omitted_chars:,}" if isinstance(value, str) else "more"
    return f"{text[:max_chars]}\n[{more} characters were left out]", n_omitted_chars


def _json_text(value: object, max_chars: int) -> str:
    """A value as JSON, or its `repr` where it is none; not much more of it than is read."""
    if value is None:
        return "done"
    pieces: list[str] = []
    n_chars = 0
    try:
        for piece in json.JSONEncoder(ensure_ascii=False, default=str).iterencode(value):
            pieces.append(piece)
            n_chars += len(piece)
            if n_chars > max_chars:
                break
    except (TypeError, ValueError, RecursionError):
        return repr(value)[: max_chars + 1]
    return "".join(pieces)


def allowed(tools: Iterable[AgentTool], names: Sequence[str]) -> list[AgentTool]:
    """The tools, with calls of those named taking place without a confirmation; `all`: every one. `UserError` for an unknown
    name.
    """
    found = list(tools)
    known: Mapping[str, AgentTool] = {tool.name: tool for tool in found}
    for name in names:
        if name not in known and name != "all":
            close = closest_match(name, known)
            raise UserError(
                f"--allow {name}: there is no such tool",
                f"did you mean {close}?" if close else f"the tools: {', '.join(known) or 'none'}",
            )
    free = set(known) if "all" in names else set(names)
    return [replace(tool, changes=tool.changes and tool.name not in free) for tool in found]
