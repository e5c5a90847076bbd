"""`parakit serve`: what it refuses before it listens, and one whole run of the process with its log and its end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

import httpx

from parakit.cli.main import main
from parakit.common.errors import UserError
from parakit.serving.config import ServeConfig
from parakit.serving.server import bind_socket


def test_a_port_in_use_is_refused_before_a_model_is_loaded(published_decoder: Path, capsys) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", str(published_decoder), "--port", str(port)]) == 2
    assert f"port {port} of 127.0.0.1 is in use" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no such model folder"),
        (["."], "not a model folder"),
        (["MODEL", "--host", "192.0.2.7"], "there is no API key"),
        (["MODEL", "--port", "70000"], "--port"),
        (["MODEL", "--adapters", "nowhere"], "no such model folder"),
        (["MODEL", "--prompts", "nowhere.yaml"], "nowhere.yaml: no such prompt"),
        (["MODEL", "--shutdown-seconds", "nan"], "--shutdown-seconds"),
    ],
)
def test_what_cannot_be_served_is_refused(
    published_decoder: Path, arguments: list[str], message: str, capsys
) -> None:
    words = [str(published_decoder) if word == "MODEL" else word for word in arguments]
    assert main(["serve", *words]) == 2
    assert message in capsys.readouterr().err


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(UserError, match="name an address of this machine"):
        bind_socket(ServeConfig(host="192.0.2.7"))


def test_an_index_that_is_none_leaves_no_socket_open(published_decoder: Path, monkeypatch, capsys) -> None:
    opened: list[socket.socket] = []

    def bind(config: ServeConfig) -> socket.socket:
        opened.append(bind_socket(config))
        return opened[-1]

    monkeypatch.setattr("parakit.serving.server.bind_socket", bind)
    assert main(["serve", str(published_decoder), "--documents", "nowhere", "--port", "0"]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert [one.fileno() for one in opened] == [-1]


@pytest.mark.long
def test_a_process_serves_and_ends_cleanly(published_decoder: Path) -> None:
    """The short suite's sibling is tests/serving/test_serving_disconnect.py, in one process."""
    command = [
        sys.executable,
        "-m",
        "parakit",
        "serve",
        f"tiny={published_decoder}",
        "--port",
        "0",
        "--no-studio",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stderr is not None
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"at (http://\S+)/v1", line):
                break
        body = {"model": "tiny", "messages": [{"role": "user", "content": "a secret"}], "max_tokens": 3}
        answer = httpx.post(f"{found[1]}/v1/chat/completions", json=body, timeout=30)  # type: ignore[index]
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(20) == 0
    log = [json.loads(line) for line in (*lines, *rest.splitlines()) if line.startswith("{")]
    assert "secret" not in rest
    [generation] = [one for one in log if one["message"].startswith("generation")]
    assert generation["request_id"] == answer.headers["x-request-id"]
    usage = answer.json()["usage"]
    assert [generation[name] for name in ("prompt_tokens", "completion_tokens")] == [
        usage["prompt_tokens"],
        usage["completion_tokens"],
    ]
