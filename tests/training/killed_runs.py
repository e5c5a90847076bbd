"""A program that kills training runs and lets them go on:
`python -m tests.training.killed_runs FOLDER N_KILLS SEED [TASK ...]`.

It imports torch once and forks a child for every attempt. Half of the attempts are killed from outside at a
random moment; the others kill themselves (SIGKILL, nothing is cleaned up) at a random operation on files
inside a save, which an audit hook counts. Prints one JSON object a configuration, and one for all. `TASK`: the name of a
task of `tiny_tasks.py`, lora, dpo, grpo, ppo, or all; without any, three kinds of packing and optimizer.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from parakit.common.seeds import rng
from parakit.training import trainer as trainer_module
from parakit.training.metrics import MetricsLog, read_metrics
from parakit.training.trainer import Trainer
from tests.training.parallel.spread_runs import spread_trainer
from tests.training.tiny_runs import tiny_trainer, weights
from tests.training.tiny_tasks import TASKS

SETTINGS: list[dict[str, Any]] = [
    {"packing": "concat", "optimizer": "muon", "batch_growth": 2, "max_steps": 24, "save_every": 3},
    {"packing": "pack", "optimizer": "adamw", "micro_batch_size": 4, "max_steps": 24, "save_every": 2},
    {"packing": "concat", "optimizer": "muon", "micro_batch_size": 2, "max_steps": 40, "save_every": 5},
]


# Every objective: 192 tokens or 16 rows of 20, so that runs cross the edge of an epoch.
OF_TASK: dict[str, Any] = {"max_steps": 16, "save_every": 3}
ALL_TASKS = (*TASKS, "lora", "dpo", "grpo", "ppo")


def settings_of(names: Sequence[str]) -> list[dict[str, Any]]:
    """A configuration for each task; the usual three where none is named."""
    wanted = ALL_TASKS if "all" in names else names
    return [{"task": name} | OF_TASK for name in wanted] or SETTINGS


def make_trainer(folder: Path | None, settings: dict[str, Any]) -> Trainer:
    """A trainer of a configuration."""
    rest = {name: value for name, value in settings.items() if name != "task"}
    return (
        spread_trainer(settings["task"], folder, **rest)
        if "task" in settings
        else tiny_trainer(folder, **rest)
    )


def train(folder: Path, settings: dict[str, Any], before: Callable[[], object] = lambda: None) -> None:
    """What every attempt does: go on from what is there, log, save, leave the final weights."""
    trainer = make_trainer(folder / "work", settings)
    metrics = MetricsLog(folder / "work", trainer.first_step)
    with (folder / "attempts").open("a") as file:
        file.write(f"{trainer.first_step}\n")
    before()
    for record in trainer.steps():
        metrics.write("step", record.step, loss=record.loss, grad_norm=record.grad_norm)
    metrics.close()
    final = {name: data.hex() for name, data in weights(trainer.model).items()}
    (folder / "final.json").write_text(json.dumps(final))


def die_at(number: int) -> None:
    """SIGKILL for this process at its `number`-th operation on files inside a save."""
    state = {"saving": False, "seen": 0}
    real = trainer_module.save_train_state

    def watched(*arguments: Any) -> Path:
        state["saving"] = True
        path = real(*arguments)
        state["saving"] = False
        return path

    def hook(event: str, arguments: Any) -> None:
        if state["saving"] and event in (
            "open",
            "os.rename",
            "os.mkdir",
            "os.chmod",
            "shutil.rmtree",
            "os.remove",
        ):
            state["seen"] += 1
            if state["seen"] == number:
                os.kill(os.getpid(), signal.SIGKILL)

    trainer_module.save_train_state = watched  # type: ignore[assignment]
    sys.addaudithook(hook)


def attempt(folder: Path, settings: dict[str, Any], inside_save: int | None, seconds: float | None) -> bool:
    """Fork a child that trains; True when it came to its end unharmed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking where a library has threads
        child = os.fork()
    if child == 0:
        try:
            train(folder, settings, lambda: die_at(inside_save) if inside_save else None)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("an attempt failed by itself")
    return os.WIFEXITED(status)


def kill_and_compare(folder: Path, settings: dict[str, Any], n_kills: int, seed: int) -> dict[str, Any]:
    """An unbroken run against one that is killed `n_kills` times."""
    unbroken, broken = folder / "unbroken", folder / "broken"
    for path in (unbroken, broken):
        path.mkdir(parents=True)
    started = time.monotonic()
    assert attempt(unbroken, settings, None, None)
    whole = time.monotonic() - started
    generator = rng(seed, "kills")
    n_killed = n_inside = n_lost = 0
    while n_killed < n_kills:
        inside = n_killed % 2 == 1
        reached = max([row["step"] for row in _rows(broken)], default=0)
        n_starts = len(_starts(broken))
        ended = attempt(
            broken,
            settings,
            int(generator.integers(1, 90)) if inside else None,
            None if inside else float(generator.uniform(0, 0.8 * whole)),
        )
        n_killed, n_inside = n_killed + (not ended), n_inside + (inside and not ended)
        if len(_starts(broken)) > n_starts:  # it came as far as loading
            n_lost = max(n_lost, reached - _starts(broken)[-1])
        if ended:  # begin anew: the kills go on
            _compare(unbroken, broken)
            broken = folder / f"broken-{n_killed}-{generator.integers(1 << 30)}"
            broken.mkdir()
    while not attempt(broken, settings, None, None):
        pass
    _compare(unbroken, broken)
    left = [path.name for path in (broken / "work").glob(".*")]
    return {
        "task": settings.get("task", settings.get("packing")),
        "kills": n_killed,
        "inside": n_inside,
        "most_lost": n_lost,
        "save_every": settings["save_every"],
        "left": left,
    }


def _rows(folder: Path) -> list[dict[str, Any]]:
    path = folder / "work" / "metrics.jsonl"
    return read_metrics(path) if path.exists() else []


def _starts(folder: Path) -> list[int]:
    """The step that each attempt began with."""
    path = folder / "attempts"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def _compare(unbroken: Path, broken: Path) -> None:
    wanted, got = _rows(unbroken), _rows(broken)
    assert [row["step"] for row in got] == [row["step"] for row in wanted], "each step once"
    assert got == wanted, "losses differ"
    assert (broken / "final.json").read_text() == (unbroken / "final.json").read_text(), "weights differ"


def kill_runs(
    folder: Path, n_kills: int, seed: int, configurations: Sequence[dict[str, Any]] = SETTINGS
) -> Iterator[dict[str, Any]]:
    """What came of each configuration, the kills shared among them."""
    for number, settings in enumerate(configurations):
        make_trainer(None, settings)  # what torch imports when an optimizer is made, the children then have
        share = n_kills // len(configurations) + (number < n_kills % len(configurations))
        yield kill_and_compare(folder / str(number), settings, share, seed + number)


def main() -> None:
    folder, n_kills, seed, *tasks = sys.argv[1:]
    found = []
    for one in kill_runs(Path(folder), int(n_kills), int(seed), settings_of(tasks)):
        found.append(one)
        print(json.dumps(one), flush=True)
    total = {key: sum(one[key] for one in found) for key in ("kills", "inside")}
    print(
        json.dumps({"task": "every"} | total | {"left": sum(len(one["left"]) for one in found)}), flush=True
    )


if __name__ == "__main__":
    main()
