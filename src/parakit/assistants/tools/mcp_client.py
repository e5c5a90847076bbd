"""Tools of MCP servers, through the official client: programs that speak over their standard input and output, and servers
over HTTP.

A thread of its own runs the clients' event loop. A server that has died gives an error to the model, and is started again for
the next call. What a server states about itself (descriptions, hints) is untrusted: all its tools need a confirmation.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import tempfile
import threading
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO, TypeVar, cast

from parakit.assistants.tools.config import ToolLimits
from parakit.assistants.tools.tool import AgentTool, ToolError
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.common.progress import log
from parakit.inference.tool_calls.tools import MAX_TOOLS, NAME, Tool

CONNECT_SECONDS = 60.0
MAX_DESCRIPTION = 2000  # characters of one that a server sends
Result = TypeVar("Result")


@dataclass(frozen=True)
class McpServer:
    """Where a server is: a URL, or a command with its arguments. `prefix` comes before the names of its tools."""

    location: str
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> McpServer:
        """`COMMAND ARGUMENTS`, a URL, or either after `PREFIX=`."""
        prefix, equals, rest = text.partition("=")
        if equals and prefix.replace("_", "").replace("-", "").isalnum() and rest.strip():
            return cls(rest.strip(), prefix)
        if not text.strip():
            raise UserError(
                "--mcp is empty", "name a command, such as --mcp 'python -m mcp_server_time', or a URL"
            )
        return cls(text.strip())

    @property
    def is_url(self) -> bool:
        return self.location.startswith(("http://", "https://"))


def _errors_file() -> TextIO:
    """For what a program writes to its standard error; gone when it is closed."""
    return cast(TextIO, tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace"))


@dataclass
class _Connection:
    """One server: its client while it is connected, and the task that holds it."""

    server: McpServer
    log: TextIO = field(default_factory=_errors_file)
    client: Any = None
    task: asyncio.Task[None] | None = None
    ending: asyncio.Event = field(default_factory=asyncio.Event)


class McpServers:
    """Connections to some servers; `close`, or leave its block, ends them and the programs.

    Raises `UserError` for a server that cannot be started or reached, with the last lines of what it wrote.
    """

    def __init__(self, servers: Sequence[McpServer], limits: ToolLimits | None = None) -> None:
        _import_mcp()
        self.limits = limits or ToolLimits()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="parakit-mcp", daemon=True)
        self._thread.start()
        self._connections: list[_Connection] = []
        self.tools: list[AgentTool] = []
        try:
            for server in servers:
                connection = _Connection(server)
                self._connections.append(connection)
                self.tools += self._open(connection)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> McpServers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        for connection in self._connections:
            with contextlib.suppress(Exception):
                self._wait(self._disconnect(connection), 15.0)
            connection.log.close()
        self._connections = []
        if self._loop.is_running():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    # --- in the caller's thread
    def _wait(self, coroutine: Coroutine[Any, Any, Result], seconds: float) -> Result:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(seconds)
        except TimeoutError:
            future.cancel()
            raise

    def _open(self, connection: _Connection) -> list[AgentTool]:
        server = connection.server
        try:
            self._wait(self._connect(connection), CONNECT_SECONDS)
            listed = self._wait(_list_tools(connection.client), CONNECT_SECONDS)
        except (Exception, BaseExceptionGroup) as error:
            raise UserError(
                f"the MCP server {server.location!r:.200} cannot be used: {_reason(error)}{_last_lines(connection.log)}",
                "check the command or the address; for a command, run it in a terminal first",
            ) from None
        return [tool for one in listed if (tool := self._tool(connection, one)) is not None]

    def _tool(self, connection: _Connection, listed: Any) -> AgentTool | None:
        server = connection.server
        name = f"{server.prefix}.{listed.name}" if server.prefix else str(listed.name)
        if not NAME.fullmatch(name):
            log(
                f"the MCP server {server.location!r:.80}: the tool {name!r:.80} is left out: no name for a function"
            )
            return None

        def run(values: JsonObject) -> object:
            return self._call(connection, listed.name, values)

        description = str(listed.description or "")[:MAX_DESCRIPTION]
        schema = Tool(name, description, dict(listed.input_schema))
        return AgentTool(schema, run, True, f"MCP server {server.prefix or server.location}"[:80])

    def _call(self, connection: _Connection, name: str, values: JsonObject) -> str:
        seconds = self.limits.tool_timeout
        try:
            if connection.task is None or connection.task.done():
                self._wait(self._connect(connection), CONNECT_SECONDS)
            result = self._wait(connection.client.call_tool(name, values, seconds), seconds)
        except (Exception, BaseExceptionGroup) as error:
            is_late = isinstance(error, TimeoutError) or "timed out" in str(error).lower()
            if not is_late and (connection.task is None or connection.task.done() or _is_closed(error)):
                self._wait(self._disconnect(connection), 15.0)
                raise ToolError("the MCP server has ended; it is started again for the next call") from None
            raise ToolError(
                f"no result after {seconds:g} s; the call was given up" if is_late else _reason(error)
            ) from None
        text = _text_of(result)
        if result.is_error:
            raise ToolError(text)
        return text

    # --- in the loop's thread
    async def _connect(self, connection: _Connection) -> None:
        """Start the task that holds the client, and wait until it is connected."""
        connection.ending = asyncio.Event()
        ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        connection.task = asyncio.create_task(_hold(connection, ready))
        connection.client = await ready

    async def _disconnect(self, connection: _Connection) -> None:
        connection.ending.set()
        if connection.task is not None:
            with contextlib.suppress(BaseException):
                await connection.task


async def _hold(connection: _Connection, ready: asyncio.Future[Any]) -> None:
    """Enter and leave the client in one task, as its cancel scopes demand."""
    from mcp import Client, StdioServerParameters, stdio_client

    server = connection.server
    try:
        target: Any = server.location
        if not server.is_url:
            command, *arguments = shlex.split(server.location)
            parameters = StdioServerParameters(command=command, args=arguments)
            target = stdio_client(parameters, errlog=connection.log)
        async with Client(target) as client:
            ready.set_result(client)
            await connection.ending.wait()
    except BaseException as error:
        if ready.done():
            return  # the call that was under way has its own error
        ready.set_exception(error if isinstance(error, Exception) else RuntimeError(_reason(error)))


async def _list_tools(client: Any) -> list[Any]:
    """All pages of a server's list, up to the number of tools that a request may have."""
    found: list[Any] = []
    cursor: str | None = None
    while len(found) <= MAX_TOOLS:
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


