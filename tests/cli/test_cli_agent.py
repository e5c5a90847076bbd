"""`parakit agent` on an endpoint: calls and results are exchanged in OpenAI's form, what may change something is refused
without a terminal, and the run is kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parakit.cli.main import main
from tests.alignment.chat_server import chat_server

FUNCTIONS = '''
def send(text: str) -> str:
    """Send a letter."""
    open("sent.txt", "w").write(text)
    return "sent"
'''


def _turn(name: str, arguments: str) -> dict[str, Any]:
    call = {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _run(
    turns: list[dict[str, Any]], flags: list[str], capsys: pytest.CaptureFixture[str]
) -> tuple[int, dict[str, Any], list[dict[str, Any]]]:
    """The exit status, what is printed, and the bodies of the requests."""
    bodies: list[dict[str, Any]] = []

    def answer(path: str, body: dict[str, Any], _: object) -> tuple[int, Any]:
        if path.endswith("/models"):
            return 200, {"data": [{"id": "m"}]}
        bodies.append(body)
        return 200, {"choices": [{"message": turns[len(bodies) - 1], "finish_reason": "stop"}]}

    with chat_server(answer) as url:
        status = main(["agent", url, "What is 12 * 34?", "--json", *flags])
    return status, json.loads(capsys.readouterr().out), bodies


def test_calls_and_results_are_exchanged_and_the_run_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    turns = [
        _turn("calculator", '{"expression": "12 * 34"}'),
        _turn("calculator", "not json"),
        {"role": "assistant", "content": "It is 408."},
    ]
    status, printed, bodies = _run(turns, ["--tools", "calculator", "date"], capsys)
    assert status == 0
    assert (printed["answer"], printed["outcome"], printed["n_steps"]) == ("It is 408.", "answered", 3)
    assert printed["calls"][0]["result"] == "408"
    assert printed["calls"][1]["is_error"]
    assert [one["function"]["name"] for one in bodies[0]["tools"]] == ["calculator", "date"]
    assert bodies[1]["messages"][-2:] == [
        {"role": "assistant", "content": "", "tool_calls": turns[0]["tool_calls"]},
        {"role": "tool", "content": "408", "tool_call_id": "c1"},
    ]
    assert Path(printed["transcript"]).is_file()
    assert len((tmp_path / "agent-runs" / "conversations.jsonl").read_text().splitlines()) == 1


def test_without_a_terminal_nothing_is_changed_unless_it_was_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("letters.py").write_text(FUNCTIONS)
    turns = [_turn("send", '{"text": "hello"}'), {"role": "assistant", "content": "done"}]
    _, printed, _ = _run(turns, ["--tools", "letters.py"], capsys)
    assert (printed["n_calls"], printed["n_refused_calls"]) == (0, 1)
    assert not Path("sent.txt").exists()
    _, printed, _ = _run(turns, ["--tools", "letters.py", "--allow", "send"], capsys)
    assert (printed["n_calls"], printed["calls"][0]["result"]) == (1, "sent")
    assert Path("sent.txt").read_text() == "hello"


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--tools", "calculater"], "did you mean calculator"),
        (["--tools", "calculator", "calculator"], "two tools have the name 'calculator'"),
        (["--tools", "nothing.py"], "no such file"),
        (["--tools", "read_file=nowhere"], "is no folder"),
        (["--tools", "date", "--allow", "dates"], "did you mean date"),
    ],
)
def test_tools_that_are_none_are_refused(
    flags: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["agent", "http://127.0.0.1:9/v1", "a", *flags]) == 2
    assert reason in capsys.readouterr().err
