"""The process of one run of a sweep: `python -m parakit.recipe.sweeps.child FOLDER RUN`.

It builds the run's recipe from the plan. Its standard input is a pipe that the sweep holds open: when that ends, however
it ends, the run stops as on Ctrl-C, with its checkpoints written.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import traceback
from pathlib import Path

from parakit.common.errors import UserError
from parakit.common.files import read_json, write_json_atomic
from parakit.common.progress import log
from parakit.recipe.build_state import RUNS, SWEEP
from parakit.recipe.builder import build
from parakit.recipe.sweeps.plan import read_sweep

FAILED, STOPPED = 1, 130  # exit status


def main(folder: str, run: str) -> int:
    """Build a run of the sweep in `folder`; 0, 1 where it failed, 130 where it was stopped."""
    _stop_with_the_sweep()
    try:
        return build_run(Path(folder), run)
    except KeyboardInterrupt as interrupt:
        log(str(interrupt) or "stopped")
        return STOPPED


def build_run(folder: Path, name: str) -> int:
    """Build the run `name`, with what other runs have; a failure is recorded for `failure`, and gives 1."""
    sweep = read_sweep(folder)
    run = next(run for run in sweep.runs if run.name == name)
    shared, record = sweep.shared_stages(), _record(folder, name)
    record.unlink(missing_ok=True)
    try:
        build(run.recipe, folder / RUNS, shared)
    except Exception as error:
        if not isinstance(error, UserError):
            traceback.print_exc()
        message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        log(f"error: {message}")
        record.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(record, {"stage": shared.current, "message": message})
        return FAILED
    return 0


def failure(folder: Path, name: str) -> tuple[str, str]:
    """The stage in which a run failed, and its message; empty where its process recorded none."""
    record = _record(folder, name)
    found = read_json(record, dict[str, str]) if record.is_file() else {}
    return found.get("stage", ""), found.get("message", "")


def _record(folder: Path, name: str) -> Path:
    return folder / SWEEP / "failures" / f"{name}.json"


def _stop_with_the_sweep() -> None:
    """Ctrl-C for this process as soon as its standard input ends."""
    main_thread = threading.main_thread().ident
    assert main_thread is not None

    def wait() -> None:
        while os.read(0, 1):
            pass
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(main_thread, signal.SIGINT)
        else:
            _thread.interrupt_main()

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
