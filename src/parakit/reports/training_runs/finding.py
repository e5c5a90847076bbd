"""The runs below a folder: where their metrics are, whether they are running, and what they were trained with.

A run that is under way, or was interrupted, has its metrics in a folder of checkpoints with `run.json`; a finished one in its
model folder with `lineage.json`. Metrics are read as they grow: each reading takes what was appended since the last one.
Nothing here knows of a web page.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from parakit.common.artifacts import BUILD, LINEAGE, PLAN, RECIPE, RUN, read_lineage
from parakit.common.errors import UserError
from parakit.common.files import JsonObject, read_checked_json, read_json
from parakit.training.metrics import METRICS

State = Literal["running", "interrupted", "finished"]
MAX_DEPTH = 9  # folders below the one that is searched: of a sweep, folder / builds / NAME / runs / RUN / work / STAGE / HASH
MAX_RUNS = 400
WORK_OF_OUTPUT = ".work"
RECENT_SECONDS = 30.0  # a run without a lock file that has written within them is running
SKIPPED = {"shards", "corpus", "tokenizer", "tensorboard", "node_modules", "__pycache__"}


@dataclass(frozen=True)
class TrainingRun:
    """One run. `metrics` is its file of JSON lines."""

    name: str
    """The path below the folder that was searched, without the parts that every run has."""
    metrics: Path
    folder: Path
    """Of the model that it makes or made, or of its checkpoints."""
    state: State
    build: Path | None = None
    stage: str = ""

    @property
    def id(self) -> str:
        """What tells it from others: the path of its metrics."""
        return str(self.metrics)


def find_runs(root: Path) -> list[TrainingRun]:
    """The runs below `root`, newest first; at most `MAX_RUNS`."""
    found = []
    for path in _metrics_files(root, 0):
        with contextlib.suppress(OSError):
            found.append((path.stat().st_mtime, _run_of(root, path)))
    return [run for _, run in sorted(found, key=lambda one: -one[0])[:MAX_RUNS]]


def _metrics_files(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda one: one.name)
    except OSError:  # removed in the meantime, or not for this user to read
        return
    for entry in entries:
        if entry.name == METRICS:
            yield Path(entry.path)
        elif depth < MAX_DEPTH and entry.name not in SKIPPED and not _is_hidden(entry.name):
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    yield from _metrics_files(Path(entry.path), depth + 1)


def _is_hidden(name: str) -> bool:
    """Whether a folder is of no interest; the checkpoints of `--output NAME` are in `.NAME.work`."""
    return name.startswith(".") and not name.endswith(WORK_OF_OUTPUT)


def _run_of(root: Path, metrics: Path) -> TrainingRun:
    folder = metrics.parent
    if (folder / RUN).is_file() or (folder / PLAN).is_file():  # checkpoints: work / STAGE / HASH
        build = build_of(folder, root)
        name = _name(root, folder.parent)
        state: State = "running" if _is_running(folder, metrics) else "interrupted"
        return TrainingRun(name, metrics, folder, state, build, folder.parent.name)
    if not (folder / LINEAGE).is_file():  # `training` in a model folder
        folder = folder.parent
    return TrainingRun(_name(root, folder), metrics, folder, "finished", build_of(folder, root), folder.name)


def _name(root: Path, folder: Path) -> str:
    with contextlib.suppress(ValueError):
        parts = [_plain(part) for part in folder.relative_to(root).parts if part not in ("builds", "work")]
        return " / ".join(parts) or folder.name
    return folder.name


def _plain(part: str) -> str:
    """A folder's name; of one with the checkpoints of an output, the output's."""
    is_work = part.startswith(".") and part.endswith(WORK_OF_OUTPUT)
    return part[1 : -len(WORK_OF_OUTPUT)] if is_work else part


def build_of(folder: Path, root: Path) -> Path | None:
    """The folder of the build that `folder` is in, no higher than `root`."""
    for parent in (folder, *folder.parents):
        if (parent / BUILD).is_file():
            return parent
        if parent == root:
            break
    return None


def _is_running(folder: Path, metrics: Path) -> bool:
    """Whether the process that writes there is alive: by the lock file of the build or the output, else by the time of the
    last line.
    """
    output = _plain(folder.parent.name)
    for parent in list(folder.parents)[:4]:
        for lock in (parent / ".lock", parent / f".{folder.name}.lock", parent / f".{output}.lock"):
            with contextlib.suppress(OSError, ValueError):
                return is_alive(int(lock.read_text().strip()))
    return time.time() - metrics.stat().st_mtime < RECENT_SECONDS


def is_alive(pid: int) -> bool:
    """Whether a process of this number runs; one that has ended and was not waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


