"""The functions of a user's file as tools. They run in another process (`worker`), which is killed where one hangs, and started
again for the next call: whatever they print, raise, allocate or end does not touch the conversation.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parakit.assistants.tools.config import ToolLimits
from parakit.assistants.tools.tool import AgentTool, ToolError, ToolResult
from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.inference.tool_calls.tools import parse_tool


@dataclass
class FunctionFile:
    """A file of Python functions and the process that runs them."""

    path: Path
    limits: ToolLimits = field(default_factory=ToolLimits)

    def __post_init__(self) -> None:
        if not self.path.is_file():
            raise UserError(f"{self.path}: there is no such file", "name a Python file with functions")
        self._lock, self._starting = threading.Lock(), threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._rows = self._start()

    @property
    def tools(self) -> list[AgentTool]:
        """Its public functions."""
        return [self._tool(row) for row in self._rows]

    def _tool(self, row: JsonObject) -> AgentTool:
        name = row["name"]

        def run(values: JsonObject) -> object:
            return self._call(name, values)

        return AgentTool(parse_tool(row), run, bool(row["changes"]), self.path.name, self.close, self._ready)

    def _call(self, name: str, values: JsonObject) -> ToolResult:
        with self._lock:
            self._ready()
            answer = self._exchange({"name": name, "arguments": values})
        if answer is None:
            self.close()
            raise ToolError("the process of the function has ended; it is started again for the next call")
        return ToolResult(answer["text"], answer["is_error"], n_omitted_chars=answer["n_omitted_chars"])

    def _ready(self) -> None:
        """Start the process where it was ended."""
        with self._starting:
            if self._process is None:
                self._start()

    def _start(self) -> list[JsonObject]:
        """Start the process; the rows of its tools. `UserError` where the file cannot be imported."""
        command = [sys.executable, "-m", "parakit.assistants.tools.worker", str(self.path)]
        self._process = subprocess.Popen(
            [*command, str(self.limits.max_result_chars)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,  # so that what it starts is killed with it
        )
        timer = threading.Timer(max(self.limits.tool_timeout, 30.0), self.close)
        timer.start()
        answer = self._exchange(None)
        timer.cancel()
        if answer is None or "error" in answer:
            self.close()
            reason = (answer or {}).get("error", f"{self.path}: its process ended, or took too long to start")
            raise UserError(reason, (answer or {}).get("hint") or "correct the file")
        return list(answer["tools"])

    def _exchange(self, call: JsonObject | None) -> Any:
        """The next line of the process, after a call; None where it has ended."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        try:
            if call is not None:
                process.stdin.write(json.dumps(call) + "\n")
                process.stdin.flush()
            line = process.stdout.readline()
            return json.loads(line) if line else None
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        """End the process, and what it has started."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
