"""One task of a stage: a function of the stage's folder and a number, run once, by any process of any machine.

What a task needs is in files of the folder, so a task is named by a folder and a number: that is all that Slurm or Ray
carry. A finished task leaves a marker. A task that is killed and one that runs twice at a time do no harm: output is
written under a name of the process's own (`own_name`) and renamed, and depends on nothing but the folder's files.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import traceback
from collections.abc import Callable, Collection
from pathlib import Path

from parakit.common.errors import UserError
from parakit.common.files import JsonObject, read_json

Task = Callable[[Path, int], None]
TASKS = {
    "read": "parallel_reading:read_part",
    "clean": "parallel_cleaning:clean_part",
    "signatures": "near_duplicate_stages:write_signatures",
    "buckets": "near_duplicate_stages:link_buckets",
    "clusters": "near_duplicate_stages:choose_of_clusters",
}
"""Kinds of tasks: a module of this package, and its function of the stage's folder and the task's number."""
_SETTINGS = "settings.json"


def begin_stage(folder: Path, kind: str, settings: JsonObject) -> None:
    """Write what the tasks of a stage need into its folder."""
    for name in ("done", "failed", "logs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    values = {"kind": kind, "folder": os.getcwd(), "settings": settings}
    write_result(folder / _SETTINGS, values)


def stage_settings(folder: Path) -> JsonObject:
    """The settings of the stage in `folder`."""
    settings: JsonObject = read_json(folder / _SETTINGS)["settings"]
    return settings


def run_task(folder: Path, number: int) -> None:
    """Run a task and leave its marker, or a note of why it failed."""
    if (folder / "done" / str(number)).exists():
        return
    stage = read_json(folder / _SETTINGS)
    module, _, function = TASKS[stage["kind"]].partition(":")
    failed = folder / "failed" / f"{number}.json"
    try:
        os.chdir(stage["folder"])  # paths may be relative to it, and Ray's workers begin elsewhere
        getattr(importlib.import_module(f"parakit.data.parallel.{module}"), function)(folder, number)
    except Exception as error:
        if isinstance(error, UserError):
            why = {"message": error.message, "hint": error.hint, "trace": ""}
        else:
            message = f"{type(error).__name__}: {error}"
            why = {"message": message, "hint": "", "trace": traceback.format_exc()}
        write_result(failed, why | {"machine": socket.gethostname()})
        raise
    failed.unlink(missing_ok=True)
    (folder / "done" / str(number)).touch()


def missing_tasks(folder: Path, n_tasks: int) -> list[int]:
    """The tasks without a marker."""
    done = {entry.name for entry in os.scandir(folder / "done")}
    return [number for number in range(n_tasks) if str(number) not in done]


def own_name(path: Path) -> Path:
    """A sibling of `path` that no other process on any machine writes."""
    return path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}.new")


def write_result(path: Path, value: object) -> None:
    """Write JSON under a name of the process's own, and rename it."""
    own_name(path).write_text(json.dumps(value), encoding="utf-8")
    own_name(path).replace(path)


def failure(folder: Path, missing: Collection[int], n_tasks: int) -> UserError:
    """The error for tasks that did not finish, with the reason of the first that left one."""
    head = f"{folder.name}: {len(missing)} of {n_tasks} tasks did not finish"
    again = "run it again: only these are repeated"
    for number in missing:
        note = folder / "failed" / f"{number}.json"
        if note.exists():
            why = json.loads(note.read_text(encoding="utf-8"))
            return UserError(
                f"{head}; task {number} on {why['machine']}: {why['message']}", why["hint"] or again
            )
    return UserError(
        f"{head}, and the first of them ({min(missing)}) left no reason: it was killed, or never began",
        f"{again}; logs are in {folder / 'logs'}",
    )


def main(arguments: list[str]) -> None:
    """One element of a Slurm array: the tasks on its line of the file of numbers that Slurm was given."""
    folder, numbers = Path(arguments[0]), Path(arguments[1])
    line = numbers.read_text(encoding="utf-8").splitlines()[int(os.environ["SLURM_ARRAY_TASK_ID"])]
    error: Exception | None = None
    for number in line.split():
        try:
            run_task(folder, int(number))
        except Exception as raised:
            error = raised
    if error:
        raise error


if __name__ == "__main__":
    main(sys.argv[1:])
