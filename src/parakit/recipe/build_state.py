"""What was made in a build folder, under which key; and stages that a build takes from others instead of making them.

`build.json` remembers the key under which each folder was made. Runs of a sweep share what does not differ: a stage whose
key another run has is linked, and of runs at the same time one makes it while the others wait.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from parakit.common.artifacts import copy_artifact, open_artifact
from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import JsonObject, read_json
from parakit.common.locks import LOCK, hold_lock
from parakit.common.progress import log

STATE = "build.json"
SWEEP, PLAN, RUNS = "sweep", "plan.json", "runs"  # of a sweep, in the folder of the build
WAIT_SECONDS = 0.5


def read_state(path: Path) -> dict[str, JsonObject]:
    """The stages of a `build.json`: key, digest and seconds; empty where there is none."""
    if not path.exists():
        return {}
    try:
        rows = read_json(path)["stages"].items()
        return {
            stage: {"key": row["key"], "digest": row["digest"], "seconds": float(row.get("seconds", 0.0))}
            for stage, row in rows
        }
    except (CorruptArtifact, KeyError, TypeError, ValueError, AttributeError):
        raise CorruptArtifact(
            f"{path}: is not the state of a build", "delete it; every stage is then rebuilt"
        ) from None


class SharedStages:
    """Stages of the builds in `folders`, for one that takes what has the same key; `locks`: a folder for locks."""

    def __init__(self, folders: Sequence[Path], locks: Path) -> None:
        self.folders, self.locks = folders, locks
        self.current = ""
        """The stage that was begun last."""

    @contextlib.contextmanager
    def reserved(self, stage: str, key: str) -> Iterator[None]:
        """During the block no other build makes the stage under this key; waits for one that does."""
        self.current = stage
        self.locks.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            waiting = False
            while True:
                try:
                    stack.enter_context(hold_lock(self.locks / f"{stage}-{key[:16]}{LOCK}", "{}"))
                    break
                except UserError:
                    if not waiting:
                        log(f"[{stage}] waits for another run, which makes it")
                    waiting = True
                    time.sleep(WAIT_SECONDS)
            yield

    def take(self, stage: str, key: str, target: Path) -> JsonObject | None:
        """Link the stage from the first build that has it whole under this key; its row, or None where none has it."""
        for folder in self.folders:
            with contextlib.suppress(UserError):
                row = read_state(folder / STATE).get(stage)
                if row is None or row["key"] != key or (folder / stage) == target:
                    continue
                if open_artifact(folder / stage).digest == row["digest"]:
                    copy_artifact(folder / stage, target)
                    log(f"[{stage}] taken from {folder.name}")
                    return row
        return None
