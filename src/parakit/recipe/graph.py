"""The build graph: which stages run, in which order, and why.

A stage is a function from folders to one folder. Its key is a digest of its settings, of its parents'
content digests and of the input files it reads; a stage whose folder was made under the same key is skipped.
Keys hold *content* digests of parents: a corpus that was read again and came out the same rebuilds nothing
behind it. `build.json` remembers the key under which each folder was made.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parakit.common.artifacts import open_artifact
from parakit.common.errors import UnexpectedFile, UserError
from parakit.common.files import JsonObject, write_json_atomic
from parakit.common.processes import first_alone, from_first, is_first
from parakit.common.remote import is_remote
from parakit.common.settings import config_digest
from parakit.data.config import TextConfig
from parakit.data.duplicates.digest_set import DigestSet
from parakit.data.fetching.locations import local_path
from parakit.data.read_report import ReadReport
from parakit.data.readers.inputs import input_files
from parakit.recipe.build_state import STATE, SharedStages, read_state
from parakit.recipe.build_time import BuildTime
from parakit.stages.run_dir import folder_fingerprint
from parakit.training.config import TrainingConfig

# Raised when a stage's code changes what it makes from the same settings: earlier results are then rebuilt.
CODE_VERSION = 2


@dataclass(frozen=True)
class Stage:
    """One step of a build. `run(out)` writes the artifact folder `out`; `settings` is all that decides
    its content but its parents.
    """

    name: str
    settings: JsonObject
    parents: tuple[str, ...]
    run: Callable[[Path], None] = field(compare=False)
    parallel: bool = False
    """Whether all processes of a run take part; else the first runs it, and the others wait."""


@dataclass(frozen=True)
class Decision:
    """What will be done about a stage, and why."""

    stage: Stage
    run: bool
    reason: str


class Build:
    """A build folder and what was made in it. `shared`: builds from which stages with the same key are taken."""

    def __init__(self, folder: Path, stages: Sequence[Stage], shared: SharedStages | None = None) -> None:
        self.folder, self.stages, self.shared = folder, list(stages), shared
        self.made = read_state(folder / STATE)

    def path(self, stage: str) -> Path:
        """The folder of a stage's artifact."""
        return self.folder / stage

    def plan(self) -> Iterator[Decision]:
        """Decide for every stage in order, by the folders as they are. After a stage that will run, the
        decision can only be 'as it turns out'.
        """
        changing: set[str] = set()
        for stage in self.stages:
            decision = self._decide(stage, changing)
            if decision.run:
                changing.add(stage.name)
            yield decision

    def run(self, on_decision: Callable[[Decision], None], times: BuildTime | None = None) -> None:
        """Walk the stages; what is up to date is skipped, the rest is made, whole or not at all. `times`: the build's,
        which counts what skipped stages took.
        """
        for stage in self.stages:
            decision = self._agreed(stage)
            on_decision(decision)
            made_here = decision.run and self._make(stage, times)
            if times and not made_here:
                times.spent_before += self.made[stage.name]["seconds"]

    def _make(self, stage: Stage, times: BuildTime | None) -> bool:
        """Make a stage, or take it from another build under the same key; whether it was made."""
        key, path = self._key(stage), self.path(stage.name)
        began = times.clock() if times else 0.0
        with self.shared.reserved(stage.name, key) if self.shared else contextlib.nullcontext():
            if times:  # waiting for another build takes none of this one's
                times.started += times.clock() - began
            row = self.shared.take(stage.name, key, path) if self.shared else None
            made_here = row is None
            if row is None:
                started = time.monotonic()
                if stage.parallel:
                    stage.run(path)
                else:
                    first_alone(stage.name, lambda: stage.run(path))
                seconds = time.monotonic() - started + (times.used_before(stage.name) if times else 0.0)
                row = {"key": key, "digest": self._digest(stage.name), "seconds": seconds}
            self.made[stage.name] = from_first("made", lambda: row)
            if is_first():
                write_json_atomic(self.folder / STATE, {"stages": self.made})
        return made_here

    def _agreed(self, stage: Stage) -> Decision:
        """The first process's decision, in every process."""

        def decide() -> tuple[bool, str]:
            decision = self._decide(stage, set())
            return decision.run, decision.reason

        run, reason = from_first(stage.name, decide)
        return Decision(stage, run, reason)

    def _decide(self, stage: Stage, changing: set[str]) -> Decision:
        before = self.made.get(stage.name)
        if waiting := [parent for parent in stage.parents if parent in changing]:
            return Decision(stage, True, f"{' and '.join(waiting)} will be rebuilt")
        if before is None:
            return Decision(stage, True, "not made yet")
        if not self.path(stage.name).exists():
            return Decision(stage, True, "its folder is gone")
        try:
            digest = open_artifact(self.path(stage.name)).digest
        except UnexpectedFile:
            raise  # rebuilding the stage would delete a file that no build wrote
        except UserError as error:
            return Decision(stage, True, f"its folder is not whole: {error.message}")
        if digest != before["digest"]:
            return Decision(stage, True, "its folder holds something else")
        if before["key"] != self._key(stage):
            return Decision(stage, True, "its settings or inputs changed")
        return Decision(stage, False, "up to date")

    def _digest(self, name: str) -> str:
        return open_artifact(self.path(name), verify=False).digest

    def _key(self, stage: Stage) -> str:
        parents = {parent: self._digest(parent) for parent in stage.parents}
        return config_digest(
            {"stage": stage.name, "settings": stage.settings, "parents": parents, "code": CODE_VERSION}
        )


def planned_keys(stages: Sequence[Stage]) -> dict[str, str]:
    """A digest of all that decides each stage's content, known before any is made: its settings and those of all stages
    before it. Stages of two builds with equal ones are the same.
    """
    keys: dict[str, str] = {}
    for stage in stages:
        parents = {parent: keys[parent] for parent in stage.parents}
        keys[stage.name] = config_digest(
            {"stage": stage.name, "settings": stage.settings, "parents": parents, "code": CODE_VERSION}
        )
    return keys


def fingerprint(paths: Sequence[str], config: TextConfig | None = None) -> list[list[Any]]:
    """Name, size and time of change of every file that reading `paths` would open, on object storage its address, size and
    version: notices an edit without reading a corpus twice.
    """
    rows: list[list[Any]] = []
    seen, report = DigestSet(), ReadReport()
    for path in paths:
        if is_remote(path) or local_path(path).exists():
            for file in input_files(path, config or TextConfig(), report, seen):
                if file.remote:
                    rows.append([file.remote.url, file.remote.n_bytes, file.remote.version])
                    continue
                facts = file.path.stat()
                rows.append([file.path.as_posix(), facts.st_size, facts.st_mtime_ns])
    return rows


def outside_folders(training: TrainingConfig) -> JsonObject:
    """Fingerprints of the folders from outside of the build that a stage reads, so that it is rebuilt when they change."""
    named = {name: getattr(training, name, None) for name in ("model", "replay", "student")}
    folders = {name: Path(folder) for name, folder in named.items() if folder}
    return {f"{name}_read": folder_fingerprint(path) for name, path in folders.items() if path.is_dir()}
