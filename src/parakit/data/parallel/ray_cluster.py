"""Runs tasks by Ray's workers through datatrove's executor: on this machine, or on the cluster that RAY_ADDRESS names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from parakit.common.errors import UserError
from parakit.data.parallel.tasks import run_task

_DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray reports usage over the network otherwise
    "RAY_raylet_start_wait_time_s": "300",  # a loaded machine needs more than Ray's half a minute
}
_GB_PER_TASK = 1
_TASKS_PER_PROCESS = 8  # Ray starts each in some seconds


def run_with_ray(folder: Path, numbers: Sequence[int], workers: int) -> None:
    """Run the tasks of `folder` with these numbers, `workers` at a time. Those that failed have no marker afterwards.
    `UserError` without Ray, or where it does not start.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        from datatrove.executor.ray import RayPipelineExecutor
        from datatrove.utils.logging import logger
    except ImportError:
        raise UserError(
            "executor ray needs datatrove and ray", "pip install 'parakit[cluster]', or use executor local"
        ) from None
    if not ray.is_initialized():
        _start(ray)
    logger.disable("datatrove")
    # datatrove's own `tasks_per_job` would run them all at once, each in a process, within the memory of one
    n_tasks = min(_TASKS_PER_PROCESS, max(1, len(numbers) // (4 * workers)))
    shares = [numbers[i : i + n_tasks] for i in range(0, len(numbers), n_tasks)]
    try:
        RayPipelineExecutor(
            [partial(_rank, folder, shares)],
            tasks=len(shares),
            workers=workers,
            mem_per_cpu_gb=_GB_PER_TASK,
            logging_dir=str(folder / "logs" / "ray"),
            skip_completed=False,  # the markers decide
        ).run()
    except (ray.exceptions.RayError, FileNotFoundError):  # datatrove sums statistics that failed tasks lack
        return  # the markers tell which tasks are missing


def _start(ray: object) -> None:
    address = os.environ.get("RAY_ADDRESS")
    try:
        ray.init(address=address, log_to_driver=False, include_dashboard=False)  # type: ignore[attr-defined]
    except Exception as error:
        raise UserError(
            f"Ray did not start: {str(error).splitlines()[0][:200]}",
            f"see whether the cluster at RAY_ADDRESS = {address} runs (ray status)"
            if address
            else "see /tmp/ray/session_latest/logs, or use executor local",
        ) from None


def _rank(
    folder: Path, shares: Sequence[Sequence[int]], data: object, rank: int = 0, world_size: int = 1
) -> None:
    """A share of the tasks, one after the other, as a step of a datatrove pipeline; one that fails does not end the others."""
    failure: Exception | None = None
    for number in shares[rank]:
        try:
            run_task(folder, number)
        except Exception as error:
            failure = error
    if failure is not None:
        raise failure