@dataclass
class MetricsReader:
    """Reads a metrics file as it grows. A file that became shorter, as a resumed run's, is read from its beginning."""

    path: Path
    rows: list[JsonObject] = field(default_factory=list)
    n_bytes: int = 0
    damaged: int = 0
    """Lines that were left out because they are no metrics."""

    def read(self) -> list[JsonObject]:
        """All rows so far. `UserError` where the file is gone."""
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self.n_bytes:
                    self.rows, self.n_bytes, self.damaged = [], 0, 0
                file.seek(self.n_bytes)
                *lines, _ = file.read().split(b"\n")
        except OSError:
            raise UserError(
                f"{self.path}: is gone: the folder was deleted or moved while it was shown",
                "the run is left out from now on; restore the folder to see it again",
            ) from None
        self.n_bytes += sum(len(line) + 1 for line in lines)
        for line in lines:
            try:
                row = json.loads(line)
                row["kind"], row["step"]
                self.rows.append(row)
            except (ValueError, TypeError, KeyError):
                self.damaged += 1
        return self.rows


def run_settings(run: TrainingRun) -> JsonObject:
    """What the run was trained with, as groups of settings: the plan, what was requested, its inputs. Empty where it cannot
    be read.
    """
    with contextlib.suppress(UserError, OSError, KeyError, TypeError, ValueError):
        if run.state == "finished":
            lineage = read_lineage(run.folder)
            result = lineage.get("result") or {}
            inputs = {Path(one["path"]).name: one["digest"][:12] for one in lineage.get("parents") or []}
            config = {key: value for key, value in lineage["config"].items() if key != "plan"}
            plan = result.get("plan") or lineage["config"].get("plan") or {}
            return {"plan": plan, "stage": config, "model": result.get("config") or {}, "inputs": inputs}
        found: JsonObject = {}
        if (run.folder / PLAN).is_file():
            saved = read_checked_json(run.folder / PLAN, "")
            found |= {"plan": saved["plan"], "model": saved["config"]}
        if (run.folder / RUN).is_file():
            settings = read_checked_json(run.folder / RUN, "")
            inputs = {name: str(digest)[:12] for name, digest in settings["inputs"]}
            found |= {"stage": settings["spec"], "inputs": inputs}
        return found
    return {}


def planned_steps(run: TrainingRun) -> int | None:
    """How many steps the run is to take, if that is known."""
    steps = run_settings(run).get("plan", {}).get("max_steps")
    return steps if isinstance(steps, int) else None


def stage_seconds(build: Path) -> dict[str, float]:
    """Where a build's time went: seconds by stage, in the order in which they were made."""
    with contextlib.suppress(UserError, OSError, KeyError, TypeError, ValueError, AttributeError):
        stages = read_json(build / BUILD)["stages"]
        return {name: float(row.get("seconds", 0.0)) for name, row in stages.items()}
    return {}


def build_recipe(build: Path) -> JsonObject:
    """The recipe of a finished build; empty where there is none."""
    with contextlib.suppress(UserError, OSError):
        recipe = read_json(build / RECIPE)
        return recipe if isinstance(recipe, dict) else {}
    return {}
