"""The run directory: checkpoints and the plan of a run, in a folder named by a hash of settings and inputs.

The same job finds its checkpoints and resumes under its plan; other settings or inputs are another folder.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from parakit.common.artifacts import LINEAGE, open_artifact
from parakit.common.files import JsonObject, disk_errors, read_json, write_json_atomic
from parakit.common.settings import config_digest
from parakit.model.config import ModelConfig, model_config
from parakit.training.config import TrainingConfig, TrainingPlan

PLAN = "plan.json"


@contextlib.contextmanager
def run_directory(
    work: Path, training: TrainingConfig, inputs: Sequence[Path], spec: JsonObject
) -> Iterator[Path]:
    """The folder below `work` for a run of these settings and inputs. It is kept when the run fails with a checkpoint
    to resume from; a run that succeeds removes all of `work`.
    """
    settings = {"training": training.model_dump(mode="json"), "spec": spec}
    run_dir = work / config_digest(settings | {"inputs": [folder_fingerprint(path) for path in inputs]})[:16]
    try:
        with disk_errors(run_dir):
            run_dir.mkdir(parents=True, exist_ok=True)
        yield run_dir
    except BaseException:
        if not any(run_dir.glob("step-*")):
            shutil.rmtree(run_dir, ignore_errors=True)
            with contextlib.suppress(OSError):
                work.rmdir()
        raise
    shutil.rmtree(work, ignore_errors=True)


def load_plan(run_dir: Path) -> tuple[ModelConfig, TrainingPlan] | None:
    """The model config and plan of an interrupted run; None where there is no checkpoint."""
    path = run_dir / PLAN
    if not path.exists() or not any(run_dir.glob("step-*")):
        return None
    saved = read_json(path)
    config = model_config(saved["family"], saved["config"], str(path))
    return config, TrainingPlan.parse(saved["plan"], str(path))


def save_plan(run_dir: Path, config: ModelConfig, plan: TrainingPlan) -> None:
    """Write the model config and plan that a run starts with."""
    settings = {"config": config.model_dump(mode="json"), "plan": plan.model_dump(mode="json")}
    write_json_atomic(run_dir / PLAN, {"family": config.family} | settings)


def folder_fingerprint(path: Path) -> Any:
    """An artifact's digest; of a published model folder its files' sizes and times."""
    if (path / LINEAGE).is_file():
        return open_artifact(path, verify=False).digest
    files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(path.iterdir()) if p.is_file()]
    return [list(facts) for facts in files]
