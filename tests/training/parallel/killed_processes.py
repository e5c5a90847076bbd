"""A program that kills one process of a run in many, and lets the run go on:
`python -m tests.training.parallel.killed_processes FOLDER N_KILLS SEED`.

Half of the kills come from outside, at a random moment; the other half at a random operation on files inside a save. The others
are ended as torchrun's agent would end them. Prints one JSON object a layout.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore

from parakit.common.seeds import rng
from parakit.training.metrics import MetricsLog, read_metrics
from tests.training.parallel.forked import start_process
from tests.training.parallel.spread_runs import spread_trainer

LAYOUTS = [(2, "shard"), (2, "data"), (2, "tensor")]
MAX_STEPS, SAVE_EVERY = 24, 3
FILE_EVENTS = ("open", "os.rename", "os.mkdir", "os.chmod", "shutil.rmtree", "os.remove")
GRACE = 20.0  # seconds that the others have to end by themselves


def train(folder: Path, parallel: str, dies_at: int | None) -> None:
    """What every attempt does: go on from what is there, log, save, leave the final weights."""
    if dies_at is not None:
        die_inside_a_save(dies_at)
    settings = {"parallel": parallel, "max_steps": MAX_STEPS, "save_every": SAVE_EVERY}
    trainer = spread_trainer("next_token", folder / "work", **settings)
    metrics = MetricsLog(folder / "work", trainer.first_step)
    for record in trainer.steps():
        metrics.write("step", record.step, loss=record.loss, grad_norm=record.grad_norm)
    metrics.close()
    trainer.engine.release()
    if trainer.engine.is_first:
        final = {name: p.detach().numpy().tobytes().hex() for name, p in trainer.model.named_parameters()}
        (folder / "final.json").write_text(json.dumps(final))


def die_inside_a_save(number: int) -> None:
    """SIGKILL for this process at the `number`-th operation on files of the thread that saves."""
    seen = 0

    def hook(event: str, _: Any) -> None:
        nonlocal seen
        if event in FILE_EVENTS and threading.current_thread().name.startswith("step-"):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def attempt(
    folder: Path, n: int, parallel: str, victim: int, inside_save: int | None, seconds: float | None
) -> tuple[bool, int]:
    """Train in `n` processes of which one is killed; whether all came to their end, and how many others had to be ended."""
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    children = {}
    for rank in range(n):
        work: Callable[..., Any] = train
        dies_at = inside_save if rank == victim else None
        child, reader = start_process(rank, n, server.port, work, (folder, parallel, dies_at), quiet=True)
        os.close(reader)
        children[child] = rank
    if seconds is not None:
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(next(child for child, rank in children.items() if rank == victim), signal.SIGKILL)
    statuses: dict[int, int] = {}
    deadline: float | None = None
    n_ended = 0
    while len(statuses) < n:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child in children:
            statuses[child] = status
            if status and deadline is None:
                deadline = time.monotonic() + GRACE
        elif deadline is not None and time.monotonic() > deadline:
            for other in children.keys() - statuses.keys():
                os.kill(other, signal.SIGKILL)
                n_ended += 1
            deadline = None
        else:
            time.sleep(0.01)
    return not any(statuses.values()), n_ended


def kill_and_compare(folder: Path, n: int, parallel: str, n_kills: int, seed: int) -> dict[str, Any]:
    """An unbroken run against one of which a process is killed `n_kills` times."""
    unbroken, broken = folder / "unbroken", folder / "broken-0"
    for path in (unbroken, broken):
        path.mkdir(parents=True)
    started = time.monotonic()
    assert attempt(unbroken, n, parallel, 0, None, None)[0]
    whole, generator = time.monotonic() - started, rng(seed, "kills")
    n_killed = n_inside = n_ended = n_runs = 0
    while n_killed < n_kills:
        inside, victim = n_killed % 2 == 1, int(generator.integers(n))
        done, ended = attempt(
            broken, n, parallel, victim,
            int(generator.integers(1, 30)) if inside else None,
            None if inside else float(generator.uniform(0, 0.9 * whole)),
        )  # fmt: skip
        n_killed, n_inside, n_ended = n_killed + (not done), n_inside + (inside and not done), n_ended + ended
        if done:  # begin a new run: the kills go on
            compare(unbroken, broken)
            n_runs += 1
            broken = folder / f"broken-{n_runs}"
            broken.mkdir()
    while not attempt(broken, n, parallel, 0, None, None)[0]:
        pass
    compare(unbroken, broken)
    left = [path.name for path in (broken / "work").glob(".*")]
    return {
        "layout": f"{n}:{parallel}",
        "kills": n_killed,
        "inside": n_inside,
        "ended": n_ended,
        "runs": n_runs + 1,
        "left": left,
    }


def compare(unbroken: Path, broken: Path) -> None:
    """Each step once, with the same figures, and the same weights."""
    wanted, got = (read_metrics(path / "work" / "metrics.jsonl") for path in (unbroken, broken))
    assert [row["step"] for row in got] == list(range(1, MAX_STEPS + 1)), "each step once"
    assert got == wanted, "losses differ"
    assert (broken / "final.json").read_text() == (unbroken / "final.json").read_text(), "weights differ"


def kill_processes(folder: Path, n_kills: int, seed: int) -> Iterator[dict[str, Any]]:
    """What came of each layout, the kills shared among them."""
    for number, (n, parallel) in enumerate(LAYOUTS):
        share = n_kills // len(LAYOUTS) + (number < n_kills % len(LAYOUTS))
        if share:
            yield kill_and_compare(folder / str(number), n, parallel, share, seed + number)


def main() -> None:
    for found in kill_processes(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])):
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
