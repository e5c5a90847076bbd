"""Runs the numbered tasks of a stage, each once: by processes of this machine, by Slurm, or by Ray through datatrove.

A run that was killed, or of which tasks failed, resumes with those that left no marker (`tasks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from parakit.common.errors import UserError
from parakit.common.files import JsonObject
from parakit.data.parallel.ray_cluster import run_with_ray
from parakit.data.parallel.slurm import run_with_slurm
from parakit.data.parallel.tasks import begin_stage, failure, missing_tasks, run_task

ExecutorName = Literal["local", "slurm", "ray"]


@dataclass(frozen=True)
class TaskRunner:
    """Runs tasks, `workers` at a time. `folder` keeps their markers and outputs; with Slurm and Ray it must be on a disk
    that all machines have, under the same path.
    """

    folder: Path
    workers: int
    executor: ExecutorName = "local"
    slurm_options: tuple[str, ...] = ()

    def run(self, kind: str, stage: str, settings: JsonObject, n_tasks: int) -> Path:
        """Run the tasks 0 to `n_tasks` - 1 of a kind (see `TASKS`) that have no marker in the folder of `stage`, which is
        returned. `UserError` where some did not finish.
        """
        folder = (self.folder / stage).absolute()
        begin_stage(folder, kind, settings)
        missing = missing_tasks(folder, n_tasks)
        if not missing:
            return folder
        if self.executor == "slurm":
            run_with_slurm(folder, missing, self.workers, self.slurm_options)
        elif self.executor == "ray":
            run_with_ray(folder, missing, self.workers)
        elif self.workers == 1 or len(missing) == 1:
            for number in missing:
                run_task(folder, number)
        else:
            _run_in_processes(folder, missing, self.workers)
        if left := missing_tasks(folder, n_tasks):
            raise failure(folder, left, n_tasks)
        return folder


def _run_in_processes(folder: Path, numbers: Sequence[int], workers: int) -> None:
    import multiprocessing  # only several processes need these, and every command of text would load them
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(numbers)), mp_context=context) as pool:
        futures = [pool.submit(partial(run_task, folder), number) for number in numbers]
        try:
            for future in as_completed(futures):
                future.result()
        except BrokenProcessPool:
            raise UserError(
                f"{folder.name}: a worker process was killed, often for want of memory",
                f"run it again with fewer than {workers} workers; parts that are finished are not repeated",
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
