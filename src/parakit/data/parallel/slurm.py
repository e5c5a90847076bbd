"""Runs tasks as a Slurm job array, and waits for it.

Each element of the array runs the tasks on one line of a file; `sbatch --wait` returns when the last has ended. Clusters
refuse arrays of more than a thousand elements unless they are configured otherwise (MaxArraySize), so an element may
have several tasks.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from parakit.common.errors import UserError
from parakit.common.files import write_text_atomic
from parakit.data.parallel.tasks import missing_tasks

MAX_ELEMENTS = 1_000
_SHARED_DISK_SECONDS = (
    60  # until markers of other machines are seen: network drives cache the names in a folder
)


def run_with_slurm(folder: Path, numbers: Sequence[int], workers: int, options: Sequence[str]) -> None:
    """Run the tasks of `folder` with these numbers, `workers` at a time. `options` go to sbatch. Those that failed have no
    marker afterwards. `UserError` without Slurm, or where it refuses the job.
    """
    if not shutil.which("sbatch"):
        raise UserError(
            "executor slurm needs the command sbatch, and there is none",
            "run this on a login node of the cluster, or use executor local",
        )
    per_element = -(-len(numbers) // MAX_ELEMENTS)
    lines = [numbers[i : i + per_element] for i in range(0, len(numbers), per_element)]
    listed, script = folder / "tasks.txt", folder / "job.sh"
    write_text_atomic(listed, "".join(" ".join(map(str, line)) + "\n" for line in lines))
    command = [sys.executable, "-m", "parakit.data.parallel.tasks", str(folder), str(listed)]
    write_text_atomic(script, f"#!/bin/sh\nexec {shlex.join(command)}\n")
    script.chmod(0o755)
    name = f"parakit-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    sbatch = [
        *("sbatch", "--wait", f"--array=0-{len(lines) - 1}%{workers}", f"--job-name={name}"),
        f"--output={folder / 'logs' / '%A-%a.log'}",
        *(option if option.startswith("-") else f"--{option}" for option in options),
        str(script),
    ]
    try:
        done = subprocess.run(sbatch, capture_output=True, text=True, check=False)
    except BaseException:
        subprocess.run(["scancel", f"--name={name}"], capture_output=True, check=False)
        raise
    if done.returncode and "Submitted" not in done.stdout:
        why = done.stderr.strip() or f"exit status {done.returncode}"
        raise UserError(
            f"sbatch refused the job: {why.splitlines()[-1][:200]}",
            "set slurm_options as the cluster needs them, such as partition=NAME time=02:00:00 mem=4G",
        )
    end = time.monotonic() + (0 if done.returncode else _SHARED_DISK_SECONDS)
    while time.monotonic() < end and (set(missing_tasks(folder, max(numbers) + 1)) & set(numbers)):
        time.sleep(1)
