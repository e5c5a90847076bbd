"""The run directory: checkpoints and the plan of a run, in a folder named by a hash of settings and inputs.

The same job finds its checkpoints and resumes under its plan. Other settings or inputs are another folder next to it: a run
names the interrupted runs that it finds, and removes only its own folder, unless it was to overwrite. Where the other
settings would have led to the same checkpoint, as a larger `max_steps` does, the run takes the checkpoint over
(docs/decisions/0021-whose-checkpoint.md).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parakit.common.artifacts import LINEAGE, PLAN, RUN, open_artifact
from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.files import JsonObject, disk_errors, read_checked_json, write_checked_json
from parakit.common.processes import is_first, wait_for_all
from parakit.common.progress import log
from parakit.common.settings import config_digest
from parakit.model.config import ModelConfig, model_config
from parakit.training.config import TrainingConfig, TrainingPlan
from parakit.training.metrics import EVENTS, METRICS
from parakit.training.optimizers.schedules import plan_differences

MAX_NAMED = 4  # settings that are named where another run differs in more
# Settings whose change can leave the steps that were taken as they are; the plans decide whether it does.
LENGTH_AND_MEASURING = {
    *("max_steps", "max_tokens", "epochs", "warmup_steps", "decay_fraction", "final_fraction"),
    *(
        "parallel",
        "validate_every",
        "save_every",
        "before_after",
        "patience",
        "final_weights",
        "dynamics_every",
        "n_compared_prompts",
        "max_compared_tokens",
    ),
}


@dataclass(frozen=True)
class OtherRun:
    """An interrupted run of the same output with other settings or inputs."""

    path: Path
    step: int | None
    """Of its newest checkpoint; None where it has other work to resume from."""
    differences: dict[str, str]
    """By setting or input, in words."""

    @property
    def plan(self) -> TrainingPlan | None:
        """The plan of its newest checkpoint; None without one that can be read."""
        if self.step is None:
            return None
        with contextlib.suppress(UserError):
            checkpoint = open_artifact(_checkpoint(self.path, self.step), "train_state", verify=False)
            return TrainingPlan.parse(checkpoint.lineage["config"], str(checkpoint.path))
        return None

    def describe(self) -> str:
        """What it has done, and how it differs."""
        plan, named = self.plan, list(self.differences.values())[:MAX_NAMED]
        n_more = len(self.differences) - len(named)
        where = (
            ""
            if self.step is None
            else f" after step {self.step}" + (f" of {plan.max_steps}" if plan else "")
        )
        return f"{where} ({'; '.join([*named, *([f'{n_more} more'] if n_more else [])])})"


@contextlib.contextmanager
def run_directory(
    work: Path, training: TrainingConfig, inputs: Sequence[Path], spec: JsonObject, overwrite: bool
) -> Iterator[Path]:
    """The folder below `work` for a run of these settings and inputs. It is kept when the run fails with a checkpoint
    to resume from, and removed when it succeeds, with what else is in `work` but other interrupted runs; with
    `overwrite` those are removed too. The caller holds the lock of the output.
    """
    fingerprints = [[path.name, folder_fingerprint(path)] for path in inputs]
    settings = {"training": training.fingerprint(), "spec": spec, "inputs": fingerprints}
    run_dir = work / config_digest(settings | {"inputs": [found for _, found in fingerprints]})[:16]
    if not is_first():
        wait_for_all("run directory")
        yield run_dir
        return
    try:
        with disk_errors(run_dir):
            _remove_unresumable(work, run_dir)
            run_dir.mkdir(parents=True, exist_ok=True)
            write_checked_json(run_dir / RUN, settings)
        wait_for_all("run directory")
        yield run_dir
    except BaseException:
        if not has_checkpoint(run_dir):
            shutil.rmtree(run_dir, ignore_errors=True)
            with contextlib.suppress(OSError):
                work.rmdir()
        raise
    _remove_finished(work, run_dir.name, others=overwrite)


def discard_finished(out: Path, work: Path) -> None:
    """Remove from `work` what is left of the run that has made `out`, where a kill came between the two; the caller holds
    the lock.
    """
    with contextlib.suppress(UserError):
        run = open_artifact(out, verify=False).lineage.get("run")
        if isinstance(run, str):
            _remove_finished(work, run, others=False)


def other_runs(run_dir: Path) -> list[OtherRun]:
    """The interrupted runs next to `run_dir`."""
    settings = _settings_of(run_dir)
    found = []
    for path in sorted(run_dir.parent.iterdir()):
        if path != run_dir and (path / RUN).exists() and has_checkpoint(path):
            steps = [int(name.removeprefix("step-")) for name in checkpoint_names(path)]
            found.append(OtherRun(path, max(steps, default=None), _differences(_settings_of(path), settings)))
    return found


def adopt_checkpoints(run_dir: Path, plan: TrainingPlan) -> None:
    """Take over the checkpoints of another run that has done, up to its newest one, what `plan` would have done. Without
    any, and where this run has checkpoints of its own, nothing changes.
    """
    if checkpoint_names(run_dir):
        return
    for other in other_runs(run_dir):
        saved = other.plan
        if saved is None or other.step is None or not other.differences.keys() <= LENGTH_AND_MEASURING:
            continue
        if other.step > plan.max_steps or plan_differences(saved, plan, other.step):
            continue
        log(
            f"{run_dir.parent}: an interrupted run is continued{other.describe()}: its steps are those of this run"
        )
        for name in (METRICS, EVENTS, *checkpoint_names(other.path)):  # the newest checkpoint last
            if (other.path / name).exists():
                os.rename(other.path / name, run_dir / name)
        shutil.rmtree(other.path, ignore_errors=True)
        return


def report_other_runs(run_dir: Path, overwrite: bool) -> None:
    """Name the interrupted runs that this one does not continue."""
    for other in other_runs(run_dir):
        fate = (
            "deleted when this run has succeeded"
            if overwrite
            else "kept; the earlier settings resume it, and --overwrite deletes it"
        )
        log(f"{other.path}: an interrupted run of other settings{other.describe()} is {fate}")


def load_plan(run_dir: Path) -> tuple[ModelConfig, TrainingPlan] | None:
    """The model config and plan of an interrupted run; None where there is no checkpoint. Of several processes the first
    resolves the plan, and the others read it here.
    """
    path = run_dir / PLAN
    if not path.exists() or (is_first() and not has_checkpoint(run_dir)):
        return None
    hint = f"delete it: the plan is made again; or delete {run_dir} to start from the beginning"
    saved = read_checked_json(path, hint)
    config = model_config(saved["family"], saved["config"], str(path))
    return config, TrainingPlan.parse(saved["plan"], str(path))


def save_plan(run_dir: Path, config: ModelConfig, plan: TrainingPlan) -> None:
    """Write the model config and plan that a run starts with."""
    if not is_first():
        return
    settings = {"config": config.model_dump(mode="json"), "plan": plan.model_dump(mode="json")}
    write_checked_json(run_dir / PLAN, {"family": config.family} | settings)


def folder_fingerprint(path: Path) -> Any:
    """An artifact's digest; of a published model folder its files' sizes and times."""
    if (path / LINEAGE).is_file():
        return open_artifact(path, verify=False).digest
    files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(path.iterdir()) if p.is_file()]
    return [list(facts) for facts in files]


def has_checkpoint(run_dir: Path) -> bool:
    """Whether a run directory holds a checkpoint, or the finished step of a run of several."""
    return any(run_dir.glob("step-*"))


def checkpoint_names(run_dir: Path) -> list[str]:
    """The checkpoints in a run directory, from the oldest to the newest."""
    return sorted(path.name for path in run_dir.glob("step-*") if path.name.removeprefix("step-").isdigit())


def _checkpoint(run_dir: Path, step: int) -> Path:
    return run_dir / f"step-{step:08d}"


def _remove_unresumable(work: Path, run_dir: Path) -> None:
    """Remove the folders of runs that were killed before their first checkpoint."""
    for path in work.iterdir() if work.is_dir() else ():
        if path != run_dir and (path / RUN).exists() and not has_checkpoint(path):
            shutil.rmtree(path, ignore_errors=True)


def _remove_finished(work: Path, run: str, others: bool) -> None:
    """Remove a finished run and the data that was made for it; with `others`, other interrupted runs too."""
    for path in work.iterdir() if work.is_dir() else ():
        if others or path.name == run or not (path / RUN).exists():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # other runs stay
        work.rmdir()


def _settings_of(run_dir: Path) -> JsonObject:
    """The recorded settings of a run; empty where they are damaged."""
    with contextlib.suppress(CorruptArtifact):
        found = read_checked_json(run_dir / RUN, "")
        return found if isinstance(found, dict) else {}
    return {}


def _differences(earlier: JsonObject, settings: JsonObject) -> dict[str, str]:
    if not earlier:
        return {"settings": "whose settings cannot be read"}
    found = {}
    for part in ("training", "spec"):
        old, new = earlier.get(part, {}), settings.get(part, {})
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                found[key] = f"{key} {_shown(old, key)}, now {_shown(new, key)}"
    before, now = earlier.get("inputs", []), settings.get("inputs", [])
    for number in range(max(len(before), len(now))):
        old, new = before[number : number + 1], now[number : number + 1]
        if [fingerprint for _, fingerprint in old] != [fingerprint for _, fingerprint in new]:
            name = (new or old)[0][0]
            found[f"input {number}"] = f"another content of {name}"
    return found


def _shown(settings: Mapping[str, Any], key: str) -> str:
    value = settings.get(key)
    return "not set" if value is None else str(value)
