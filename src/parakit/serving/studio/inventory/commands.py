"""Parakit's commands as processes of their own, which the studio starts and whose output it shows. The studio's process
never trains, imports or exports by itself.
"""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parakit.common.errors import UserError

MAX_LINES = 200
_NAME = re.compile(r"[\w][\w.\- ]*(/[\w][\w.\- ]*)*")
_ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass
class RunningCommand:
    """A command while it runs: its last lines, and its exit status at the end."""

    words: tuple[str, ...]
    lines: list[str] = field(default_factory=list)
    status: int | None = None
    process: asyncio.subprocess.Process | None = None

    @property
    def text(self) -> str:
        """The command as one would type it."""
        return shlex.join(("parakit", *self.words))

    def stop(self) -> None:
        """Interrupt it, as Ctrl-C does; what it had half written it removes."""
        if self.process is not None and self.status is None:
            self.process.send_signal(signal.SIGINT)


async def run_command(command: RunningCommand, root: Path, on_change: Callable[[], Any]) -> int:
    """Run it in `root`; `on_change` is called with each line. Returns the exit status."""
    command.process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "parakit", *command.words),
        cwd=root,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=2**20,
    )
    assert command.process.stdout is not None
    async for raw in command.process.stdout:
        text = _ESCAPE.sub("", raw.decode(errors="replace")).rstrip()
        command.lines = [*command.lines, text.rpartition("\r")[2]][-MAX_LINES:]
        on_change()
    command.status = await command.process.wait()
    on_change()
    return command.status


def output_name(root: Path, name: str) -> Path:
    """A new folder or file below `root`. `UserError` for a name that leads out of it, is hidden, or exists."""
    name = name.strip()
    if not _NAME.fullmatch(name) or ".." in name.split("/"):
        raise UserError(
            f"{name!r:.80}: cannot be a name here", "use letters, digits, dots, dashes and slashes"
        )
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{name}: leads out of the studio's folder", "choose another name")
    if path.exists():
        raise UserError(f"{name}: exists already", "choose another name")
    return path


def import_words(source: str, name: str) -> Sequence[str]:
    """`parakit import` of a source to a name below the studio's folder."""
    if source.startswith("-"):
        raise UserError(f"{source!r:.80}: is no model", "give a folder, a GGUF file or a name on the hub")
    return ("import", source, "--output", name)


def export_words(folder: Path, name: str, file_format: str) -> Sequence[str]:
    """`parakit export` of a model as a folder, or as a GGUF file of a type such as Q8_0."""
    if file_format == "folder":
        return ("export", str(folder), "--output", name)
    return ("export", str(folder), "--output", name, "--format", "gguf", "--type", file_format)
