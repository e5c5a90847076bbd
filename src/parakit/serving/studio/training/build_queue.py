"""A queue of builds: one after the other, each a process of its own that outlives the studio.

The studio never trains in its own process: it starts `parakit build RECIPE`, as a person would, with its output in a log file.
A build that is stopped gets SIGINT, as by Ctrl-C, and keeps its checkpoint; the same command resumes it. What is in the queue
is a JSON file next to the logs, so that a studio that starts again finds its builds, the running one by its process number.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from parakit.common.errors import UserError
from parakit.common.files import disk_errors, read_json, write_json_atomic, write_text_atomic
from parakit.reports.training_runs.finding import is_alive

ItemState = Literal["waiting", "running", "stopping", "finished", "stopped", "failed", "lost"]
ENDED: tuple[ItemState, ...] = ("finished", "stopped", "failed", "lost")
FOLDER, QUEUE, RECIPES = ".studio", "queue.json", "recipes"
# A studio that a script started in the background ignores Ctrl-C's signal, and so would the builds that it starts.
RUN = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    " runpy.run_module('parakit', run_name='__main__', alter_sys=True)"
)
LOG_BYTES = 24_000  # of a log's end that is shown
MAX_ITEMS = 200
INTERRUPTED = {128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM}


@dataclass(frozen=True)
class QueuedBuild:
    """A build that waits, runs, or has ended. `started_at` tells its process from a later one with the same number."""

    id: str
    name: str
    recipe: str
    """The recipe file, below the studio's folder."""
    command: tuple[str, ...]
    state: ItemState = "waiting"
    pid: int | None = None
    started_at: int | None = None
    exit_status: int | None = None
    created: float = 0.0
    ended: float | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it can be queued again."""
        return self.state in ENDED


class BuildQueue:
    """The queue of a studio's folder. All methods are quick and may be called from any thread; `advance` starts what is next
    and is called every second or so.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / FOLDER
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.lock = threading.RLock()
        self.items: list[QueuedBuild] = self._load()

    def add(self, recipe: str, name: str, overrides: tuple[str, ...] = ()) -> QueuedBuild:
        """Queue the build of a recipe file (a path below the root). `UserError` where the file is not there, and where a
        build of this name is in the queue already.
        """
        with self.lock:
            if not (self.root / recipe).is_file():
                raise UserError(
                    f"{self.root / recipe}: there is no such recipe file", "save the recipe first"
                )
            if any(one.name == name and not one.has_ended for one in self.items):
                raise UserError(
                    f"a build named {name} is in the queue already", "wait for it, or choose another name"
                )
            command = ("parakit", "build", recipe, "--name", name, *overrides)
            number = 1 + max((int(one.id) for one in self.items), default=0)
            item = QueuedBuild(str(number), name, recipe, command, created=time.time())
            self._set([*self.items, item])
            return item

    def again(self, item_id: str) -> QueuedBuild:
        """Queue a build that has ended once more: what is up to date is skipped, what was interrupted resumes."""
        one = self.item(item_id)
        if not one.has_ended:
            raise UserError(f"the build {one.name} has not ended: it is {one.state}", "stop it first")
        return self.add(one.recipe, one.name, one.command[5:])

    def item(self, item_id: str) -> QueuedBuild:
        """The build of this number."""
        with self.lock:
            found = [one for one in self.items if one.id == item_id]
            if not found:
                raise UserError(f"the queue has no build {item_id}", "load the page again")
            return found[0]

    def stop(self, item_id: str) -> None:
        """Take a waiting build out; send a running one SIGINT, as by Ctrl-C, and SIGTERM the second time."""
        with self.lock:
            one = self.item(item_id)
            if one.state == "waiting":
                self._update(replace(one, state="stopped", ended=time.time()))
            elif one.pid is not None and not one.has_ended:
                number = signal.SIGINT if one.state == "running" else signal.SIGTERM
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one.pid, number)
                self._update(replace(one, state="stopping"))

    def remove_ended(self) -> None:
        """Take all builds out that have ended; their folders stay."""
        with self.lock:
            for one in self.items:
                if one.has_ended:
                    self.log_path(one.id).unlink(missing_ok=True)
            self._set([one for one in self.items if not one.has_ended])

    def advance(self) -> None:
        """See which builds have ended, and start the next where none runs."""
        with self.lock:
            for one in self.items:
                if one.state in ("running", "stopping"):
                    self._look_at(one)
            if any(one.state in ("running", "stopping") for one in self.items):
                return
            waiting = [one for one in self.items if one.state == "waiting"]
            if waiting:
                self._start(waiting[0])

    def log_path(self, item_id: str) -> Path:
        """The file with what a build printed."""
        return self.folder / f"build-{int(item_id):04d}.log"

    def log_end(self, item_id: str) -> str:
        """The end of what a build printed; a progress line that was drawn over counts once."""
        try:
            with self.log_path(item_id).open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_BYTES))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n")

    def doctor_findings(self, item_id: str) -> list[str]:
        """The doctor's lines in what a build printed."""
        return [line for line in self.log_end(item_id).splitlines() if "doctor" in line.lower()]

    def _start(self, one: QueuedBuild) -> None:
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        try:
            with disk_errors(self.folder), self.log_path(one.id).open("ab") as log:
                log.write(f"$ {' '.join(one.command)}\n".encode())
                log.flush()
                process = subprocess.Popen(
                    [sys.executable, "-c", RUN, *one.command[1:]],
                    cwd=self.root,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C at the studio's terminal stops the studio only
                )
        except OSError as error:
            self._write_log(one.id, f"the build could not be started: {error.strerror or error}\n")
            self._update(replace(one, state="failed", ended=time.time()))
            return
        self.processes[one.id] = process
        self._update(replace(one, state="running", pid=process.pid, started_at=_start_time(process.pid)))

    def _look_at(self, one: QueuedBuild) -> None:
        process = self.processes.get(one.id)
        if process is not None:
            status = process.poll()
            if status is None:
                return
            del self.processes[one.id]
            stopped = one.state == "stopping" or status in INTERRUPTED
            state: ItemState = "finished" if status == 0 else "stopped" if stopped else "failed"
            self._update(replace(one, state=state, exit_status=status, ended=time.time()))
        elif one.pid is None or not is_alive(one.pid) or _start_time(one.pid) != one.started_at:
            # it ended while no studio was there to see how
            self._update(replace(one, state="lost", ended=time.time()))

    def _write_log(self, item_id: str, text: str) -> None:
        with contextlib.suppress(OSError), self.log_path(item_id).open("a") as log:
            log.write(text)

    def _update(self, item: QueuedBuild) -> None:
        self._set([item if one.id == item.id else one for one in self.items])

    def _set(self, items: list[QueuedBuild]) -> None:
        ended = [one for one in items if one.has_ended]
        dropped = {one.id for one in ended[: max(0, len(items) - MAX_ITEMS)]}
        self.items = [one for one in items if one.id not in dropped]
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json_atomic(self.folder / QUEUE, [asdict(one) for one in self.items])

    def _load(self) -> list[QueuedBuild]:
        try:
            rows = read_json(self.folder / QUEUE)
            return [QueuedBuild(**row | {"command": tuple(row["command"])}) for row in rows]
        except (OSError, UserError, TypeError, KeyError):  # none yet, or of another version
            return []


def _start_time(pid: int) -> int | None:
    """When a process was started, in ticks since the machine was; None where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def save_recipe(root: Path, name: str, text: str) -> str:
    """Write a recipe to `recipes/NAME.yaml` below the root and return that path; under the next free name where another
    recipe has it.
    """
    folder = root / RECIPES
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, 1000):
            path = folder / (f"{name}.yaml" if number == 1 else f"{name}-{number}.yaml")
            if not path.exists():
                write_text_atomic(path, text)
            if path.read_text(encoding="utf-8") == text:
                return f"{RECIPES}/{path.name}"
    raise UserError(f"{folder}: has a thousand recipes named {name}", "choose another name")
