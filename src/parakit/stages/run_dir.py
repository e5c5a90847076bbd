"""Where a run works: a folder for its checkpoints and its plan, named after its settings and inputs.

A run that is begun again with the same settings finds its checkpoints and goes on under the plan it began with;
one with others finds nothing and takes nothing.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from parakit.common.artifacts import LINEAGE, open_artifact
from parakit.common.files import disk_errors, read_json, write_json_atomic
from parakit.common.settings import config_digest
from parakit.model.config import ModelConfig, model_config
from parakit.training.config import TrainingConfig, TrainingPlan

PLAN = "plan.json"


@contextlib.contextmanager
def run_directory(
    work: Path, training: TrainingConfig, inputs: Sequence[Path], said: dict[str, Any]
) -> Iterator[Path]:
    """The folder below `work` for a run of these settings and inputs. It stays when the run breaks off with
    a checkpoint to go on from; a run that ends well clears all of `work`.
    """
    settings = {"training": training.model_dump(mode="json"), "said": said}
    inside = work / config_digest(settings | {"inputs": [folder_fingerprint(path) for path in inputs]})[:16]
    try:
        with disk_errors(inside):
            inside.mkdir(parents=True, exist_ok=True)
        yield inside
    except BaseException:
        if not any(inside.glob("step-*")):
            shutil.rmtree(inside, ignore_errors=True)
            with contextlib.suppress(OSError):
                work.rmdir()
        raise
    shutil.rmtree(work, ignore_errors=True)


def load_plan(work: Path) -> tuple[ModelConfig, TrainingPlan] | None:
    """The shape and plan of an interrupted run, if there is one with a checkpoint."""
    path = work / PLAN
    if not path.exists() or not any(work.glob("step-*")):
        return None
    kept = read_json(path)
    shape = model_config(kept["family"], kept["shape"], str(path))
    return shape, TrainingPlan.parse(kept["plan"], str(path))


def save_plan(work: Path, shape: ModelConfig, plan: TrainingPlan) -> None:
    """Write down what a run was begun with."""
    kept = {"shape": shape.model_dump(mode="json"), "plan": plan.model_dump(mode="json")}
    write_json_atomic(work / PLAN, {"family": shape.family} | kept)


def folder_fingerprint(path: Path) -> Any:
    """An artifact's digest; of a foreign model folder its files' sizes and times."""
    if (path / LINEAGE).is_file():
        return open_artifact(path, verify=False).digest
    files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(path.iterdir()) if p.is_file()]
    return [list(facts) for facts in files]