def _text_of(result: Any) -> str:
    """A result's texts; of other contents what they are."""
    pieces = []
    for content in result.content:
        if content.type == "text":
            pieces.append(content.text)
        elif content.type == "resource" and hasattr(content.resource, "text"):
            pieces.append(content.resource.text)
        else:
            data = getattr(content, "data", "") or ""
            pieces.append(f"[{content.type}, {len(data) * 3 // 4:,} bytes, is not shown]")
    if not pieces and result.structured_content is not None:
        import json

        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(pieces) or "done"


def _is_closed(error: BaseException) -> bool:
    return any(
        word in f"{type(error).__name__} {error}".lower() for word in ("closed", "broken", "disconnect")
    )


def _reason(error: BaseException) -> str:
    """An error in one line; of a group the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]


def _last_lines(file: TextIO, n_lines: int = 3) -> str:
    """What a program wrote to its standard error at last."""
    file.seek(0)
    lines = [line.strip() for line in file.read()[-4000:].splitlines() if line.strip()]
    return f"; it wrote: {' / '.join(lines[-n_lines:])}" if lines else ""


def _import_mcp() -> Any:
    try:
        import mcp
    except ModuleNotFoundError:
        raise UserError("MCP servers need the package mcp", "pip install 'parakit[assist]'") from None
    return mcp
