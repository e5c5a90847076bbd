"""Runs numbered tasks, each once: by processes of this machine, or by Ray's workers through datatrove.

A finished task leaves a marker, so a run that was killed resumes with those that are missing. A task writes its output
under other names first and renames it, and depends on nothing but its number and the files that are there.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from parakit.common.errors import UserError

ExecutorName = Literal["local", "ray"]
Task = Callable[[int], None]


@dataclass(frozen=True)
class TaskRunner:
    """Runs tasks with `workers` processes. `folder` keeps their markers and outputs; with Ray it must be on a disk that all
    machines have.
    """

    folder: Path
    workers: int
    executor: ExecutorName = "local"

    def run(self, name: str, task: Task, n_tasks: int) -> None:
        """Run `task(k)` for every k in range(n_tasks) without a marker under `name`. The first error ends it."""
        markers = self.folder / f"{name}.done"
        markers.mkdir(parents=True, exist_ok=True)
        missing = [k for k in range(n_tasks) if not (markers / str(k)).exists()]
        one = partial(run_and_mark, task, markers)
        if not missing:
            return
        if self.executor == "ray":
            _run_with_ray(one, n_tasks, self.workers, self.folder / f"{name}.ray")
        elif self.workers == 1 or len(missing) == 1:
            for number in missing:
                one(number)
        else:
            _run_in_processes(one, missing, self.workers, name)


def run_and_mark(task: Task, markers: Path, number: int) -> None:
    """Run one task, and leave its marker."""
    if not (markers / str(number)).exists():
        task(number)
        (markers / str(number)).touch()


def _run_in_processes(task: Task, numbers: list[int], workers: int, name: str) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(numbers)), mp_context=context) as pool:
        futures = [pool.submit(task, number) for number in numbers]
        try:
            for future in as_completed(futures):
                future.result()
        except BrokenProcessPool:
            raise UserError(
                f"{name}: a worker process was killed, often for want of memory",
                f"run it again with fewer than {workers} workers; parts that are finished are not repeated",
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _run_with_ray(task: Task, n_tasks: int, workers: int, logs: Path) -> None:
    try:
        import ray
        from datatrove.executor.ray import RayPipelineExecutor
    except ImportError:
        raise UserError(
            "executor ray needs datatrove and ray", "pip install 'parakit[cluster]', or use executor local"
        ) from None
    if not ray.is_initialized():
        ray.init(address=os.environ.get("RAY_ADDRESS"), log_to_driver=False, include_dashboard=False)
    RayPipelineExecutor(
        [partial(_rank, task)],
        tasks=n_tasks,
        workers=workers,
        logging_dir=str(logs),
        skip_completed=False,  # the markers decide
    ).run()


def _rank(task: Task, data: object, rank: int = 0, world_size: int = 1) -> None:
    """One task as a step of a datatrove pipeline."""
    task(rank)
