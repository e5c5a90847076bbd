"""Processes of a run: one is the default; several wait for one another through torch's store."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from parakit.common import processes
from parakit.common.errors import UserError

PROGRAM = """
import json, sys
from pathlib import Path
from parakit.common import processes
processes.wait_for_all("start")
first = processes.from_first("plan", lambda: {"by": processes.rank(), "pair": (1, 2)})
ranks = processes.gather("ranks", processes.rank())
try:
    processes.from_first("fails", lambda: 1 / 0)
except (ZeroDivisionError, processes.ProcessFailed) as error:
    failure = f"{type(error).__name__}: {error}"
order = Path(sys.argv[1])
def work():
    with order.open("a") as file:
        file.write(str(processes.rank()))
    return {1: "any value"}
in_turn = processes.in_turn("work", work) == {1: "any value"}
def counted():
    processes.wait_for_all("nobody else comes here")
    return processes.world_size()
worlds = [processes.first_alone("alone", counted), processes.world_size()]
processes.finish()
print(json.dumps([processes.is_first(), first, ranks, failure, in_turn, worlds, order.read_text()]))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_without_a_launcher_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in processes.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert (processes.rank(), processes.world_size(), processes.local_rank()) == (0, 1, 0)
    assert processes.is_first()
    assert not processes.is_distributed()
    processes.wait_for_all("nothing")
    assert processes.from_first("value", lambda: (1, 2)) == (1, 2)
    assert processes.gather("value", 3) == [3]


def test_a_world_without_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    processes.store.cache_clear()
    for name in processes.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="RANK and MASTER_ADDR and MASTER_PORT are not set"):
        processes.store()


def test_other_programs_are_no_process_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("UNRELATED", "kept")
    found = processes.single_process_environment()
    assert not {"RANK", "TORCHELASTIC_RUN_ID"} & found.keys()
    assert found["UNRELATED"] == "kept"


def test_two_processes_wait_and_share(tmp_path: Path) -> None:
    environment = os.environ | {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "order")],
            env=environment | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [json.loads(process.communicate(timeout=100)[0]) for process in started]
    shared, same = {"by": 0, "pair": [1, 2]}, [True, [1, 2], "01"]
    assert outputs[0] == [True, shared, [0, 1], "ZeroDivisionError: division by zero", *same]
    failure = "ProcessFailed: rank 0 failed (fails): division by zero"
    assert outputs[1] == [False, shared, [0, 1], failure, *same]
