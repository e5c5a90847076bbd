"""What is done outside of a healthy run: a process that is killed, a machine without network, commands without the harness."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import parakit
from parakit.common.errors import UserError

# A process that may not use the network; `DIE_IN_BLOCK` is the block of four requests in which it kills itself.
PROCESS = """
import os, signal, socket, sys

def refuse(*args, **_):
    raise SystemExit(f"the network is used: {args}")

socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from parakit.cli.main import main
from parakit.evaluation.harness import model

model.MIN_BLOCK = model.MAX_BLOCK = 4
score, blocks = model.HarnessModel._score, []

def counted(self, items):
    blocks.append(len(items))
    if len(blocks) == int(os.environ["DIE_IN_BLOCK"]):
        os.kill(os.getpid(), signal.SIGKILL)
    return score(self, items)

model.HarnessModel._score = counted
status = main(sys.argv[1:])
print(f"computed {sum(blocks)}", file=sys.stderr)
sys.exit(status)
"""


def in_process(
    words: list[str], cache: Path, die_in_block: int = 0, code: str = PROCESS
) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"PARAKIT_CACHE": str(cache), "HF_HOME": str(cache), "DIE_IN_BLOCK": str(die_in_block)}
    return subprocess.run(
        [sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.long
def test_a_killed_command_resumes_from_the_answers_it_had_and_uses_no_network(
    model_folder: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = [
        "evaluate",
        str(model_folder),
        "--tasks",
        "arc_easy",
        "--data",
        str(data),
        "--prompting",
        "plain",
    ]
    words += ["--device", "cpu", "--output", str(out), "--json"]
    killed = in_process(words, tmp_path, die_in_block=3)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not out.exists()
    whole = in_process(words, tmp_path)
    assert whole.returncode == 0, whole.stderr
    assert "computed 16" in whole.stderr  # of 24 requests: two blocks of four were kept
    found = json.loads(whole.stdout.strip().splitlines()[-1])["benchmarks"]["arc_easy"]
    fresh = parakit.evaluate(
        model_folder, tasks=["arc_easy"], data=str(data), prompting="plain", device="cpu"
    )
    assert json.loads(json.dumps(fresh["benchmarks"]["arc_easy"])) == found


def test_tasks_use_no_network(model_folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where a data set is absent."""
    import huggingface_hub.constants

    used: list[Any] = []

    def refuse(*args: Any, **_: Any) -> Any:
        used.append(args)
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)  # as outside of these tests
    monkeypatch.delenv("HF_HUB_OFFLINE")
    for place, name in (
        (socket.socket, "connect"),
        (socket, "getaddrinfo"),
        (socket, "create_connection"),
    ):
        monkeypatch.setattr(place, name, refuse)
    settings: dict[str, Any] = {"data": str(data), "prompting": "plain", "device": "cpu"}
    found = parakit.evaluate(model_folder, tasks=["arc_easy", "mmlu_anatomy", "bias"], limit=2, **settings)
    assert set(found["benchmarks"]) == {"arc_easy", "mmlu_anatomy", "bias"}
    with pytest.raises(UserError, match="neither in --data nor in the cache"):
        parakit.evaluate(model_folder, tasks=["openbookqa"], **settings)
    assert not used


def test_only_tasks_of_the_harness_import_it(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("Anna sees the bird. " * 20)
    code = (
        "import sys\nfrom parakit.cli.main import main\n"
        f"main(['evaluate', {str(model_folder)!r}, '--text', {str(tmp_path / 'text.txt')!r}, '--tasks', 'bias',"
        " '--limit', '4', '--device', 'cpu', '--prompting', 'plain'])\n"
        "print({'lm_eval', 'datasets', 'huggingface_hub'} & sys.modules.keys(), file=sys.stderr)\n"
    )
    done = in_process([], tmp_path, code=code)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().endswith("set()")
