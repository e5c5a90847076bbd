"""Killed training runs: `python -m tests.attacks.kills --n 60 --seed 0`.

A run of a training command is killed (SIGKILL, nothing is cleaned up) one to three times: at a random moment, or at a random
operation on files, which an audit hook counts; half of these are in the last fifth, where the model is saved. Then the same
command is repeated until it ends. Its model and its metrics must equal those of a run that nobody killed, and nothing else may
be left next to the output. With `--signal SIGTERM` all come at random moments, and a run must save and end within 30 s with
status 143. Prints a JSON object for each command and one for all; status 1 after a violation.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from parakit.cli.main import main as parakit
from parakit.common.seeds import rng
from parakit.training.metrics import read_metrics
from tests.attacks.forked import Outcome, forked
from tests.attacks.training_inputs import COMMANDS, command_of, make_inputs

OPERATIONS = (
    "open",
    "os.rename",
    "os.mkdir",
    "os.chmod",
    "os.remove",
    "os.rmdir",
    "os.link",
    "shutil.rmtree",
)
OF_TIME = ("second", "share_of_peak", "peak_memory", "reason")  # figures that no two runs share
MAX_KILLS = 3
MAX_STOP_SECONDS, STOPPED = 30.0, 128 + signal.SIGTERM
LAST_PART, LAST_SHARE = 0.2, 0.5


@dataclass
class Killed:
    """What was done to the runs of one command."""

    command: str
    runs: int = 0
    kills: int = 0
    in_last_part: int = 0
    resumed: int = 0
    slowest_stop: float = 0.0
    """Seconds from SIGTERM to the end of the process."""
    violations: list[str] = field(default_factory=list)


def on_operation(act: Callable[[int], None]) -> None:
    """Call `act` with the number of each operation that writes from now on."""
    state = {"n": 0}

    def hook(event: str, arguments: Any) -> None:
        if event not in OPERATIONS or (event == "open" and not _writes(arguments)):
            return
        state["n"] += 1
        act(state["n"])

    sys.addaudithook(hook)


def _writes(arguments: Any) -> bool:
    _, mode, flags = arguments
    return (
        bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if isinstance(flags, int)
        else "r" not in str(mode)
    )


def attempt(
    command: list[str],
    *,
    at_operation: int | None = None,
    after: float | None = None,
    number: int = signal.SIGKILL,
    count: Path | None = None,
) -> Outcome:
    """Run the command in a child, killed at an operation, or by a signal after some seconds; or count its operations."""

    def child() -> int:
        if at_operation is not None:
            on_operation(lambda n: os.kill(os.getpid(), signal.SIGKILL) if n == at_operation else None)
        if count is not None:
            counted: list[int] = [0]
            on_operation(lambda n: counted.__setitem__(0, n))
            status = parakit(command)
            count.write_text(str(counted[0]))
            return status
        return parakit(command)

    return forked(child, kill_after=after, kill_with=number)


def facts(output: Path) -> dict[str, Any]:
    """What must be equal: the bytes of all files that hold no times, the metrics and the recorded result."""
    found: dict[str, Any] = {}
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output).as_posix()
        if path.is_file() and not name.startswith(("training/", "lineage", "manifest", "README")):
            found[name] = path.read_bytes()
    found["metrics"] = [_timeless(row) for row in read_metrics(output / "training/metrics.jsonl")]
    found["result"] = _timeless(json.loads((output / "lineage.json").read_text())["result"])
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if not any(part in k for part in OF_TIME)}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def kill_runs(
    name: str, inputs: dict[str, Path], folder: Path, n_runs: int, seed: int, number: int = signal.SIGKILL
) -> Killed:
    """`n_runs` runs of one command, each killed up to `MAX_KILLS` times, with SIGTERM at random moments only."""
    folder.mkdir(parents=True)
    killed, generator = Killed(name), rng(seed, "kills", name)
    counter = folder / "operations"
    started = time.monotonic()
    outcome = attempt(command_of(name, inputs, folder / "whole/out"), count=counter)
    assert outcome.status == 0, outcome.printed
    seconds, n_operations = time.monotonic() - started, int(counter.read_text())
    wanted = facts(folder / "whole/out")
    for run in range(n_runs):
        parent = folder / str(run)
        command = command_of(name, inputs, parent / "out")
        plans: list[tuple[int | None, float | None]] = []
        for _ in range(int(generator.integers(1, MAX_KILLS + 1))):
            last = generator.random() < LAST_SHARE
            operation = int(
                generator.integers(int(n_operations * (1 - LAST_PART)) if last else 1, n_operations + 1)
            )
            moment = float(generator.uniform(0, seconds))
            by_operation = generator.random() < 0.5 and number == signal.SIGKILL
            plans.append((operation, None) if by_operation else (None, moment))
        _kill_run(killed, command, parent / "out", plans, wanted, n_operations, number)
        if not killed.violations:
            shutil.rmtree(parent)
    return killed


def _kill_run(
    killed: Killed,
    command: list[str],
    output: Path,
    plans: list[tuple[int | None, float | None]],
    wanted: dict[str, Any],
    n_operations: int,
    number: int,
) -> None:
    killed.runs += 1
    where = f"{killed.command} {output}: {plans}"
    ended = False
    for operation, moment in plans:
        started = time.monotonic()
        outcome = attempt(command, at_operation=operation, after=moment, number=number)
        if number == signal.SIGTERM and moment is not None:
            killed.slowest_stop = max(killed.slowest_stop, time.monotonic() - started - moment)
        if outcome.status not in (-number, STOPPED):
            ended = True
            break
        killed.kills += 1
        killed.in_last_part += operation is not None and operation > n_operations * (1 - LAST_PART)
    if not ended:
        outcome = attempt(command)
    killed.resumed += "resuming after step" in outcome.printed
    was_there = (
        outcome.status == 2 and "exists already" in outcome.printed
    )  # the kill came after the last rename
    if outcome.crashed or not (outcome.status == 0 or was_there):
        killed.violations.append(f"{where}: ended with {outcome.status}: {outcome.printed[-1500:]}")
        return
    if killed.slowest_stop > MAX_STOP_SECONDS:
        killed.violations.append(f"{where}: stopped after {killed.slowest_stop:.0f} s")
    if left := sorted(path.name for path in output.parent.iterdir() if path != output):
        killed.violations.append(f"{where}: left behind: {left}")
    found = facts(output)
    if different := sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)):
        killed.violations.append(f"{where}: differs in {different}")


def main() -> int:
    """Kill runs and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=12, help="runs, spread over the commands")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="*", default=list(COMMANDS))
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--signal", choices=["SIGKILL", "SIGTERM"], default="SIGKILL")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="parakit-kills-"))
    inputs = make_inputs(folder / "inputs")
    all_killed = []
    for number, name in enumerate(arguments.commands):
        n_runs = arguments.n // len(arguments.commands) + (number < arguments.n % len(arguments.commands))
        if not n_runs:
            continue
        assert parakit(command_of(name, inputs, folder / "warm" / name)) == 0  # the children have its imports
        place = folder / name.replace(" ", "-")
        killed = kill_runs(name, inputs, place, n_runs, arguments.seed, signal.Signals[arguments.signal])
        all_killed.append(killed)
        print(json.dumps(vars(killed)), flush=True)
    violations = [one for killed in all_killed for one in killed.violations]
    total = {
        key: sum(getattr(one, key) for one in all_killed)
        for key in ("runs", "kills", "in_last_part", "resumed")
    }
    total |= {"slowest_stop": max(one.slowest_stop for one in all_killed), "violations": len(violations)}
    print(json.dumps({"command": "all"} | total), flush=True)
    if not violations and arguments.folder is None:
        shutil.rmtree(folder)
    return int(bool(violations))


if __name__ == "__main__":
    sys.exit(main())
